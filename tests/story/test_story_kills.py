"""A process killed at any recorded transition of the loop ends the same as one that was not."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from end_state import end_state, integrity

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform

DAYS = 18
"""The first version, an alarm, a retrain, the gate, a canary and its promotion lie within."""

CHILD = Path(__file__).with_name("small_child.py")
LOOP = {
    "RunOpened",
    "Registered",
    "Judged",
    "Promoted",
    "RolloutStarted",
    "RolloutAdvanced",
    "Alarmed",
}


def run_child(
    home: Path, kill_at: int = 0, when: str = "after"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(CHILD), str(home), str(DAYS), str(kill_at), when]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def state_of(home: Path) -> dict[str, Any]:
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        assert platform.ledger.verify().ok
        return end_state(platform)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    home = tmp_path_factory.mktemp("unkilled") / "home"
    done = run_child(home)
    assert done.returncode == 0, done.stderr
    return state_of(home), done.stdout.split()


def killed_once(home: Path, kill_at: int, when: str) -> dict[str, Any]:
    killed = run_child(home, kill_at, when)
    assert killed.returncode == -9, (kill_at, when, killed.stdout, killed.stderr)
    again = run_child(home)
    assert again.returncode == 0, (kill_at, when, again.stderr)
    assert integrity(home) == "ok"
    return state_of(home)


def test_the_unkilled_loop_has_every_transition(unkilled: tuple[dict[str, Any], list[str]]) -> None:
    told = " ".join(unkilled[0]["facts"])

    assert all(f'"type": "{name}"' in told for name in LOOP)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_once_at_a_transition_of_the_loop_it_ends_the_same(
    unkilled: tuple[dict[str, Any], list[str]], tmp_path: Path
) -> None:
    expected, transitions = unkilled
    cases = [(at, when) for at, name in enumerate(transitions, start=1) for when in _chosen(name)]

    with ThreadPoolExecutor(2) as pool:
        ends = list(
            pool.map(lambda case: killed_once(tmp_path / f"{case[0]}-{case[1]}", *case), cases)
        )

    differ = {case: _apart(end, expected) for case, end in zip(cases, ends, strict=True)}
    assert not any(differ.values()), differ


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_transition_in_turn_it_ends_the_same(
    unkilled: tuple[dict[str, Any], list[str]], tmp_path: Path
) -> None:
    expected, transitions = unkilled

    # A life makes one transition: killed right after it, or right before the one that follows,
    # when what belongs to that one outside the ledger is done.
    with ThreadPoolExecutor(2) as pool:
        after = pool.submit(killed_in_turn, tmp_path / "after", 1, "after")
        before = pool.submit(killed_in_turn, tmp_path / "before", 2, "before")

    assert after.result() == len(transitions)
    assert before.result() == len(transitions) - 1
    for name in ("after", "before"):
        assert integrity(tmp_path / name) == "ok"
        assert _apart(state_of(tmp_path / name), expected) == []


def killed_in_turn(home: Path, kill_at: int, when: str) -> int:
    """Begin again after each kill until a life ends by itself; give the number of kills."""
    for kills in range(200):
        done = run_child(home, kill_at, when)
        if done.returncode == 0:
            return kills
        assert done.returncode == -9, (kills, when, done.stdout, done.stderr)
    raise AssertionError(f"killed 200 times {when} a transition and not at the end yet")


def _apart(end: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [part for part in expected if end[part] != expected[part]]


def _chosen(name: str) -> list[str]:
    """Kill once after every fact of the loop, and before those that rest on much work."""
    if name == "Committed":
        return []
    return ["before", "after"] if name in ("Registered", "Judged", "Promoted") else ["after"]
