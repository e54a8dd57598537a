"""Lookups in an online table, from any process."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import NotFound, SchemaMismatch
from mainspring.formats.frame import frames
from mainspring.formats.push import Generation, Push, current, decode_push
from mainspring.formats.snapshot import Snapshot

_CACHED_ENTITIES = 65_536
_NAN = np.array([np.nan], "<f8").tobytes()


_Found = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


class _Series:
    """One entity's values, ordered by time and then arrival; rows are packed float64."""

    __slots__ = ("arrivals", "rows", "times")

    def __init__(self, times: list[int], arrivals: list[int], rows: list[bytes]) -> None:
        self.times, self.arrivals, self.rows = times, arrivals, rows

    def put(self, time: int, arrival: int, row: bytes) -> None:
        at = bisect_right(self.times, time)
        while at and self.times[at - 1] == time and self.arrivals[at - 1] > arrival:
            at -= 1
        self.times.insert(at, time)
        self.arrivals.insert(at, arrival)
        self.rows.insert(at, row)

    def last(self, at: int) -> int:
        """Find the last value at or before an instant that had arrived by then; -1 if none."""
        i = bisect_right(self.times, at) - 1
        arrivals = self.arrivals
        while i >= 0 and arrivals[i] > at:
            i -= 1
        return i


class _View:
    """One generation as a reader holds it."""

    def __init__(
        self, folder: Path, generation: Generation, wanted: tuple[str, ...] | None
    ) -> None:
        self.order = _order(folder, generation.features, wanted)
        self.snapshot = Snapshot.open(generation.snapshot(folder))
        self.delta = os.open(generation.delta(folder), os.O_RDONLY | os.O_NOFOLLOW)
        self.read_to = 0
        self.seen_size = 0
        self.width = len(generation.features)
        self.nothing = _NAN * self.width
        self.series: dict[str, _Series] = {}
        self.pushed: dict[str, list[tuple[int, int, bytes]]] = {}

    def catch_up(self) -> None:
        size = os.fstat(self.delta).st_size
        if size == self.seen_size:
            return
        content = os.pread(self.delta, size - self.read_to, self.read_to)
        end = 0
        for payload, behind in frames(content):
            self._take(decode_push(payload))
            end = behind
        self.read_to += end
        # A torn tail is looked at again only once the file changes its size.
        self.seen_size = size

    def _take(self, push: Push) -> None:
        step = self.width * 8
        times = np.frombuffer(push.times, "<i8").tolist()
        arrivals = np.frombuffer(push.arrivals, "<i8").tolist()
        for i, entity in enumerate(push.entities):
            row = (times[i], arrivals[i], push.values[i * step : i * step + step])
            self.pushed.setdefault(entity, []).append(row)
            if (series := self.series.get(entity)) is not None:
                series.put(*row)

    def of(self, entity: str) -> _Series:
        series = self.series.get(entity)
        if series is None:
            if len(self.series) >= _CACHED_ENTITIES:
                self.series.clear()
            series = _Series(*self.snapshot.series(entity))
            for row in self.pushed.get(entity, ()):
                series.put(*row)
            self.series[entity] = series
        return series

    def __del__(self) -> None:
        if hasattr(self, "delta"):
            os.close(self.delta)


class OnlineReader:
    """Looks values up; sees each push as soon as it is written. Thread-safe.

    Values come in the order of `features`, or in the table's own. A call sees one state of the
    table. A generation stays readable to whoever is in it even
    after its files are gone from the folder.
    """

    def __init__(self, folder: Path, features: Sequence[str] | None = None) -> None:
        self._folder = folder
        self._current = os.fspath(folder / "current")
        self._wanted = None if features is None else tuple(features)
        self._lock = Lock()
        self._seen: tuple[int, int] | None = None
        self._view: _View | None = None
        self._generation: Generation | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the values' columns; NotFound if the table does not exist yet."""
        with self._lock:
            self._refresh()
            if self._generation is None:
                raise NotFound(f"online table {self._folder.name!r}: nothing was pushed yet")
            return self._generation.features

    def lookup(self, entities: Sequence[str], at_us: Sequence[int]) -> _Found:
        """Give for each row the last value at or before its instant that had arrived by then.

        Returns:
            Values of shape (rows, features) with NaN for missing; the values' event times and
            their arrivals, -1 where there is no value.

        Raises:
            NotFound: The table does not exist yet.
            SchemaMismatch: It lacks a feature that was asked for.
        """
        values, times, arrivals = self.find(entities, at_us)
        return values, np.array(times, np.int64), np.array(arrivals, np.int64)

    def find(
        self, entities: Sequence[str], at_us: Sequence[int]
    ) -> tuple[NDArray[np.float64], list[int], list[int]]:
        """Look up as `lookup` does, with the times as lists: for few rows that is cheaper."""
        times, arrivals, rows = [], [], []
        with self._lock:
            view = self._refresh()
            if view is None:
                raise NotFound(f"online table {self._folder.name!r}: nothing was pushed yet")
            known, nothing = view.series, view.nothing
            for entity, at in zip(entities, at_us, strict=True):
                series = known.get(entity) or view.of(entity)
                i = series.last(at)
                if i >= 0:
                    times.append(series.times[i])
                    arrivals.append(series.arrivals[i])
                    rows.append(series.rows[i])
                else:
                    times.append(-1)
                    arrivals.append(-1)
                    rows.append(nothing)
        values = np.frombuffer(b"".join(rows), "<f8").reshape(len(rows), view.width)
        return values if view.order is None else values[:, view.order], times, arrivals

    def _refresh(self) -> _View | None:
        while True:
            try:
                stat = os.stat(self._current)
            except FileNotFoundError:
                self._view, self._generation, self._seen = None, None, None
                return None
            if self._view is None or (stat.st_ino, stat.st_mtime_ns) != self._seen:
                generation = current(self._folder)
                if generation is None:
                    continue
                try:
                    self._view = _View(self._folder, generation, self._wanted)
                except FileNotFoundError:
                    # The next generation took over between the two opens, or it is missing.
                    if current(self._folder) == generation:
                        raise
                    continue
                self._generation = generation
                self._seen = (stat.st_ino, stat.st_mtime_ns)
            self._view.catch_up()
            return self._view


def _order(
    folder: Path, features: tuple[str, ...], wanted: tuple[str, ...] | None
) -> list[int] | None:
    if wanted is None or wanted == features:
        return None
    lacking = [name for name in wanted if name not in features]
    if lacking:
        raise SchemaMismatch(
            f"online table {folder.name!r}: found {', '.join(features)}, expected also "
            f"{', '.join(lacking)}; push the view as it is declared now"
        )
    return [features.index(name) for name in wanted]
