"""Control killed under a stream of writes: each acknowledged one is there, and each only once."""

import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from running_platform import RunningPlatform, alive, running, wait_until
from small_driver import ENDPOINT, HISTORY
from small_world import DAY, START
from sqlalchemy import text

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.monitoring.labels import Label
from mainspring.platform import Platform

KILLS = 5
SINCE = START + (HISTORY + 1) * DAY


class Writers:
    """Commits, pushes and labels from a thread each; every one is sent until it is acknowledged."""

    def __init__(self, platform: RunningPlatform) -> None:
        self.acknowledged: dict[str, int] = {}
        self.failed: list[BaseException] = []
        self._over = threading.Event()
        client = platform.client()
        verbs: dict[str, Callable[[int], object]] = {
            "commits": lambda n: client.commit("shocks", shock("c", n), token=f"w:{n}"),
            "pushes": lambda n: client.push("shocks", shock("p", n), until=at(n), token=f"w:{n}"),
            "labels": lambda n: client.label(ENDPOINT, [label(n)], token=f"w:{n}"),
        }
        self._threads = [
            threading.Thread(target=self._write, args=(name, verb)) for name, verb in verbs.items()
        ]

    def __enter__(self) -> "Writers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise self.failed[0]

    def _write(self, name: str, verb: Callable[[int], object]) -> None:
        number = 0
        try:
            while not self._over.is_set():
                number += 1
                verb(number)
                self.acknowledged[name] = number
        except BaseException as error:
            self.failed.append(error)


def at(number: int) -> datetime:
    return SINCE + timedelta(seconds=number)


def shock(kind: str, number: int) -> pl.DataFrame:
    row = {"shock_id": f"{kind}{number}", "machine": "m1", "force": 1.0}
    return pl.DataFrame([{**row, "felt_at": at(number), "told_at": at(number)}]).select(
        "shock_id",
        "machine",
        pl.col("felt_at").cast(pl.Datetime("us", "UTC")),
        pl.col("told_at").cast(pl.Datetime("us", "UTC")),
        "force",
    )


def label(number: int) -> Label:
    return Label(key=f"nobody-{number}", event_time=at(number), value=1.0, arrival=at(number))


def recorded(home: Path) -> dict[str, list[int]]:
    """Give the numbers of the writes that are there."""
    queries = {
        "commits": "SELECT number FROM dataset_version WHERE writer = 'w'",
        "pushes": "SELECT number FROM push WHERE writer = 'w'",
        "labels": "SELECT CAST(substr(token, 3) AS INTEGER) FROM label WHERE token LIKE 'w:%'",
    }
    with (
        Platform.open(Config(), home, clock=SystemClock()) as platform,
        platform.database.read() as connection,
    ):
        rows = platform.project("default").stages.datasets.read("shocks").collect()
        assert rows["shock_id"].is_unique().all()
        return {
            name: sorted(number for (number,) in connection.execute(text(query)))
            for name, query in queries.items()
        }


def kill_control(platform: RunningPlatform, after_s: float) -> None:
    time.sleep(after_s)
    pid = platform.signal("control", signal.SIGKILL)
    if pid is not None:
        wait_until(lambda: not alive(pid), "control is gone")
    wait_until(lambda: bool(platform.pids("control")), "the next one has begun")
    platform.wait_ready()


@pytest.mark.slow
def test_control_killed_under_writes_loses_and_doubles_nothing(live_home: Path) -> None:
    with running(live_home) as platform:
        with Writers(platform) as writers:
            for number in range(KILLS):
                kill_control(platform, 0.5 + 0.13 * number)
                assert not writers.failed, writers.failed
            time.sleep(0.5)
        assert platform.client().verify().ok

    found = recorded(live_home)

    assert set(writers.acknowledged) == {"commits", "pushes", "labels"}
    for name, newest in writers.acknowledged.items():
        # The one that was under way at the end may be there without having been acknowledged.
        assert found[name] in (list(range(1, newest + 1)), list(range(1, newest + 2))), name


DIES_ONCE = """
import os
import signal
from pathlib import Path

from mainspring.store.leases import Leases

acquire, died = Leases.acquire, Path(os.environ["DIED"])

def dying(self, project, kind, name, **rest):
    lease = acquire(self, project, kind, name, **rest)
    if kind == "dataset" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return lease

Leases.acquire = dying
"""
"""A control process that is killed between taking a commit's lease and saying so."""


def test_a_commit_whose_lease_was_taken_by_a_lost_answer_is_not_in_its_own_way(
    live_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "sitecustomize.py").write_text(DIES_ONCE)
    environment = {"PYTHONPATH": str(tmp_path / "planted"), "DIED": str(tmp_path / "died")}

    with running(live_home, environment=environment) as platform:
        done = platform.client().commit("shocks", shock("c", 1), token="w:1")

    assert (tmp_path / "died").exists()
    assert done.rows == 1
