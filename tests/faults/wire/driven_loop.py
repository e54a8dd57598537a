"""One loop of the small project through a running platform, and its end state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from end_state import end_state, integrity
from killing import Blow, Striker
from running_platform import project_beside, running
from small_driver import SmallDriver
from small_world import SmallWorld
from wire_driver import WireDriver

from mainspring.api.local import local_client
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform

DAYS = 18
"""The first version, an alarm, a retrain, the gate, a canary and its promotion lie within."""


def driven(
    home: Path,
    plan: Sequence[Blow] = (),
    *,
    days: int = DAYS,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Drive the loop to its end, with blows to the platform on the way; give its end state."""
    with running(home, environment=environment) as platform:
        client = platform.client()
        driver = WireDriver(client, platform.inference_url, SmallWorld(), project_beside(home))
        with Striker(platform, plan):
            driver.run(days)
        driver.predictor.close()
        assert client.verify().ok
    assert integrity(home) == "ok"
    return state_of(home)


def in_memory(home: Path) -> dict[str, Any]:
    """Drive the same loop in this process; give its end state as a platform would have it."""
    clock, config = SystemClock(), Config()
    home.mkdir()
    with Platform.open(config, home, clock=clock) as platform:
        client = local_client(platform, config)
        SmallDriver(platform, client, SmallWorld(), clock, project_beside(home)).run(DAYS)
    end = state_of(home)
    # There a run reports by itself, here the caller does it.
    ours, theirs = '["local", ', '["run", '
    by_runs = ('"type": "Registered"', '"type": "RunClosed"')
    end["facts"] = [
        fact.replace(ours, theirs, 1) if any(kind in fact for kind in by_runs) else fact
        for fact in end["facts"]
    ]
    return end


def state_of(home: Path) -> dict[str, Any]:
    """Give the end state of a home that nobody holds."""
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        assert platform.ledger.verify().ok
        return end_state(platform)


def apart(end: dict[str, Any], expected: dict[str, Any]) -> dict[str, list[Any]]:
    """Show what differs, part by part."""
    return {
        part: [pair for pair in zip(end[part], expected[part], strict=False) if pair[0] != pair[1]]
        or [len(end[part]), len(expected[part])]
        for part in expected
        if end[part] != expected[part]
    }
