"""The online table of a feature view: the last 48 h of values per entity, for lookups by time.

A folder holds a generation: an immutable, memory-mapped snapshot and a delta file of pushes
behind it. `current` names the generation; replacing that file is the switch, so that a reader is
in one generation or the other. When the delta outgrows the snapshot, the writer makes the next.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import Corrupt, InvalidInput
from mainspring.formats.durable import replace_file, sync_folder, write_file
from mainspring.formats.frame import FrameFile, damaged_inside, frames
from mainspring.formats.online_reader import OnlineReader
from mainspring.formats.push import Generation, Push, current, decode_push, encode_push
from mainspring.formats.snapshot import Rows, Snapshot, write_snapshot

__all__ = ["RETENTION_US", "OnlineReader", "OnlineWriter"]

RETENTION_US = 48 * 3600 * 1_000_000
_SMALLEST_DELTA_BYTES = 1 << 20


class OnlineWriter:
    """The one writer of a view's online table; a process that takes over simply opens it.

    Opening cuts off the torn tail that a killed writer leaves. A push is one frame: its rows, its
    token and its state come into force together or not at all. Not thread-safe.
    """

    def __init__(self, folder: Path, features: Sequence[str]) -> None:
        if not features or len(set(features)) < len(features):
            raise InvalidInput(
                f"online table {folder.name!r}: found features {list(features)}, expected at "
                "least one, each once"
            )
        self._folder = folder
        self._features = tuple(features)
        folder.mkdir(parents=True, exist_ok=True)
        generation = current(folder)
        if generation is None or generation.features != self._features:
            # Other features are another view: its values cannot stand in for these.
            number = 0 if generation is None else generation.number
            self._begin(Rows.none(len(features)), number + 1, token=None, state=None)
        else:
            self._resume(generation)

    @property
    def token(self) -> str | None:
        """Token of the last push that is in the table."""
        return self._token

    @property
    def state(self) -> bytes | None:
        """State given with the last push that gave one."""
        return self._state

    def write(
        self,
        entities: Sequence[str],
        times_us: NDArray[np.int64],
        arrivals_us: NDArray[np.int64],
        values: NDArray[np.float64],
        *,
        token: str | None = None,
        state: bytes | None = None,
        durable: bool = True,
    ) -> None:
        """Push rows: values of shape (rows, features) with NaN for missing, rows in any order.

        Args:
            entities: Per row.
            times_us: Event time or tick, microseconds of UTC since 1970.
            arrivals_us: When the value became known; a lookup before it does not see it.
            values: Of the features in the writer's order.
            token: Replaces the token; None leaves it.
            state: Replaces the state; None leaves it.
            durable: Whether to fsync before returning. Without it the push survives the death
                of the process, not power loss.

        Raises:
            InvalidInput: The lengths disagree.
            OSError: The disk refused. If the write failed, the table is as before; if the fsync
                failed, opening the table again shows by its token whether the push is in it.
        """
        rows = Rows(
            list(entities),
            np.ascontiguousarray(times_us, "<i8"),
            np.ascontiguousarray(arrivals_us, "<i8"),
            np.ascontiguousarray(values, "<f8"),
        )
        count, width = len(rows.entities), len(self._features)
        if (len(rows.times), len(rows.arrivals), rows.values.shape) != (
            *(count, count),
            (count, width),
        ):
            raise InvalidInput(
                f"online table {self._folder.name!r}: found {count} entities, {len(rows.times)} "
                f"times, {len(rows.arrivals)} arrivals and values of shape {rows.values.shape}; "
                f"expected one of each per row and values of shape ({count}, {width})"
            )
        push = Push(
            rows.entities,
            rows.times.tobytes(),
            rows.arrivals.tobytes(),
            rows.values.tobytes(),
            token,
            state,
        )
        self._file.append(encode_push(push))
        self._took(push)
        if durable:
            self._file.sync()
        if self._file.end > max(_SMALLEST_DELTA_BYTES, self._snapshot.size_bytes):
            # The push is in; a rewrite that found no room is tried again by the next one.
            with suppress(OSError):
                self.rewrite()

    def write_state(self, state: bytes, *, token: str | None = None, durable: bool = True) -> None:
        """Replace the state, and the token if given, without pushing a row."""
        none = Rows.none(len(self._features))
        self.write(
            [], none.times, none.arrivals, none.values, token=token, state=state, durable=durable
        )

    def sync(self) -> None:
        """Make every push so far survive power loss."""
        self._file.sync()

    def rewrite(self) -> None:
        """Begin the next generation: forget what is older than 48 h before the newest time.

        Of what is older, the value an entity had at that moment stays, so that a view without a
        TTL always has one.
        """
        pushed = [push.rows(len(self._features)) for push in self._pushes]
        rows = Rows.joined([self._snapshot.rows(), *pushed]).kept(RETENTION_US)
        before, number = self._file, self._number
        self._begin(rows, number + 1, token=self._token, state=self._state)
        before.close()
        _remove_generation(self._folder, number)

    def close(self) -> None:
        """Close without syncing; again is allowed."""
        self._file.close()

    def _resume(self, generation: Generation) -> None:
        self._number = generation.number
        self._snapshot = Snapshot.open(generation.snapshot(self._folder))
        self._token, self._state = self._snapshot.token, self._snapshot.state
        self._pushes: list[Push] = []
        path = generation.delta(self._folder)
        content, end = path.read_bytes(), 0
        for payload, behind in frames(content):
            self._took(decode_push(payload))
            end = behind
        if damaged_inside(content, end):
            raise Corrupt(
                f"online table {self._folder.name!r}: the push at {end} of {path.name} is "
                "altered and pushes follow it; remove the folder and push the rows again"
            )
        descriptor = _open_delta(path)
        if end < len(content):
            os.ftruncate(descriptor, end)
            os.fsync(descriptor)
        self._file = FrameFile(descriptor, end)
        for stray in self._folder.glob("*.*"):
            if stray.stem.isdigit() and int(stray.stem) != self._number:
                stray.unlink(missing_ok=True)

    def _begin(self, rows: Rows, number: int, *, token: str | None, state: bytes | None) -> None:
        generation = Generation(number, self._features)
        _remove_generation(self._folder, number)
        write_snapshot(generation.snapshot(self._folder), rows, token=token, state=state)
        write_file(generation.delta(self._folder), b"")
        sync_folder(self._folder)
        replace_file(self._folder / "current", msgspec.json.encode(generation))
        self._number, self._pushes = number, []
        self._token, self._state = token, state
        self._snapshot = Snapshot.open(generation.snapshot(self._folder))
        self._file = FrameFile(_open_delta(generation.delta(self._folder)), 0)

    def _took(self, push: Push) -> None:
        self._pushes.append(push)
        self._token = self._token if push.token is None else push.token
        self._state = self._state if push.state is None else push.state


def _open_delta(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)


def _remove_generation(folder: Path, number: int) -> None:
    generation = Generation(number, ())
    generation.snapshot(folder).unlink(missing_ok=True)
    generation.delta(folder).unlink(missing_ok=True)
