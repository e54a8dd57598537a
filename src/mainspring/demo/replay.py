"""Replay the flights of 2013 against a running platform, as an ordinary client would send them.

January to March are committed and train the first version. Then, hour by hour: push departures
and weather, predict what is scheduled, send the labels of what has landed. Day by day: commit
the same rows, advance the watermark, wait until the loop is settled. Within a day pushes,
predictions, labels and the commits go side by side: a prediction waits for the push of its hour,
the watermark for all of it.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from mainspring.api.client import Client
from mainspring.core.errors import Refused
from mainspring.demo.asking import Predictions
from mainspring.demo.broken import Broken, plant_broken
from mainspring.demo.feed import Feed, Span
from mainspring.demo.flights import Flights, read_flights
from mainspring.demo.phases import Phases
from mainspring.monitoring.labels import Label

ENDPOINT = "delay"
START = datetime(2013, 4, 1, tzinfo=UTC)
END = datetime(2014, 1, 1, tzinfo=UTC)
WARM_UP = timedelta(hours=48)
BROKEN_SEED, BROKEN_ROWS = 2013, 200
DATASETS = ("schedules", "departures", "landings", "weather_hourly")
PUSHED = ("departures", "weather_hourly")
PROJECT_FILE = Path(__file__).with_name("project.py")
LANES = len(PUSHED) + 2
"""Pushes by dataset, labels, and commits, side by side with the predictions."""

SWAPPED_FROM = datetime(2013, 6, 20, tzinfo=UTC)
CALENDAR_FROM = datetime(2013, 6, 1, tzinfo=UTC)
"""From this day on, on the first of a month: it needs a candidate that is better offline."""


@dataclass(slots=True)
class Planted:
    """The candidates that the driver breaks on purpose, and the runs they came from."""

    swapped: str | None = None
    calendar: list[str] = field(default_factory=list)
    calendar_done: bool = False


@dataclass(slots=True)
class Replay:
    """Everything a replay knows while it goes on, and what its report is made from.

    `at_noon` is called in the midst of each day's traffic: there the demo kills processes.
    """

    client: Client
    predictions: Predictions
    flights: Flights
    broken: tuple[Broken, ...]
    phases: Phases
    lanes: ThreadPoolExecutor
    at_noon: Callable[[datetime], None]
    planted: Planted = field(default_factory=Planted)
    day: int = 0
    until: datetime = START
    idle: bool = False
    """The loop has nothing open and nothing to do."""

    def begin(self) -> None:
        """Commit the first three months and let the first version train."""
        with self.phases.of("first commits"):
            for name in DATASETS:
                rows = self._feed(name).between(None, START)
                self.client.commit(name, rows, token="flights:1")
        with self.phases.of("traffic"):
            for name in PUSHED:
                rows = self._feed(name).between(START - WARM_UP, START)
                self.client.push(name, rows, until=START, token="flights:1")
        self.day = 1
        self._settle(START)

    def replay_day(self, span: Span) -> None:
        """Send one day, then let the loop look at it."""
        self.day += 1
        with self.phases.of("traffic"):
            self._send(span)
        self._settle(span.end)
        with self.phases.of("train and judge"):
            self._plant(span.end)

    def _send(self, span: Span) -> None:
        hours = list(span.hours())
        pushed = {name: [Future[None]() for _ in hours] for name in PUSHED}
        lanes = [
            *(self.lanes.submit(self._push_all, name, hours, pushed[name]) for name in PUSHED),
            self.lanes.submit(self._label_all, hours),
            self.lanes.submit(self._commit_all, span),
        ]
        for number, hour in enumerate(hours):
            for name in PUSHED:
                pushed[name][number].result()
            if number == len(hours) // 2:
                self.at_noon(hour.start)
            rows = self.flights.requests.between(hour.start, hour.end)
            if rows.height:
                self.predictions.ask(rows)
        self.predictions.finish()
        for lane in lanes:
            lane.result()

    def _push_all(self, name: str, hours: list[Span], pushed: list[Future[None]]) -> None:
        for hour, done in zip(hours, pushed, strict=True):
            try:
                rows = self._feed(name).between(hour.start, hour.end)
                self.client.push(name, rows, until=hour.end, token=_token(hour))
            except BaseException as error:
                for rest in pushed:
                    if not rest.done():
                        rest.set_exception(error)
                raise
            done.set_result(None)

    def _commit_all(self, span: Span) -> None:
        """Commit one dataset after the other, so that every replay has the same facts in order."""
        for name in DATASETS:
            rows = self._feed(name).between(span.start, span.end)
            if rows.height:
                self.client.commit(name, rows, token=f"flights:{self.day}")

    def _label_all(self, hours: list[Span]) -> None:
        for hour in hours:
            known = self.flights.labels.between(hour.start, hour.end)
            # What was scheduled before the replay began was never predicted.
            known = known.filter(pl.col("scheduled_at") > START)
            if known.height:
                self.client.label(ENDPOINT, _labels(known), token=_token(hour))

    def _settle(self, until: datetime) -> None:
        with self.phases.of("train and judge") as phase:
            advanced = self.client.advance(ENDPOINT, until)
            if not advanced.steps:
                phase.rename("watch")
        if advanced.error is not None:
            raise Refused(f"the loop stopped at {until.isoformat()}: {advanced.error}")
        self.idle = advanced.waiting.startswith("nothing to do")
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


def _token(hour: Span) -> str:
    return f"flights:{int(hour.end.timestamp()) // 3600}"


def _labels(known: pl.DataFrame) -> list[Label]:
    return [
        Label(key=key, event_time=due, value=value, void=void, arrival=at)
        for key, due, value, void, at in known.select(
            "flight_id", "scheduled_at", "late", "void", "known_at"
        ).iter_rows()
    ]
