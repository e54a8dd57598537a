"""The worker's side of the request log: blocks into segments, and the count of what is missing."""

from collections.abc import Callable
from pathlib import Path
from threading import Lock

from mainspring.core.clock import Clock
from mainspring.core.ids import IdSource
from mainspring.formats.segment import Block, SegmentWriter

MakeBlock = Callable[[int, int], Block]
"""Makes a block from the rows missing and the rows not sampled before it."""


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
        with self._lock:
            try:
                if self._writer is None:
                    self._writer = SegmentWriter(
                        self._folder, worker=self._worker, segment=self._ids.new()
                    )
                self._writer.append(make(self._missing, self._sampled))
            except OSError as error:
                self._missing += rows
                self.left_out += rows
                self.problem = f"request log: {error.strerror or error}"
                return
            self._missing = self._sampled = 0
            self._unsynced = True
            self.problem = None
            self._sync_if_due()
            if self._writer.size_bytes >= self._segment_bytes:
                self._sync()
                self._end()

    def leave_out(self, rows: int) -> None:
        """Count rows that are not in the sample."""
        with self._lock:
            self._sampled += rows

    def sync(self) -> None:
        """Make what was written survive power loss; for the idle worker's timer."""
        with self._lock:
            self._sync()

    def close(self) -> None:
        """Sync and end the segment."""
        with self._lock:
            self._sync()
            self._end()

    def _sync_if_due(self) -> None:
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
