"""Replay the flights of 2013 against a fresh home, as an ordinary client would send them.

January to March are committed and train the first version. Then, hour by hour: push departures
and weather, predict what is scheduled, send the labels of what has landed. Day by day: commit
the same rows, advance the watermark, wait until the loop is settled.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.api.client import Client
from mainspring.core.errors import Refused
from mainspring.core.home import Home
from mainspring.demo.broken import Broken, plant_broken
from mainspring.demo.feed import Feed, Span
from mainspring.demo.flights import Flights, read_flights
from mainspring.demo.phases import Phases
from mainspring.loop.stages import Stages
from mainspring.monitoring.labels import Label
from mainspring.serving.engine import Engine, Rows

ENDPOINT = "delay"
START = datetime(2013, 4, 1, tzinfo=UTC)
END = datetime(2014, 1, 1, tzinfo=UTC)
WARM_UP = timedelta(hours=48)
BROKEN_SEED, BROKEN_ROWS = 2013, 200
DATASETS = ("schedules", "departures", "landings", "weather_hourly")
PUSHED = ("departures", "weather_hourly")
PROJECT_FILE = Path(__file__).with_name("project.py")

SWAPPED_FROM = datetime(2013, 6, 20, tzinfo=UTC)
CALENDAR_FROM = datetime(2013, 6, 1, tzinfo=UTC)
"""From this day on, on the first of a month: it needs a candidate that is better offline."""


@dataclass(slots=True)
class Served:
    """What the callers got, row by row."""

    keys: list[str] = field(default_factory=list)
    times_us: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    fallbacks: int = 0
    unanswered: int = 0
    requests: int = 0


@dataclass(slots=True)
class Planted:
    """The candidates that the driver breaks on purpose, and the runs they came from."""

    swapped: str | None = None
    calendar: list[str] = field(default_factory=list)
    calendar_done: bool = False


@dataclass(slots=True)
class Replay:
    """Everything a replay knows while it goes on, and what its report is made from."""

    client: Client
    engine: Engine
    home: Home
    stages: Stages
    flights: Flights
    broken: tuple[Broken, ...]
    phases: Phases
    request: list[str]
    """Columns that a request carries."""
    served: Served = field(default_factory=Served)
    planted: Planted = field(default_factory=Planted)
    decided: list[tuple[datetime, str]] = field(default_factory=list)
    day: int = 0
    until: datetime = START
    idle: bool = False
    """The loop has nothing open and nothing to do."""

    def begin(self) -> None:
        """Commit the first three months and let the first version train."""
        with self.phases.of("commit"):
            for name in DATASETS:
                rows = self._feed(name).between(None, START)
                self.client.commit(name, rows, token="flights:1")
        with self.phases.of("push"):
            for name in PUSHED:
                rows = self._feed(name).between(START - WARM_UP, START)
                self.client.push(name, rows, until=START, token="flights:1")
        self.day = 1
        self._settle(START)

    def replay_day(self, span: Span) -> None:
        """Send one day, then let the loop look at it."""
        for hour in span.hours():
            self._replay_hour(hour)
        self.day += 1
        with self.phases.of("commit"):
            for name in DATASETS:
                rows = self._feed(name).between(span.start, span.end)
                if rows.height:
                    self.client.commit(name, rows, token=f"flights:{self.day}")
        self._settle(span.end)
        with self.phases.of("train and judge"):
            self._plant(span.end)

    def _replay_hour(self, hour: Span) -> None:
        number = int(hour.end.timestamp()) // 3600
        with self.phases.of("push"):
            for name in PUSHED:
                rows = self._feed(name).between(hour.start, hour.end)
                self.client.push(name, rows, until=hour.end, token=f"flights:{number}")
        with self.phases.of("predict"):
            self._predict(self.flights.requests.between(hour.start, hour.end))
        with self.phases.of("label"):
            known = self.flights.labels.between(hour.start, hour.end)
            # What was scheduled before the replay began was never predicted.
            known = known.filter(pl.col("scheduled_at") > START)
            if known.height:
                self.client.label(ENDPOINT, _labels(known), token=f"flights:{number}")

    def _predict(self, requests: pl.DataFrame) -> None:
        """Ask minute by minute, as the flights come due."""
        if requests.is_empty():
            return
        for keys, times, columns in _minutes(requests, self.request):
            answer = self.engine.predict("default", ENDPOINT, Rows(keys, times, columns))
            served = self.served
            served.requests += 1
            served.keys += keys
            served.times_us += times
            served.scores += answer.outputs
            served.versions += answer.versions
            served.predictions += [f"{answer.prediction}:{row}" for row in range(len(keys))]
            served.fallbacks += sum(answer.fallback)
            served.unanswered += int(np.isnan(answer.outputs).sum())

    def _settle(self, until: datetime) -> None:
        with self.phases.of("train and judge") as phase:
            advanced = self.client.advance(ENDPOINT, until)
            if not advanced.steps:
                phase.rename("watch")
        for step in advanced.steps:
            self.decided.append((until, step))
        if advanced.error is not None:
            raise Refused(f"the loop stopped at {until.isoformat()}: {advanced.error}")
        self.idle = advanced.waiting.startswith("nothing to do")
        self.engine.refresh()
        self.until = until

    def _plant(self, now: datetime) -> None:
        """Start the broken candidates, each when the loop is at rest."""
        if not self.idle:
            return
        if self.planted.swapped is None and now >= SWAPPED_FROM:
            self.planted.swapped = self._candidate("swapped", f"swapped-{now:%Y%m%d}")
        elif not self.planted.calendar_done and now >= CALENDAR_FROM and now.day <= 6:
            plant = f"calendar:{now:%Y-%m-%d}"
            version = self._candidate(plant, f"calendar-{now:%Y%m%d}")
            self.planted.calendar.append(version)
            after = self.client.endpoint(ENDPOINT)
            self.planted.calendar_done = any(r.candidate == version for r in after.rollouts)

    def _candidate(self, plant: str, token: str) -> str:
        started = self.client.start_run(ENDPOINT, [f"plant={plant}"], token=token)
        if started.error is not None or started.run.version is None:
            raise Refused(f"the planted run ended with {started.run.message or started.error}")
        self.engine.refresh()
        return started.run.version

    def _feed(self, name: str) -> Feed:
        feed: Feed = getattr(self.flights, name)
        return feed


def prepare(directory: Path) -> Path:
    """Make the demo's directory with the project file in it.

    Raises:
        Refused: A home is there already: a demo begins afresh.
    """
    if (directory / ".mainspring").exists():
        raise Refused(
            f"{directory}: a home is here already; remove the directory or name another one"
        )
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PROJECT_FILE, directory / PROJECT_FILE.name)
    return directory / PROJECT_FILE.name


def load_flights() -> tuple[Flights, tuple[Broken, ...]]:
    """Read the year and plant the broken rows."""
    return plant_broken(read_flights(), seed=BROKEN_SEED, count=BROKEN_ROWS)


def days(limit: int | None) -> list[Span]:
    """List the days that are replayed."""
    end = END if limit is None else min(END, START + timedelta(days=limit))
    return list(Span(START, end).days())


def _minutes(
    requests: pl.DataFrame, names: list[str]
) -> Iterator[tuple[list[str], list[int], dict[str, list[Any]]]]:
    """Cut requests into the minutes they are due in, as plain lists."""
    keys = requests["flight_id"].to_list()
    times = requests["scheduled_at"].dt.epoch("us").to_numpy()
    columns = {name: requests[name].to_list() for name in names}
    starts = np.flatnonzero(np.diff(times, prepend=times[0] - 1))
    ends = np.append(starts[1:], len(times))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield (
            keys[start:end],
            times[start:end].tolist(),
            {name: values[start:end] for name, values in columns.items()},
        )


def _labels(known: pl.DataFrame) -> list[Label]:
    return [
        Label(key=key, event_time=due, value=value, void=void, arrival=at)
        for key, due, value, void, at in known.select(
            "flight_id", "scheduled_at", "late", "void", "known_at"
        ).iter_rows()
    ]
