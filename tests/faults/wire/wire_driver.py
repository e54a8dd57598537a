"""A client of the running platform: verbs over HTTP, predictions over V2, everything repeatable."""

import http.client
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
from small_driver import ENDPOINT, HISTORY
from small_world import DAY, START, SmallWorld

from mainspring.api.client import Client
from mainspring.monitoring.labels import Label

PATIENCE_S = 60.0
ARRIVAL = {"parts": "known_at", "shocks": "told_at", "failures": "seen_at"}


class WireDriver:
    """Drives the small project through its days, through whatever becomes of the platform."""

    def __init__(
        self, client: Client, inference_url: str, world: SmallWorld, project_file: Path
    ) -> None:
        self.client = client
        self.project_file = project_file
        self.world = world
        self.predictor = Predictor(inference_url)

    def run(self, days: int, *, first: int = HISTORY - 1) -> None:
        """Send everything up to a day."""
        self.client.apply(self.project_file)
        for day in range(first, days):
            self.send(day)

    def send(self, day: int) -> None:
        """Push, predict, label, commit, advance: one day, or all history before the first."""
        end = START + (day + 1) * DAY
        first = day == HISTORY - 1
        since = START - 2 * DAY if first else end - DAY
        shocks = self.known("shocks", max(since, end - 2 * DAY), end)
        self.client.push("shocks", shocks, until=end, token=f"driver:{day + 1}")
        if not first:
            for number, rows in enumerate(self.hours(day)):
                self.predictor.predict(rows, request_id=f"{day}-{number}")
            self.label(day, since, end)
        for name in ARRIVAL:
            self.client.commit(name, self.known(name, since, end), token=f"driver:{day + 1}")
        advanced = self.client.advance(ENDPOINT, end)
        assert advanced.error is None, advanced.error

    def hours(self, day: int) -> list[pl.DataFrame]:
        """Give the parts of a day, hour by hour."""
        parts = self.world.parts(day).with_columns(hour=pl.col("used_at").dt.hour())
        return parts.partition_by("hour", maintain_order=True)

    def label(self, day: int, since: datetime, end: datetime) -> None:
        """Send what became known of the parts that were asked for."""
        begun = START + HISTORY * DAY
        rows = self.known("failures", since, end).filter(pl.col("used_at") > begun)
        labels = [
            Label(key=key, event_time=at, value=float(failed), arrival=seen)
            for key, at, seen, failed in rows.iter_rows()
        ]
        if labels:
            self.client.label(ENDPOINT, labels, token=f"driver:{day + 1}")

    def known(self, name: str, since: datetime, end: datetime) -> pl.DataFrame:
        """Rows of a table that became known after one instant and up to another."""
        first, last = (since - START) // DAY - 1, (end - START) // DAY + 1
        rows: pl.DataFrame = pl.concat(
            [getattr(self.world, name)(day) for day in range(max(first, 0), last)]
        )
        at = pl.col(ARRIVAL[name])
        known: pl.DataFrame = rows.filter((at > since) & (at <= end))
        return known


class Predictor:
    """Asks over one kept connection; a request whose answer did not come is sent again."""

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._patience_s = patience_s
        self._connection: http.client.HTTPConnection | None = None
        self.repeats = 0

    def predict(self, rows: pl.DataFrame, *, request_id: str) -> dict[str, Any]:
        """Give the answer to rows of parts."""
        body = json.dumps({"id": request_id, "inputs": inputs_of(rows)})
        path = f"/v2/models/{ENDPOINT}/infer"
        ends = time.monotonic() + self._patience_s
        while True:
            found = self._once(path, body)
            if found is not None and found[0] == 200:
                answer: dict[str, Any] = json.loads(found[1])
                return answer
            assert found is None or found[0] == 503, found
            assert time.monotonic() < ends, f"no answer in {self._patience_s:g} s: {found}"
            self.repeats += 1
            time.sleep(0.02)

    def once(self, rows: pl.DataFrame, *, request_id: str) -> int:
        """Ask once; give the status, 0 if no answer came."""
        body = json.dumps({"id": request_id, "inputs": inputs_of(rows)})
        found = self._once(f"/v2/models/{ENDPOINT}/infer", body)
        return 0 if found is None else found[0]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _once(self, path: str, body: str) -> tuple[int, bytes] | None:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=10)
        try:
            self._connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None


def inputs_of(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Write rows of parts as V2 inputs."""
    times = [at.isoformat() for at in rows["used_at"].to_list()]
    columns: list[tuple[str, str, list[Any]]] = [
        ("__key__", "BYTES", rows["part_id"].to_list()),
        ("__event_time__", "BYTES", times),
        ("machine", "BYTES", rows["machine"].to_list()),
        ("load", "FP64", rows["load"].to_list()),
        ("day", "INT64", rows["day"].to_list()),
    ]
    return [
        {"name": name, "shape": [rows.height], "datatype": kind, "data": values}
        for name, kind, values in columns
    ]
