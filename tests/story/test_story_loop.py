"""The loop's stories on frozen time, asserted on the list of facts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from small_driver import ENDPOINT, PROJECT_FILE, SmallDriver
from small_world import DAY, START, SmallWorld

from mainspring.api.local import local_client
from mainspring.core.clock import FrozenClock
from mainspring.core.config import Config
from mainspring.core.errors import Refused, StaleSubject
from mainspring.core.events import Judged, Registered
from mainspring.platform import Platform

Drive = Callable[..., SmallDriver]
QUIET = {"Applied", "Committed"}


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    """Open small worlds, with words of the project file replaced, and close them in the end."""
    opened = []

    def begin(world: SmallWorld, **replaced: str) -> SmallDriver:
        text = PROJECT_FILE.read_text("utf-8")
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "project.py"
        file.write_text(text, "utf-8")
        context = _opened(tmp_path / "home", world, file)
        driver = context.__enter__()
        opened.append(context)
        return driver

    yield begin
    for context in reversed(opened):
        context.__exit__(None, None, None)


@contextmanager
def _opened(home: Path, world: SmallWorld, file: Path) -> Iterator[SmallDriver]:
    clock = FrozenClock(START + timedelta(days=400))
    with Platform.open(Config(), home, clock=clock) as platform:
        driver = SmallDriver(platform, local_client(platform, Config()), world, clock, file)
        yield driver
        driver.engine.close()


def told(driver: SmallDriver) -> list[str]:
    """Tell the loop's facts in one line each: day of the endpoint's time, event, what matters."""
    lines = []
    for fact in driver.client.events(limit=10_000).facts:
        if fact.event in QUIET:
            continue
        body = fact.body
        who = body.get("version") or body.get("candidate") or ""
        how = body.get("outcome") or body.get("kind") or body.get("cause") or ""
        if fact.event == "RunOpened":
            how = body["trigger"].partition(":")[0]
        if fact.event in ("RolloutStarted", "RolloutAdvanced"):
            how = f"{how} {body['share']:.0%}".strip()
        lines.append(" ".join(f"{fact.event} {who} {how}".split()))
    return lines


def test_an_alarm_retrains_and_the_canary_is_promoted(drive: Drive) -> None:
    driver = drive(SmallWorld())

    driver.run(18)

    assert told(driver) == [
        "RunOpened first",
        "Registered 1",
        "RunClosed 1 finished",
        "Judged 1 pass",
        "Promoted 1 first",
        "Alarmed 1",
        "RunOpened alarm",
        "Registered 2",
        "RunClosed 2 finished",
        "Judged 2 pass",
        "RolloutStarted 2 canary 20%",
        "RolloutAdvanced 50%",
        "Promoted 2 canary",
        "RolloutCompleted",
        "AlarmEnded version_changed",
    ]
    assert driver.unanswered == 0
    assert driver.client.verify().ok


def test_an_earlier_version_comes_back_when_the_truth_turns_back(drive: Drive) -> None:
    driver = drive(SmallWorld(back_on=24))

    driver.run(34)

    lines = told(driver)
    # Version 2 was trained before the truth turned, like the first; 4 was trained after.
    restored = lines.index("RolloutStarted 2 restore 20%")
    assert lines[restored - 1] == "Judged 6 fail", "a verdict on another version is its gate"
    assert lines.index("Promoted 4 canary") < restored < lines.index("Promoted 2 restore")
    assert driver.client.endpoint(ENDPOINT).live == "2"
    assert driver.client.verify().ok


def test_a_candidate_that_fails_in_production_is_rolled_back_and_everybody_is_answered(
    drive: Drive,
) -> None:
    driver = drive(SmallWorld(turns_on=12), **{'ms.on_alarm("loss", retry="4d")': ""})
    driver.run(19)
    # Good offline, because it has seen the turned truth; its table ends with the days it knows.
    started = driver.client.start_run(ENDPOINT, ["days=3", "last_day=18"], token="planted")

    driver.run(22)

    lines = told(driver)
    version = started.run.version
    assert f"Judged {version} pass" in lines
    assert f"RolloutStarted {version} canary 20%" in lines
    assert f"RolledBack {version}" in lines
    ended = next(r for r in driver.client.endpoint(ENDPOINT).rollouts if r.candidate == version)
    assert ended.reason is not None
    assert "errors" in ended.reason
    assert driver.unanswered == 0


def test_a_rollout_that_stays_inconclusive_is_rolled_back_at_its_deadline(drive: Drive) -> None:
    # Guards so strict that nothing the traffic of four days brings can decide them.
    driver = drive(
        SmallWorld(),
        **{
            'ms.errors(0.05), ms.not_worse("log_loss", 0.1)': (
                'ms.errors(0.0001), ms.not_worse("log_loss", 0.0001)'
            ),
            'deadline="20d"': 'deadline="4d"',
        },
    )

    driver.run(21)

    lines = told(driver)
    assert "RolledBack 2" in lines
    reason = driver.client.endpoint(ENDPOINT).rollouts[0].reason
    assert reason is not None
    assert reason.startswith("inconclusive at the deadline")
    assert driver.client.endpoint(ENDPOINT).live == "1"


def test_an_approval_has_a_deadline_and_one_answer(drive: Drive) -> None:
    driver = drive(SmallWorld(), **{'deadline="20d",': 'deadline="20d", approval="2d",'})
    driver.run(16)
    report = driver.client.endpoint(ENDPOINT)
    assert "waits for an approval" in report.waiting

    with pytest.raises(Refused, match="gate says"):
        driver.client.promote(ENDPOINT, "9", "no such verdict", expect=report.seen)
    driver.client.answer_approval(ENDPOINT, "2", True, "seen the evidence", expect=report.seen)
    with pytest.raises((StaleSubject, Refused)):
        driver.client.answer_approval(ENDPOINT, "2", False, "too late", expect=report.seen)
    driver.run(17)

    lines = told(driver)
    assert lines.index("Approved 2") < lines.index("RolloutStarted 2 canary 20%")


def test_nobody_answers_an_approval(drive: Drive) -> None:
    driver = drive(SmallWorld(), **{'deadline="20d",': 'deadline="20d", approval="2d",'})

    driver.run(18)

    lines = told(driver)
    assert lines[lines.index("ApprovalAsked 2") + 1] == "Rejected 2"
    assert driver.client.endpoint(ENDPOINT).live == "1"


def test_promote_needs_the_gate_and_the_endpoint_as_it_was_read(drive: Drive) -> None:
    driver = drive(SmallWorld(), **{'deadline="20d",': 'deadline="20d", approval="9d",'})
    driver.run(16)
    seen = driver.client.endpoint(ENDPOINT).seen

    driver.client.promote(ENDPOINT, "2", "an incident", expect=seen)

    assert driver.client.endpoint(ENDPOINT).live == "2"
    with pytest.raises((StaleSubject, Refused)):
        driver.client.promote(ENDPOINT, "1", "as well", expect=seen)


def test_the_watermark_does_not_go_back(drive: Drive) -> None:
    driver = drive(SmallWorld())
    driver.run(9)
    before = told(driver)

    answer = driver.client.advance(ENDPOINT, START + 3 * DAY)

    assert answer.watermark == START + 9 * DAY
    assert told(driver) == before


def test_a_verdict_against_a_former_champion_is_spoken_anew(drive: Drive) -> None:
    driver = drive(SmallWorld())
    driver.run(9)
    stages = driver.platform.project("default").stages
    registered = stages.ledger.facts(events=["Registered"])[0].event
    judged = stages.ledger.facts(events=["Judged"])[0].event
    assert isinstance(registered, Registered)
    assert isinstance(judged, Judged)
    again = msgspec.structs.replace(registered, version="2")
    former = msgspec.structs.replace(
        judged, candidate="2", champion="0", verdict=stages.ids.new(), outcome="pass"
    )
    stages.ledger.append(stages.subject("model", ENDPOINT), again, actor="test")
    stages.ledger.append(stages.subject("version", f"{ENDPOINT}:2"), former, actor="test")

    driver.client.advance(ENDPOINT, START + 9 * DAY)

    assert told(driver)[-1] == "Judged 2 fail", "a copy of the champion is not better than it"
