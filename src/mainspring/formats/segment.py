"""The request log: one append-only file of blocks per worker start.

A block is one answered request of n rows, written before its answer is sent. Blocks are frames
(`formats/frame.py`) of MessagePack arrays: fields are only ever appended, with a default.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import Corrupt, InvalidInput, NotFound
from mainspring.core.ids import Id, checked_name
from mainspring.formats.durable import sync_folder
from mainspring.formats.frame import FrameFile, frames

_SUFFIX = ".segment"


class ArmOutput(msgspec.Struct, frozen=True, array_like=True):
    """What one arm gave for the rows of a block."""

    values: bytes
    """float64 little-endian, one per row; NaN where the row failed or was not scored."""
    failed: list[int]
    """Rows that raised, came out non-finite or ill-shaped, or came too late."""
    error: str | None
    """The first failure's reason."""
    latency_us: int
    timed_out: bool = False

    def array(self) -> NDArray[np.float64]:
        """Give the outputs per row."""
        return np.frombuffer(self.values, "<f8")


class ViewUse(msgspec.Struct, frozen=True, array_like=True):
    """Which online values a block's rows used, per row; -1 where there was none or it was stale."""

    times_us: list[int]
    arrivals_us: list[int]


class Block(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One answered request of n rows. Times are microseconds of UTC since 1970.

    A block of kind `shadow` follows the answer of the same prediction id: it has no rows of its
    own (`keys` is empty) and carries only what the shadows gave for the rows of that answer.
    """

    prediction: Id
    """Row i is the prediction `<prediction>:<i>`."""
    request: str | None
    """The client's id of its request."""
    at_us: int
    """Wall time."""
    project: str
    endpoint: str
    routes: int
    """Number of the route table that answered."""
    rollout: Id | None
    keys: list[str]
    event_times_us: list[int]
    float_names: list[str]
    floats: bytes
    """float64 little-endian, column after column in the order of `float_names`; NaN = missing."""
    strings: dict[str, list[str]]
    views: dict[str, ViewUse]
    chosen: list[str]
    """Version that the key chose."""
    arms: list[str]
    """Role of the version that answered; empty where none could."""
    versions: list[str]
    """Version that answered; empty where none could."""
    propensity: list[float]
    """Share of the chosen arm."""
    outputs: dict[str, ArmOutput]
    """By version: of every arm that scored."""
    queue_us: int
    features_us: int
    compute_us: int
    missing_before: int
    """Rows answered but not logged since the block before: the disk refused them."""
    sampled_before: int
    """Rows answered but not logged since the block before: not in the sample."""
    kind: Literal["answer", "shadow"] = "answer"
    asked: bytes = b""
    """Digest of what was asked under `request`, to tell a repeat from another use of the id."""

    @property
    def columns(self) -> dict[str, NDArray[np.float64] | list[str]]:
        """The feature vectors actually used, column by column."""
        rows = len(self.keys)
        table = np.frombuffer(self.floats, "<f8").reshape(len(self.float_names), rows)
        return {**dict(zip(self.float_names, table, strict=True)), **self.strings}

    @property
    def fallback(self) -> list[bool]:
        """Whether another version answered than the key chose, per row."""
        return [a != c for a, c in zip(self.versions, self.chosen, strict=True)]


class SegmentFile(msgspec.Struct, frozen=True):
    """A segment in a folder."""

    path: Path
    worker: str
    segment: Id


class SegmentWriter:
    """Writes one worker's segment. One thread at a time.

    `append` has handed the block to the system in one write when it returns, so an acknowledged
    block survives the death of the worker; `sync` makes it survive power loss.
    """

    def __init__(self, folder: Path, *, worker: str, segment: Id) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.segment = segment
        self.path = folder / f"{checked_name(worker, what='worker')}+{segment}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o644)
        sync_folder(folder)
        self._file = FrameFile(descriptor, 0)

    @property
    def size_bytes(self) -> int:
        """How much was written."""
        return self._file.end

    def append(self, block: Block) -> int:
        """Write a block.

        Returns:
            The offset at which it begins.

        Raises:
            OSError: The disk refused it; the segment ends as before.
        """
        return self._file.append(encode_block(block))

    def append_all(self, blocks: Iterable[bytes]) -> int:
        """Write encoded blocks in one write: all or none; returns and raises as `append`."""
        return self._file.append_all(blocks)

    def sync(self) -> None:
        """Fsync what was appended. After an OSError this segment takes nothing more."""
        self._file.sync()

    def abandon(self) -> None:
        """Close without syncing; again is allowed."""
        self._file.close()

    def close(self) -> None:
        """Sync and close."""
        try:
            self._file.sync()
        finally:
            self._file.close()


def segments(folder: Path) -> list[SegmentFile]:
    """List the segments of a folder, oldest first."""
    found = []
    for path in folder.glob(f"*{_SUFFIX}"):
        worker = path.name.rpartition("+")[0]
        found.append(SegmentFile(path, worker, segment_of(path.name)))
    return sorted(found, key=lambda file: (file.segment, file.worker))


def segment_of(name: str) -> Id:
    """Read a segment's id from the name of its file."""
    return Id(name.removesuffix(_SUFFIX).rpartition("+")[2])


def read_blocks(path: Path, start: int = 0) -> tuple[list[Block], int, bool]:
    """Read the whole blocks from an offset on, also while the segment is being written.

    Returns:
        The blocks, the offset behind the last, and whether bytes follow that are no whole block
        (a write under way, or the torn tail of a worker that died).

    Raises:
        NotFound: There is no such segment.
        InvalidInput: The segment ends before `start`.
        Corrupt: A block with the right CRC does not decode: another format wrote it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < start:
                raise InvalidInput(f"segment {path.name}: ends at {size}, cannot read at {start}")
            file.seek(start)
            content = file.read()
    except FileNotFoundError as error:
        raise NotFound(f"segment {path.name}: no such file") from error
    blocks, end = [], 0
    for payload, behind in frames(content):
        try:
            blocks.append(decode_block(payload))
        except msgspec.MsgspecError as error:
            raise Corrupt(
                f"segment {path.name}: the block at {start + end} is not readable ({error}); "
                "read it with the version of mainspring that wrote it"
            ) from error
        end = behind
    return blocks, start + end, end < len(content)


encode_block = msgspec.msgpack.Encoder().encode
decode_block = msgspec.msgpack.Decoder(Block).decode
