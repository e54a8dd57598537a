"""An ordinary client of the small project; may be killed anywhere and begun again.

Everything it sends carries a token made from the day, and predictions carry a request id, so a
second sending has no second effect. Where it was, it reads from the watermark.
"""

from datetime import datetime
from pathlib import Path

import polars as pl
from small_world import DAY, START, SmallWorld

from mainspring.api.client import Client
from mainspring.core.clock import Clock
from mainspring.core.ids import IdSource
from mainspring.monitoring.labels import Label
from mainspring.platform import Platform
from mainspring.serving.engine import Engine, Rows

PROJECT_FILE = Path(__file__).with_name("loop_project.py")
ENDPOINT = "failure"
HISTORY = 8
"""Days that are committed before the endpoint begins to answer."""


class SmallDriver:
    """Drives one endpoint through its days."""

    def __init__(
        self,
        platform: Platform,
        client: Client,
        world: SmallWorld,
        clock: Clock,
        project_file: Path = PROJECT_FILE,
    ) -> None:
        self.client = client
        self.world = world
        self.platform = platform
        self.project_file = project_file
        self.unanswered = 0
        self.engine = Engine(platform.home, worker="small", clock=clock, ids=IdSource(clock))

    def run(self, days: int) -> None:
        """Send everything up to a day, from wherever the watermark stands."""
        self.client.apply(self.project_file)
        for day in range(self._next_day(), days):
            self.send(day)

    def _next_day(self) -> int:
        stages = self.platform.project("default").stages
        watermark = stages.monitoring.watermark(ENDPOINT)
        if watermark is None:
            return HISTORY - 1
        # The loop may have been stopped within the settling of that day, so it is settled again.
        self.client.advance(ENDPOINT, watermark)
        self.engine.refresh()
        return (watermark - START) // DAY

    def send(self, day: int) -> None:
        """Push, predict, label, commit, advance: one day, or all history before the first."""
        end = START + (day + 1) * DAY
        first = day == HISTORY - 1
        since = START - 2 * DAY if first else end - DAY
        shocks = self._known("shocks", max(since, end - 2 * DAY), end)
        self.client.push("shocks", shocks, until=end, token=f"driver:{day + 1}")
        if not first:
            self._predict(day)
            self._label(day, since, end)
        for name in ("parts", "shocks", "failures"):
            self.client.commit(name, self._known(name, since, end), token=f"driver:{day + 1}")
        advanced = self.client.advance(ENDPOINT, end)
        assert advanced.error is None, advanced.error
        self.engine.refresh()

    def _predict(self, day: int) -> None:
        parts = self.world.parts(day).with_columns(hour=pl.col("used_at").dt.hour())
        for rows in parts.partition_by("hour", maintain_order=True):
            answer = self.engine.predict(
                "default",
                ENDPOINT,
                Rows(
                    rows["part_id"].to_list(),
                    rows["used_at"].dt.epoch("us").to_list(),
                    {name: rows[name].to_list() for name in ("machine", "load", "day")},
                ),
                request_id=f"{day}-{rows['hour'][0]}",
            )
            self.unanswered += len(answer.errors)

    def _label(self, day: int, since: datetime, end: datetime) -> None:
        begun = START + HISTORY * DAY
        rows = self._known("failures", since, end).filter(pl.col("used_at") > begun)
        labels = [
            Label(key=key, event_time=at, value=float(failed), arrival=seen)
            for key, at, seen, failed in rows.iter_rows()
        ]
        if labels:
            self.client.label(ENDPOINT, labels, token=f"driver:{day + 1}")

    def _known(self, name: str, since: datetime, end: datetime) -> pl.DataFrame:
        """Rows of a table that became known after one instant and up to another."""
        arrival = {"parts": "known_at", "shocks": "told_at", "failures": "seen_at"}[name]
        first, last = (since - START) // DAY - 1, (end - START) // DAY + 1
        rows: pl.DataFrame = pl.concat(
            [getattr(self.world, name)(day) for day in range(max(first, 0), last)]
        )
        known: pl.DataFrame = rows.filter((pl.col(arrival) > since) & (pl.col(arrival) <= end))
        return known
