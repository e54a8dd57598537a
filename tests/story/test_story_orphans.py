"""A killed attempt whose report arrives after its successor began: refused, or nothing is safe."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_driver import ENDPOINT, HISTORY, SmallDriver
from small_world import START, SmallWorld

from mainspring.api.local import execute_run, local_client
from mainspring.core.clock import FrozenClock
from mainspring.core.config import Config
from mainspring.core.errors import StaleToken
from mainspring.core.ids import Id
from mainspring.formats.wire import Assignment
from mainspring.loop.driver import IN_PROCESS
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import RunReport
from mainspring.platform import Platform
from mainspring.store.leases import Leases


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    clock = FrozenClock(START + timedelta(days=400))
    with Platform.open(Config(), tmp_path / "home", clock=clock) as opened:
        yield opened


def first_attempt_dies(platform: Platform) -> tuple[Id, str]:
    """Open the first run, let an attempt take its lease, and have nobody hear of it again."""
    client = local_client(platform, Config())
    seen: list[tuple[Id, str]] = []

    def lease_only(assignment: Assignment) -> None:
        seen.append((Id(assignment.run), assignment.token))

    platform.run_by(lease_only)
    driver = SmallDriver(platform, client, SmallWorld(), platform.clock)
    driver.run(HISTORY)
    assert len(seen) == 1, "a leased run is not started a second time"
    return seen[0]


def orphan_reports(platform: Platform, run: Id, token: str) -> list[str]:
    """Let the dead attempt say everything it could, and list what was not refused."""
    runs = platform.project("default").stages.runs
    reports: dict[str, Any] = {
        "renew": lambda: runs.renew(run, token=token),
        "log": lambda: runs.log(run, token=token, logged=Logged(params={"orphan": "1"})),
        "close": lambda: runs.close(
            run, token=token, report=RunReport(outcome="failed", message="orphan"), actor="dead"
        ),
    }
    taken = []
    for name, report in reports.items():
        try:
            report()
        except StaleToken:
            continue
        taken.append(name)
    return taken


def succeed(platform: Platform, during: Any) -> None:
    """Let the next owner's attempt do the work; `during` is called while it is under way."""
    client = local_client(platform, Config())
    caller = client._call
    platform.leases.end_owner(IN_PROCESS)

    def work(assignment: Assignment) -> None:
        during()
        execute_run(platform, caller, assignment)  # type: ignore[arg-type]

    platform.run_by(work)
    client.advance(ENDPOINT, START + timedelta(days=HISTORY))


def test_an_orphan_is_refused_while_and_after_its_successor_works(platform: Platform) -> None:
    run, token = first_attempt_dies(platform)
    taken: list[str] = []

    succeed(platform, lambda: taken.extend(orphan_reports(platform, run, token)))
    taken += orphan_reports(platform, run, token)

    assert taken == []
    row = platform.project("default").stages.runs.get(run)
    assert (row.state, row.version) == ("finished", "1")
    tracked = platform.project("default").tracking.get(run)
    assert "orphan" not in tracked.params


def test_without_the_token_check_an_orphan_would_end_its_successors_run(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, token = first_attempt_dies(platform)
    taken: list[str] = []

    def unchecked(*_: Any, **__: Any) -> int:
        return 1

    def with_the_bug() -> None:
        monkeypatch.setattr(Leases, "check", unchecked)
        taken.extend(orphan_reports(platform, run, token))
        monkeypatch.undo()

    succeed(platform, with_the_bug)

    assert {"log", "close"} <= set(taken), "the planted bug must show"
    row = platform.project("default").stages.runs.get(run)
    assert (row.state, row.message) == ("failed", "orphan"), "it ended its successor's run"
