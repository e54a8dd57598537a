"""A running platform that is struck ends the same as one that is left in peace."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from driven_loop import apart, driven, in_memory
from killing import Jump, Kill, Storm
from running_platform import RunningPlatform
from small_driver import HISTORY
from small_world import SmallWorld

ROLES = ("control", "inference", "run", "supervisor")
TRANSITIONS = (
    ("RunOpened", 1),
    ("Registered", 1),
    ("RunClosed", 1),
    ("Judged", 1),
    ("Promoted", 1),
    ("Alarmed", 1),
    ("RunOpened", 2),
    ("Registered", 2),
    ("RunClosed", 2),
    ("Judged", 2),
    ("RolloutStarted", 1),
    ("RolloutAdvanced", 1),
)
A_FEW = (
    Kill("RunOpened", "run"),
    Kill("Registered", "control"),
    Kill("Promoted", "supervisor"),
    Kill("Committed", "inference", nth=7),
    Kill("RunOpened", "control", nth=2),
    Kill("RolloutStarted", "supervisor"),
    Kill("RolloutStarted", "inference"),
    Kill("RolloutAdvanced", "control"),
)
LONG = int(os.environ.get("FAULTS_LONG", "0"))
"""How many seeds of random kills, and whether each process is killed at each transition."""

OFF_CLOCK = """
import os
from datetime import timedelta
from pathlib import Path

from mainspring.core.clock import SystemClock

now, offset = SystemClock.now, Path(os.environ["CLOCK_OFFSET"])
SystemClock.now = lambda self: now(self) + timedelta(seconds=float(offset.read_text()))
"""
"""The wall clock of every process is off by what a file says; the monotonic one is not."""


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return in_memory(tmp_path_factory.mktemp("unkilled") / "home")


def test_the_loop_has_every_transition_at_which_it_is_struck(unkilled: dict[str, Any]) -> None:
    told = " ".join(unkilled["facts"])

    for event, nth in (*TRANSITIONS, *((kill.event, kill.nth) for kill in A_FEW)):
        assert told.count(f'"type": "{event}"') >= nth, event


@pytest.mark.slow
def test_a_loop_whose_processes_are_killed_ends_the_same(
    unkilled: dict[str, Any], tmp_path: Path
) -> None:
    assert apart(driven(tmp_path / "home", A_FEW), unkilled) == {}


@dataclass(frozen=True, slots=True)
class Lose:
    """Kill everything, and lose the newest records of the request log: as if never written."""

    event: str
    nth: int

    def strike(self, platform: RunningPlatform) -> None:
        platform.kill()
        for segment in platform.home.segments.iterdir():
            os.truncate(segment, segment.stat().st_size * 3 // 4)
        platform.start()


def test_answered_predictions_that_a_kill_loses_are_found_out(tmp_path: Path) -> None:
    day = HISTORY
    # The first commit behind the day's predictions: no advance has compacted them yet.
    lost = Lose("Committed", 4)

    end = driven(tmp_path / "home", [lost], days=day + 1)

    asked = set(SmallWorld().parts(day)["part_id"])
    assert asked - {key for key, *_ in end["outcomes"]}


EACH = [
    Kill(event, role, nth)
    for event, nth in TRANSITIONS
    for role in ROLES
    # Only then a run process lives for sure.
    if LONG and (role != "run" or event == "RunOpened")
]


@pytest.mark.slow
@pytest.mark.parametrize("kill", EACH, ids=str)
def test_killed_at_one_transition_it_ends_the_same(
    unkilled: dict[str, Any], tmp_path: Path, kill: Kill
) -> None:
    assert apart(driven(tmp_path / "home", [kill]), unkilled) == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(LONG))
def test_killed_at_random_times_it_ends_the_same(
    unkilled: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    storm = Storm(seed, kills=20)

    end = driven(tmp_path / "home", [storm])

    assert apart(end, unkilled) == {}, storm.done


@pytest.fixture
def off_clock(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file that says how far the clocks are off, and the environment that makes them so."""
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(OFF_CLOCK)
    # Apart from the project, whose files are part of what is applied.
    (tmp_path / "project").mkdir()
    return offset, {"PYTHONPATH": str(tmp_path), "CLOCK_OFFSET": str(offset)}


@pytest.mark.slow
def test_a_clock_that_jumps_an_hour_changes_nothing(
    unkilled: dict[str, Any], tmp_path: Path, off_clock: tuple[Path, dict[str, str]]
) -> None:
    offset, environment = off_clock
    jumps = [
        # Forth while a run is at work under its lease, back while the next one is.
        Jump("RunOpened", offset, 3600),
        Jump("Alarmed", offset, 7200),
        Jump("RunOpened", offset, -3600, nth=2),
        Jump("RolloutStarted", offset, 3600),
    ]

    end = driven(tmp_path / "project" / "home", jumps, environment=environment)

    assert apart(end, unkilled) == {}


def test_a_clock_that_jumps_over_a_deadline_shows(
    tmp_path: Path, off_clock: tuple[Path, dict[str, str]]
) -> None:
    offset, environment = off_clock

    end = driven(
        tmp_path / "project" / "home",
        [Jump("RunOpened", offset, 7 * 3600)],
        days=HISTORY,
        environment=environment,
    )

    assert '"outcome": "expired"' in " ".join(end["facts"])
