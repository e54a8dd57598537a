"""The features of rows that this process moved, kept until their window is read."""

from collections import deque
from dataclasses import dataclass
from threading import Lock

import polars as pl

from mainspring.monitoring.drift import FEATURE, ORDER
from mainspring.monitoring.rows import Rows

_ROWS_AT_MOST = 100_000


@dataclass(frozen=True, slots=True)
class _Part:
    endpoint: str
    frame: pl.DataFrame
    newest_us: int


class RecentRows:
    """Spares the reading of a window the way through Delta, whose log grows with its history.

    Nothing rests on it: whoever asks compares the number of rows with the database's, and takes
    them from Delta when some came another way. Thread-safe; the oldest rows go first.
    """

    def __init__(self, at_most: int = _ROWS_AT_MOST) -> None:
        self._at_most = at_most
        self._lock = Lock()
        self._parts: deque[_Part] = deque()
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Keep the features of rows that were answered."""
        if not rows.answered:
            return
        frame = rows.frame
        wanted = [*ORDER, *(name for name in frame.columns if name.startswith(FEATURE))]
        part = _Part(rows.endpoint, frame.select(wanted), max(rows.predictions["event_time_us"]))
        with self._lock:
            self._parts.append(part)
            self._rows += frame.height
            while self._rows > self._at_most:
                self._rows -= self._parts.popleft().frame.height

    def window(self, endpoint: str, start_us: int, end_us: int) -> pl.DataFrame | None:
        """Give the rows with event time in [start, end) that are here; None for none."""
        with self._lock:
            frames = [part.frame for part in self._parts if part.endpoint == endpoint]
        inside = pl.col("event_time_us").is_between(start_us, end_us, closed="left")
        found = [mine for frame in frames if (mine := frame.filter(inside)).height]
        return pl.concat(found, how="diagonal_relaxed") if found else None

    def forget(self, endpoint: str, before_us: int) -> None:
        """Let go of an endpoint's rows from before an instant."""
        with self._lock:
            self._parts = deque(
                part
                for part in self._parts
                if part.endpoint != endpoint or part.newest_us >= before_us
            )
            self._rows = sum(part.frame.height for part in self._parts)
