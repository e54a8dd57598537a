"""`decide` as a table: a world, and the step it asks for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mainspring.core.ids import Digest, Id, Seq
from mainspring.loop.decide import decide, due, waiting
from mainspring.loop.spec import Canary, Endpoint, Label, cron, on_alarm
from mainspring.loop.steps import (
    AdvanceRollout,
    AskApproval,
    CloseRun,
    EndAlarm,
    Judge,
    LapseVerdict,
    OpenTraining,
    Promote,
    RaiseAlarm,
    RejectSilently,
    RollBack,
    StartRollout,
    StartRun,
    Step,
)
from mainspring.loop.world import (
    Candidate,
    Guards,
    Holdout,
    LastVerdict,
    LiveVersion,
    OpenAlarm,
    OpenRollout,
    OpenRun,
    Restorable,
    World,
)
from mainspring.monitoring.losses import Signal
from mainspring.monitoring.spec import Loss, errors, not_worse
from mainspring.validation.spec import Better, Gate

NOW = datetime(2013, 6, 15, tzinfo=UTC)
DAY = timedelta(days=1)
GUARDS = Digest("g" * 64)

ENDPOINT = Endpoint(
    name="delay",
    rows="schedules",
    request=("origin",),
    label=Label("late", source="landings"),
    pipeline="train",
    gate=Gate(floors={"auc": 0.6}, better=Better("log_loss", margin=0.005)),
    rollout=Canary(steps=(0.05, 0.25), guards=(errors(0.01), not_worse("log_loss", 0.02))),
    monitors=(Loss("log_loss", every="7d"),),
    retrain=(on_alarm("loss"), cron("0 3 1 * *")),
)
LIVE = LiveVersion("7", Digest("7" * 64), NOW - 40 * DAY)
QUIET = World(
    now=NOW,
    endpoint=ENDPOINT,
    seen=Seq(9),
    live=LIVE,
    run=None,
    candidate=None,
    restorable=None,
    rollout=None,
    alarms=(),
    signals=(),
    retrained=NOW - 14 * DAY,
    holdout=None,
    tried=frozenset(),
)
RUN = OpenRun(Id("r"), attempts=0, leased=False, expired=False)
PASSED = LastVerdict(Id("v"), "pass", "7", None, 9000, None)
UNSURE = LastVerdict(Id("v"), "inconclusive", "7", None, 9000, NOW + DAY)
CANDIDATE = Candidate(
    version="8",
    manifest=Digest("8" * 64),
    registered=Seq(5),
    until=NOW - 20 * DAY,
    verdict=None,
    rows_now=9000,
    approval="none",
    approval_deadline=None,
)
ROLLOUT = OpenRollout(
    rollout=Id("o"),
    candidate="8",
    manifest=Digest("8" * 64),
    verdict=Id("v"),
    kind="canary",
    step=0,
    stepped=NOW - 2 * DAY,
    deadline=NOW + 10 * DAY,
    guards=Guards("inconclusive", 0.1, "too little evidence", GUARDS),
)
ALARM = OpenAlarm(Id("a"), "loss", "7", NOW - 2 * DAY, NOW + 12 * DAY)
FIRING = Signal(
    monitor="loss",
    version="7",
    firing=True,
    quiet=False,
    message="loss above",
    evidence=1e7,
    threshold=1e6,
    since_us=0,
    digest=GUARDS,
)
INPUTS = Digest("i" * 64)
HELD = Holdout(9000, 9000, NOW - 20 * DAY, INPUTS)


def guarded(outcome: str, progress: float, **changes: object) -> OpenRollout:
    guards = Guards(outcome, progress, "so", GUARDS)  # type: ignore[arg-type]
    return replace(ROLLOUT, guards=guards, **changes)  # type: ignore[arg-type]


FIRST = replace(QUIET, live=None, retrained=None)
APPROVING = replace(
    QUIET, endpoint=Endpoint(**{
        **{f: getattr(ENDPOINT, f) for f in ENDPOINT.__struct_fields__},
        "rollout": Canary(steps=(0.05,), guards=(errors(0.01),), approval="3d"),
    })
)  # fmt: skip
LATE = replace(QUIET, alarms=(ALARM,))

TABLE: list[tuple[str, World, type[Step] | None, dict[str, object]]] = [
    ("settled", QUIET, None, {}),
    ("nothing to train on", FIRST, None, {}),
    ("first version", replace(FIRST, holdout=HELD), OpenTraining, {"trigger": "first"}),
    (
        "too few rows to hold back",
        replace(FIRST, holdout=Holdout(9000, 12, None, None)),
        None,
        {},
    ),
    (
        "the same inputs were tried",
        replace(LATE, holdout=HELD, tried=frozenset([INPUTS])),
        None,
        {},
    ),
    ("an alarm retrains", replace(LATE, holdout=HELD), OpenTraining, {"trigger": "alarm:a"}),
    (
        "a run since the alarm answers it",
        replace(LATE, retrained=NOW - DAY, holdout=HELD),
        None,
        {},
    ),
    (
        "a standing alarm asks again",
        replace(
            LATE,
            alarms=(replace(ALARM, opened=NOW - 20 * DAY),),
            retrained=NOW - 15 * DAY,
            holdout=HELD,
        ),
        OpenTraining,
        {"alarm": "a"},
    ),
    (
        "a tick since the last run",
        replace(QUIET, retrained=NOW - 20 * DAY, holdout=HELD),
        OpenTraining,
        {"trigger": "cron:2013-06-01T03:00:00+00:00"},
    ),
    (
        "a tick before the live version",
        replace(QUIET, retrained=None, live=replace(LIVE, since=NOW - DAY), holdout=HELD),
        None,
        {},
    ),
    ("a run starts", replace(QUIET, run=RUN), StartRun, {"run": "r"}),
    ("a leased run is left alone", replace(QUIET, run=replace(RUN, leased=True)), None, {}),
    (
        "a dead attempt is followed by another",
        replace(QUIET, run=replace(RUN, attempts=2)),
        StartRun,
        {},
    ),
    (
        "three dead attempts are enough",
        replace(QUIET, run=replace(RUN, attempts=3)),
        CloseRun,
        {"outcome": "failed"},
    ),
    (
        "a run's deadline, leased or not",
        replace(QUIET, run=replace(RUN, leased=True, expired=True)),
        CloseRun,
        {"outcome": "expired"},
    ),
    ("a candidate is judged", replace(QUIET, candidate=CANDIDATE), Judge, {"version": "8"}),
    (
        "without rows nothing is judged",
        replace(QUIET, candidate=replace(CANDIDATE, rows_now=0)),
        None,
        {},
    ),
    (
        "a verdict against another champion is spoken again",
        replace(QUIET, candidate=replace(CANDIDATE, verdict=replace(PASSED, champion="6"))),
        Judge,
        {},
    ),
    (
        "inconclusive waits",
        replace(QUIET, candidate=replace(CANDIDATE, verdict=UNSURE)),
        None,
        {},
    ),
    (
        "inconclusive is spoken again with more rows",
        replace(QUIET, candidate=replace(CANDIDATE, verdict=UNSURE, rows_now=12000)),
        Judge,
        {},
    ),
    (
        "inconclusive lapses at its deadline",
        replace(QUIET, candidate=replace(CANDIDATE, verdict=replace(UNSURE, deadline=NOW))),
        LapseVerdict,
        {"version": "8"},
    ),
    (
        "a pass starts a rollout",
        replace(QUIET, candidate=replace(CANDIDATE, verdict=PASSED)),
        StartRollout,
        {"kind": "canary", "share": 0.05, "deadline": NOW + 14 * DAY},
    ),
    (
        "the first version goes live on its verdict",
        replace(FIRST, candidate=replace(CANDIDATE, verdict=replace(PASSED, champion=None))),
        Promote,
        {"kind": "first", "rollout": None},
    ),
    (
        "a person is asked",
        replace(APPROVING, candidate=replace(CANDIDATE, verdict=PASSED)),
        AskApproval,
        {"deadline": NOW + 3 * DAY},
    ),
    (
        "an asked person has time",
        replace(
            APPROVING,
            candidate=replace(
                CANDIDATE, verdict=PASSED, approval="asked", approval_deadline=NOW + DAY
            ),
        ),
        None,
        {},
    ),
    (
        "nobody answered",
        replace(
            APPROVING,
            candidate=replace(CANDIDATE, verdict=PASSED, approval="asked", approval_deadline=NOW),
        ),
        RejectSilently,
        {},
    ),
    (
        "a person agreed",
        replace(APPROVING, candidate=replace(CANDIDATE, verdict=PASSED, approval="approved")),
        StartRollout,
        {},
    ),
    (
        "a kept version that beats the champion is restored",
        replace(QUIET, restorable=Restorable("1", Digest("1" * 64), Id("v"))),
        StartRollout,
        {"kind": "restore", "version": "1"},
    ),
    ("a rollout waits for evidence", replace(QUIET, rollout=ROLLOUT), None, {}),
    ("a guard fails", replace(QUIET, rollout=guarded("fail", 0.9)), RollBack, {"reason": "so"}),
    (
        "a failing guard does not wait for the hold",
        replace(QUIET, rollout=guarded("fail", 0.0, stepped=NOW)),
        RollBack,
        {},
    ),
    (
        "inconclusive at the deadline",
        replace(QUIET, rollout=replace(ROLLOUT, deadline=NOW)),
        RollBack,
        {},
    ),
    (
        "a pass that comes with the deadline is too late",
        replace(QUIET, rollout=guarded("pass", 1.0, step=1, deadline=NOW)),
        RollBack,
        {},
    ),
    (
        "half the evidence is half the way",
        replace(QUIET, rollout=guarded("inconclusive", 0.5)),
        AdvanceRollout,
        {"step": 1, "share": 0.25},
    ),
    (
        "a step is held",
        replace(QUIET, rollout=guarded("pass", 1.0, stepped=NOW - DAY / 2)),
        None,
        {},
    ),
    (
        "a pass goes through every step",
        replace(QUIET, rollout=guarded("pass", 1.0)),
        AdvanceRollout,
        {},
    ),
    (
        "a pass at the last step promotes",
        replace(QUIET, rollout=guarded("pass", 1.0, step=1)),
        Promote,
        {"kind": "canary", "rollout": "o", "version": "8"},
    ),
    (
        "a candidate waits for the rollout before it",
        replace(QUIET, rollout=ROLLOUT, candidate=CANDIDATE),
        None,
        {},
    ),
    (
        "a run goes on beside a rollout",
        replace(QUIET, rollout=ROLLOUT, run=RUN),
        StartRun,
        {},
    ),
    ("a monitor fires", replace(QUIET, signals=(FIRING,)), RaiseAlarm, {"signal": FIRING}),
    ("an open alarm is not raised twice", replace(LATE, signals=(FIRING,)), None, {}),
    (
        "no alarm without a live version",
        replace(FIRST, signals=(FIRING,)),
        None,
        {},
    ),
    (
        "quiet ends an alarm",
        replace(LATE, signals=(replace(FIRING, firing=False, quiet=True),)),
        EndAlarm,
        {"cause": "quiet"},
    ),
    (
        "another version ends an alarm",
        replace(LATE, live=replace(LIVE, version="8")),
        EndAlarm,
        {"cause": "version_changed"},
    ),
    (
        "an alarm does not stand for ever",
        replace(LATE, alarms=(replace(ALARM, deadline=NOW),)),
        EndAlarm,
        {"cause": "expired"},
    ),
]


@pytest.mark.parametrize(("world", "kind", "fields"), [row[1:] for row in TABLE],
                         ids=[row[0] for row in TABLE])  # fmt: skip
def test_a_world_asks_for_its_step(
    world: World, kind: type[Step] | None, fields: dict[str, object]
) -> None:
    step = decide(world)

    assert type(step) is (kind or type(None))
    for name, value in fields.items():
        assert getattr(step, name) == value


@pytest.mark.parametrize("world", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_world_says_what_it_waits_for(world: World) -> None:
    assert waiting(world)


def test_nothing_is_due_while_something_is_open() -> None:
    asking = replace(LATE, retrained=None)

    assert due(asking) is not None
    for busy in ({"run": RUN}, {"candidate": CANDIDATE}, {"rollout": ROLLOUT}):
        assert due(replace(asking, **busy)) is None
