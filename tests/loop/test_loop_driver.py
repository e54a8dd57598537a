"""The driver: waits for runs that work elsewhere, hears ends, ticks, adopts, and stays alive."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree
from typing import Any, TypeVar

import pytest

from mainspring.api.caller import MemoryCaller
from mainspring.api.client import Client
from mainspring.api.local import execute_run, local_client, open_local
from mainspring.cli.starter import rows
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.ids import Id
from mainspring.data.writing import RowWriter
from mainspring.formats.wire import Assignment
from mainspring.loop.driver import IN_PROCESS, RUN_PROCESS, Driver
from mainspring.loop.run import settle as real_settle
from mainspring.platform import Platform

STARTER = Path(rows.__file__).with_name("project.py")
TICK_S = 0.05
PATIENCE_S = 30.0

T = TypeVar("T")


def until(look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)
    return found


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the starter project and its rows; its loop has never looked."""
    folder = tmp_path_factory.mktemp("driver")
    rows.write_rows(folder)
    with open_local(Config(), folder / "home") as client:
        client.apply(STARTER)
        for name in ("readings", "stops"):
            client.commit_file(name, folder / f"{name}.csv", token=f"test-{name}:1")
        client.advance("stop", datetime(2026, 4, 1, tzinfo=UTC), settle=False)
    return folder / "home"


class Owned:
    """A platform as control has it; attempts wait here until the test lets them work."""

    def __init__(self, home: Path) -> None:
        self.config = Config()
        self.platform = Platform.open(self.config, home, clock=SystemClock(), owned=True)
        self.begun: list[Assignment] = []
        self.stopped: list[str] = []
        self.platform.run_by(self.begun.append, self.stopped.append)
        project = self.platform.project("default")
        self.caller = MemoryCaller(self.platform, project.access.identify(None, local=True))
        self.client = Client(self.caller, RowWriter(project.tables), "default")

    @property
    def driver(self) -> Driver:
        return self.platform.project("default").driver

    def leased(self, run: str) -> str | None:
        lease = self.platform.leases.live("default", "run", run)
        return None if lease is None else lease.token

    def nth(self, number: int) -> Assignment:
        return until(lambda: dict(enumerate(self.begun, 1)).get(number))


@pytest.fixture
def owned(filled_home: Path, tmp_path: Path) -> Iterator[Owned]:
    copytree(filled_home, tmp_path / "home")
    opened = Owned(tmp_path / "home")
    yield opened
    opened.platform.close()


def waiting(work: Callable[[], T]) -> tuple[threading.Thread, list[T]]:
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    return thread, answers


def test_a_settling_that_does_not_wait_begins_the_run_and_returns(owned: Owned) -> None:
    settled = owned.driver.settle("stop")

    assert settled.steps == ("OpenTraining", "StartRun")
    assert not settled.at_rest
    assert [attempt.attempt for attempt in owned.begun] == [1]
    assert owned.leased(owned.begun[0].run) == owned.begun[0].token


def test_a_waiting_settling_sees_the_run_end_and_names_the_steps_of_others(owned: Owned) -> None:
    owned.platform.drive(TICK_S, serving=lambda _: True)
    thread, answers = waiting(lambda: owned.driver.settle("stop", wait_s=30))

    execute_run(owned.platform, owned.caller, owned.nth(1))
    thread.join(PATIENCE_S)

    assert answers[0].at_rest
    assert answers[0].steps[-2:] == ("Judge", "Promote")


def test_when_a_process_is_gone_the_next_attempt_begins(owned: Owned) -> None:
    owned.platform.drive(TICK_S, serving=lambda _: True)
    first = owned.nth(1)

    owned.driver.run_ended(first.run, first.token)
    second = owned.nth(2)

    assert (second.run, second.attempt) == (first.run, 2)
    assert owned.leased(first.run) == second.token
    owned.driver.run_ended(first.run, first.token)
    assert owned.leased(first.run) == second.token, "an end told twice ends nobody else's lease"


def test_a_start_that_fails_gives_the_lease_back_and_is_tried_again(owned: Owned) -> None:
    def refuse(assignment: Assignment) -> None:
        owned.begun.append(assignment)
        if len(owned.begun) == 1:
            raise OSError("no process left")

    owned.platform.run_by(refuse)

    failed = owned.driver.settle("stop", wait_s=5)
    again = owned.driver.settle("stop")

    assert failed.error == "OSError: no process left"
    assert not failed.at_rest
    assert (again.steps, again.error) == (("StartRun",), None)


def test_a_waiting_settling_waits_until_the_newest_routes_are_served(owned: Owned) -> None:
    served = [0]
    asked: list[int] = []

    def serving(number: int) -> bool:
        asked.append(number)
        return served[0] >= number

    owned.platform.run_by(lambda one: execute_run(owned.platform, owned.caller, one))
    owned.driver.serving = serving
    thread, answers = waiting(lambda: owned.driver.settle("stop", wait_s=30))
    until(lambda: len(asked) > 3)
    assert not answers

    served[0] = asked[-1]
    thread.join(PATIENCE_S)

    assert answers[0].at_rest
    assert not owned.driver.settle("stop", wait_s=0).steps


def test_control_that_starts_again_keeps_living_attempts_and_ends_the_others(
    filled_home: Path, tmp_path: Path
) -> None:
    copytree(filled_home, tmp_path / "home")
    before = Owned(tmp_path / "home")
    before.driver.settle("stop")
    living = before.begun[0]
    leases = before.platform.leases
    ttl = timedelta(minutes=5)
    dead = leases.acquire("default", "run", "a" * 32, owner=RUN_PROCESS, ttl=ttl)
    mine = leases.acquire("default", "run", "b" * 32, owner=IN_PROCESS, ttl=ttl)
    before.platform.close()

    after = Owned(tmp_path / "home")
    after.driver.adopt([(living.run, living.token), ("c" * 32, "over")])

    assert after.leased(living.run) == living.token
    assert after.leased(dead.name) is None
    assert after.leased(mine.name) is None
    assert after.stopped == ["c" * 32], "a process whose attempt is over is stopped"
    assert after.driver.settle("stop").steps == ()
    after.platform.close()


def test_an_endpoint_that_cannot_be_looked_at_stops_neither_itself_nor_others(
    owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]

    def settle(stages: Any, endpoint: str) -> Any:
        if broken[0]:
            raise ValueError("planted")
        return real_settle(stages, endpoint)

    monkeypatch.setattr("mainspring.loop.driver.settle", settle)
    owned.platform.drive(TICK_S, serving=lambda _: True)
    until(lambda: owned.client.status().endpoints[0].error)
    assert owned.client.status().endpoints[0].error == "ValueError: planted"

    broken[0] = False

    assert owned.nth(1).attempt == 1, "the next tick looks again"


def test_stopping_ends_the_threads_and_whoever_waits(owned: Owned) -> None:
    owned.platform.drive(TICK_S, serving=lambda _: True)
    owned.nth(1)
    thread, answers = waiting(lambda: owned.driver.settle("stop", wait_s=60))

    owned.platform.rest()
    thread.join(PATIENCE_S)

    assert not answers[0].at_rest
    assert not [one.name for one in threading.enumerate() if one.name.startswith("loop-")]


def test_in_memory_all_is_at_rest_on_return(filled_home: Path, tmp_path: Path) -> None:
    copytree(filled_home, tmp_path / "home")
    config = Config()
    with Platform.open(config, tmp_path / "home", clock=SystemClock()) as platform:
        client = local_client(platform, config)

        started = client.start_run("stop", [], token="mine")

        assert started.settled
        assert started.run.state == "finished"
        assert platform.project("default").stages.runs.get(Id(started.run.run)).attempt == 1


def test_in_wall_time_the_watermark_follows_the_clock_by_itself(
    tmp_path: Path,
) -> None:
    text = STARTER.read_text("utf-8")
    assert 'time="event"' in text
    (tmp_path / "project.py").write_text(text.replace('time="event"', 'time="wall"'), "utf-8")
    with open_local(Config(), tmp_path / "home") as client:
        client.apply(tmp_path / "project.py")
    world = Owned(tmp_path / "home")
    with world.platform:
        monitoring = world.platform.project("default").stages.monitoring
        begun = datetime.now(UTC)

        world.platform.drive(TICK_S, serving=lambda _: True)
        first = until(lambda: monitoring.watermark("stop"))
        later = until(lambda: _behind(monitoring.watermark("stop"), first))

        assert begun - timedelta(seconds=30) < first < later < datetime.now(UTC)


def _behind(found: datetime | None, first: datetime) -> datetime | None:
    return found if found is not None and found > first else None
