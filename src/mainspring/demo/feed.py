"""Rows in the order in which they become known, and the hours and days cut out of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """One table and, for each of its rows, when it becomes known.

    The times stand beside the table and not in it, because a broken row may lack its own.

    Attributes:
        rows: Sorted by `known_us`.
        known_us: Microseconds since 1970 UTC, shape (rows,), never decreasing.
    """

    rows: pl.DataFrame
    known_us: Times

    @classmethod
    def sorted_by(cls, rows: pl.DataFrame, known: str) -> "Feed":
        """Order a table by one of its own UTC columns; ties keep their order."""
        ordered = rows.sort(known, maintain_order=True)
        return cls(ordered, ordered[known].dt.epoch("us").to_numpy().astype(np.int64))

    def between(self, start: datetime | None, end: datetime) -> pl.DataFrame:
        """Give the rows that become known after `start` and at or before `end`.

        Costs two binary searches and no copy. Consecutive cuts share no row and miss none.
        """
        low = 0 if start is None else self._position(start)
        return self.rows.slice(low, self._position(end) - low)

    def _position(self, instant: datetime) -> int:
        return int(np.searchsorted(self.known_us, _epoch_us(instant), side="right"))

    def insert(self, rows: pl.DataFrame, known_us: Times) -> "Feed":
        """Add rows at their times, behind the rows already known at the same time."""
        times = np.concatenate([self.known_us, known_us])
        order = np.argsort(times, kind="stable")
        together = pl.concat([self.rows, rows.select(self.rows.columns)])
        return Feed(together[order], times[order])


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of event time, open at its start and closed at its end."""

    start: datetime
    end: datetime

    def hours(self) -> Iterator["Span"]:
        """Cut into hours; the last one may be shorter."""
        return self._cut(timedelta(hours=1))

    def days(self) -> Iterator["Span"]:
        """Cut into days of 24 hours; the last one may be shorter."""
        return self._cut(timedelta(days=1))

    def _cut(self, step: timedelta) -> Iterator["Span"]:
        start = self.start
        while start < self.end:
            end = min(start + step, self.end)
            yield Span(start, end)
            start = end


def _epoch_us(instant: datetime) -> int:
    return int((instant - _EPOCH) / timedelta(microseconds=1))


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
