"""The immutable half of an online table: rows sorted by entity, time, arrival, in one file.

Layout: one frame with the header, then the columns of the rows (times, arrivals, values), eight
bytes a number. The header has the CRC of what follows, so a half-copied file is not served.
"""

import mmap
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import Corrupt
from mainspring.formats.durable import write_file
from mainspring.formats.frame import framed, frames


@dataclass(frozen=True, slots=True)
class Rows:
    """Values of entities at times, in the order of their pushes."""

    entities: list[str]
    times: NDArray[np.int64]
    arrivals: NDArray[np.int64]
    values: NDArray[np.float64]
    """Shape (rows, features)."""

    @classmethod
    def none(cls, features: int) -> "Rows":
        """Give no rows."""
        empty = np.empty(0, np.int64)
        return cls([], empty, empty, np.empty((0, features)))

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """Put parts one behind the other; a later part is a later push."""
        return cls(
            [entity for part in parts for entity in part.entities],
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.arrivals for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def kept(self, retention_us: int) -> "Rows":
        """Sort by entity, time, arrival and push; forget what no lookup of the period reaches.

        A value before the period stays if it is what its entity had when the period began.
        """
        if not self.entities:
            return self
        codes = {entity: i for i, entity in enumerate(sorted(set(self.entities)))}
        code = np.fromiter((codes[e] for e in self.entities), np.int64, len(self.entities))
        order = np.lexsort((self.arrivals, self.times, code))
        cut = int(self.times.max()) - retention_us
        old = (self.times[order] < cut) & (self.arrivals[order] <= cut)
        sorted_code = code[order]
        # Old and followed by an old one of the same entity: no instant of the period sees it.
        hidden = np.zeros(len(order), bool)
        hidden[:-1] = old[:-1] & old[1:] & (sorted_code[:-1] == sorted_code[1:])
        keep = order[~hidden]
        return Rows(
            [self.entities[i] for i in keep],
            self.times[keep],
            self.arrivals[keep],
            self.values[keep],
        )


class _Header(msgspec.Struct, frozen=True, array_like=True):
    entities: list[str]
    """Sorted, each once."""
    starts: list[int]
    """First row of each entity, and the number of rows."""
    features: int
    crc: int
    token: str | None
    state: bytes | None


class Snapshot:
    """A memory-mapped snapshot."""

    def __init__(self, header: _Header, mapped: mmap.mmap, offset: int) -> None:
        rows, width = header.starts[-1], header.features
        self.token, self.state = header.token, header.state
        self.size_bytes = len(mapped)
        self._header = header
        self._times = np.frombuffer(mapped, "<i8", rows, offset)
        self._arrivals = np.frombuffer(mapped, "<i8", rows, offset + rows * 8)
        self._values = np.frombuffer(mapped, "<f8", rows * width, offset + rows * 16).reshape(
            rows, width
        )

    @classmethod
    def open(cls, path: Path) -> "Snapshot":
        """Map a snapshot and check it; Corrupt if it is not whole."""
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        whole = memoryview(mapped)
        found = next(iter(frames(whole)), None)
        if found is not None:
            header, offset = _decode(found[0]), found[1]
            body = whole[offset:]
            size = header.starts[-1] * 8 * (2 + header.features)
            if len(body) == size and zlib.crc32(body) == header.crc:
                return cls(header, mapped, offset)
        raise Corrupt(
            f"online table {path.parent.name!r}: {path.name} is cut off or altered; remove the "
            "folder and push the rows again"
        )

    def rows(self) -> Rows:
        """Give all rows."""
        starts = self._header.starts
        entities = [
            entity
            for i, entity in enumerate(self._header.entities)
            for _ in range(starts[i + 1] - starts[i])
        ]
        return Rows(entities, self._times, self._arrivals, self._values)

    def series(self, entity: str) -> tuple[list[int], list[int], list[bytes]]:
        """Give one entity's times, arrivals and packed values, in order."""
        entities, starts = self._header.entities, self._header.starts
        i = bisect_left(entities, entity)
        if i == len(entities) or entities[i] != entity:
            return [], [], []
        part = slice(starts[i], starts[i + 1])
        packed, step = self._values[part].tobytes(), self._header.features * 8
        return (
            self._times[part].tolist(),
            self._arrivals[part].tolist(),
            [packed[k : k + step] for k in range(0, len(packed), step)],
        )


def write_snapshot(path: Path, rows: Rows, *, token: str | None, state: bytes | None) -> None:
    """Write rows, already sorted by entity, durably to a new file."""
    entities: list[str] = []
    starts: list[int] = []
    for i, entity in enumerate(rows.entities):
        if not entities or entities[-1] != entity:
            entities.append(entity)
            starts.append(i)
    body = rows.times.tobytes() + rows.arrivals.tobytes() + rows.values.tobytes()
    header = _Header(
        entities,
        [*starts, len(rows.entities)],
        rows.values.shape[1],
        zlib.crc32(body),
        token,
        state,
    )
    write_file(path, framed(msgspec.msgpack.encode(header)) + body)


_decode = msgspec.msgpack.Decoder(_Header).decode
