"""A project's monitoring over a real database, with synthetic predictions."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from mainspring.core.clock import FrozenClock
from mainspring.core.home import Home
from mainspring.core.ids import Id, IdSource
from mainspring.monitoring import tables
from mainspring.monitoring.labels import Label
from mainspring.monitoring.monitoring import Monitoring
from mainspring.monitoring.recent import RecentRows
from mainspring.monitoring.spec import Guard, Monitor
from mainspring.monitoring.times import instant, micros
from mainspring.monitoring.watch import GuardedRollout, Profile, Watch
from mainspring.stats.calibration import CalibrationMap
from mainspring.store import chain
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables

START = datetime(2013, 4, 1, tzinfo=UTC)
ROLLOUT = Id("9" * 32)
Times = list[datetime]
Floats = NDArray[np.float64]


@dataclass
class Declared:
    """Plays the loop and the model folders: what is declared and open, what versions say."""

    current: Watch = field(default_factory=lambda: Watch(live="1", label_wait=timedelta(hours=12)))
    maps: dict[str, CalibrationMap] = field(default_factory=dict)
    reference: dict[str, Profile] = field(default_factory=dict)

    def watch(self, endpoint: str) -> Watch:
        assert endpoint == "delay"
        return self.current

    def calibration(self, endpoint: str, version: str) -> CalibrationMap | None:
        assert endpoint == "delay"
        return self.maps.get(version)

    def profiles(self, endpoint: str, version: str) -> Mapping[str, Profile]:
        assert endpoint == "delay"
        assert version
        return self.reference


@dataclass
class Bench:
    """A home with one endpoint, `delay`."""

    monitoring: Monitoring
    declared: Declared
    clock: FrozenClock

    def watch(self, *monitors: Monitor, live: str = "1") -> None:
        self.declared.current = replace(self.declared.current, monitors=monitors, live=live)

    def guard(self, *guards: Guard) -> GuardedRollout:
        rollout = GuardedRollout(rollout=ROLLOUT, candidate="2", live="1", guards=guards)
        self.declared.current = replace(self.declared.current, rollout=rollout)
        return rollout

    def predict(self, at: Times, live: Floats, candidate: Floats | None = None) -> None:
        """Store predictions, one per instant; NaN is a failed arm."""
        scored = [None if np.isnan(one) else float(one) for one in live]
        tried = np.full(len(live), np.nan) if candidate is None else candidate
        other = [None if np.isnan(one) else float(one) for one in tried]
        rows: list[dict[str, Any]] = [
            {
                "number": place + 1, "project": "default", "endpoint": "delay",
                "prediction": f"{place:032x}", "row": 0, "request": None, "repeat_of": None,
                "key": f"k{place}", "event_time_us": micros(at[place]), "at_us": 0,
                "version": self.declared.current.live, "role": "live",
                "rollout": None if candidate is None else ROLLOUT, "score": scored[place],
                "live_version": self.declared.current.live, "live_score": scored[place],
                "candidate_version": None if candidate is None else "2",
                "candidate_score": other[place], "fallback": 0,
            }
            for place in range(len(at))
        ]  # fmt: skip
        self.monitoring.database.write(
            lambda connection: connection.execute(insert(tables.PREDICTION), rows)
        )

    def label(self, at: Times, y: Floats, delays_h: Floats, token: str = "all:0") -> None:
        """Send each prediction's label, by its id."""
        labels = [
            Label(
                arrival=at[place] + timedelta(hours=float(delays_h[place])),
                prediction=f"{place:032x}",
                value=float(y[place]),
            )
            for place in range(len(at))
        ]
        self.monitoring.label("delay", labels, token=token)

    def reopened(self) -> "Bench":
        """The same home as another process finds it: nothing is kept in memory."""
        fresh = replace(self.monitoring, _calibrations={}, _recent=RecentRows())
        return Bench(fresh, self.declared, self.clock)


def times(rows: int, *, a_day: int, start: datetime = START) -> Times:
    """Spread rows evenly."""
    step_us = 86_400_000_000 // a_day
    return [instant(micros(start) + place * step_us) for place in range(rows)]


@contextmanager
def open_bench(folder: Path) -> Iterator[Bench]:
    """Open a home below a folder, with its tables."""
    clock = FrozenClock(START)
    ids, home, declared = IdSource(clock), Home(folder), Declared()
    with Database.open(home.database, clock=clock) as database:
        for metadata in (chain.METADATA, tables.METADATA):
            database.write(metadata.create_all)
        ledger = Ledger(
            database, clock=clock, ids=ids, derivations=[tables.DERIVED], head=home.ledger_head
        )
        monitoring = Monitoring(
            project="default",
            home=home,
            database=database,
            ledger=ledger,
            tables=DeltaTables(home.tables("default")),
            clock=clock,
            ids=ids,
            watches=declared,
            references=declared,
        )
        yield Bench(monitoring, declared, clock)
