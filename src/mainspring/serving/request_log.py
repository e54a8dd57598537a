"""The worker's side of the request log: blocks into segments, and the count of what is missing."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock

from mainspring.core.clock import Clock
from mainspring.core.ids import IdSource
from mainspring.formats.segment import SegmentWriter

MakeBlock = Callable[[int, int], bytes]
"""Makes an encoded block from the rows missing and the rows not sampled before it."""

MakeBlocks = Callable[[int, int, int, int], list[bytes]]
"""Makes the encoded blocks of some answers, from the first to before the last, and these counts."""


class RequestLog:
    """Writes blocks before their answers are sent. Thread-safe.

    A full disk stops no answer: rows it refuses are counted, and the next block that fits says
    how many. A segment is opened by the first block, and anew after a failed
    fsync or when it has become large.
    """

    def __init__(
        self,
        folder: Path,
        *,
        worker: str,
        clock: Clock,
        ids: IdSource,
        sync_s: float,
        segment_bytes: int = 64 << 20,
    ) -> None:
        self._folder = folder
        self._worker = worker
        self._clock = clock
        self._ids = ids
        self._sync_s = sync_s
        self._segment_bytes = segment_bytes
        self._synced_s = clock.monotonic_s()
        self._lock = Lock()
        self._writer: SegmentWriter | None = None
        self._missing = 0
        self._sampled = 0
        self._unsynced = False
        self.left_out = 0
        """Rows that the disk refused, in all."""
        self.problem: str | None = None
        """Why the newest refused block was refused; None once one fits again."""

    @property
    def missing(self) -> int:
        """Rows answered that no block has carried or counted yet."""
        return self._missing

    @property
    def path(self) -> Path | None:
        """The segment being written."""
        return None if self._writer is None else self._writer.path

    def append(self, rows: int, make: MakeBlock) -> None:
        """Write the block of an answer with this many rows, or count them."""
        self.append_all(((rows, make),))

    def append_all(self, blocks: Sequence[tuple[int, MakeBlock | None]]) -> None:
        """Write blocks in one write; what the disk refuses is counted.

        Args:
            blocks: The rows of each and how it is made; None: not in the sample, only counted.
        """
        with self._lock:
            try:
                self._write(blocks)
            except OSError as error:
                if len(blocks) > 1:
                    # Some of them may fit.
                    for block in blocks:
                        self._write_one(block)
                else:
                    self._count_missing(blocks[0][0], error)

    def append_together(self, count: int, make: MakeBlocks) -> None:
        """Write the blocks of answers of one row each in one write, as `append_all` does."""
        with self._lock:
            try:
                self._append(make(0, count, self._missing, self._sampled))
            except OSError:
                # Some of them may fit.
                for i in range(count):
                    self._write_one((1, partial(_alone, make, i)))

    def _write_one(self, block: tuple[int, MakeBlock | None]) -> None:
        try:
            self._write((block,))
        except OSError as error:
            self._count_missing(block[0], error)

    def _count_missing(self, rows: int, error: OSError) -> None:
        self._missing += rows
        self.left_out += rows
        self.problem = f"request log: {error.strerror or error}"

    def _write(self, blocks: Sequence[tuple[int, MakeBlock | None]]) -> None:
        missing, sampled = self._missing, self._sampled
        encoded = []
        for rows, make in blocks:
            if make is None:
                sampled += rows
            else:
                encoded.append(make(missing, sampled))
                missing = sampled = 0
        if encoded:
            self._append(encoded)
        self._missing, self._sampled = missing, sampled

    def _append(self, encoded: Sequence[bytes]) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder, worker=self._worker, segment=self._ids.new())
        self._writer.append_all(encoded)
        self._unsynced = True
        self.problem = None
        self._missing = self._sampled = 0
        self._sync_if_due()
        if self._writer is not None and self._writer.size_bytes >= self._segment_bytes:
            self._sync()
            self._end()

    def sync(self) -> None:
        """Make what was written survive power loss, if that is wanted; for the idle's timer."""
        with self._lock:
            if self._sync_s >= 0:
                self._sync()

    def close(self) -> None:
        """Sync and end the segment."""
        with self._lock:
            self._sync()
            self._end()

    def _sync_if_due(self) -> None:
        if self._sync_s < 0:
            return
        now = self._clock.monotonic_s()
        if now - self._synced_s >= self._sync_s:
            self._synced_s = now
            self._sync()

    def _sync(self) -> None:
        if self._writer is None or not self._unsynced:
            return
        self._unsynced = False
        try:
            self._writer.sync()
        except OSError as error:
            # The kernel may have dropped the pages: going on in this file would hide the hole.
            self.problem = f"request log: {error.strerror or error}"
            self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None


def _alone(make: MakeBlocks, i: int, missing: int, sampled: int) -> bytes:
    return make(i, i + 1, missing, sampled)[0]
