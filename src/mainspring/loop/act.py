"""Do one step: append its facts under what the world was seen to be, and what follows from them."""

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from sqlalchemy import Connection

from mainspring.core.errors import StaleSubject
from mainspring.core.events import (
    ApprovalAsked,
    Fact,
    Promoted,
    Rejected,
    RolledBack,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutStarted,
    VerdictLapsed,
)
from mainspring.core.ids import Digest, Id, Seq, digest_of
from mainspring.loop import state
from mainspring.loop.judge import judge_candidate
from mainspring.loop.routes import publish_routes
from mainspring.loop.stages import ACTOR, Stages
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
from mainspring.loop.training import open_training
from mainspring.loop.world import World
from mainspring.store.ledger import Draft


def act(stages: Stages, world: World, step: Step) -> None:
    """Do a step that `decide` named for this world.

    Raises:
        StaleSubject: Somebody else moved the endpoint meanwhile; look again.
    """
    name = world.endpoint.name
    match step:
        case RaiseAlarm(signal, deadline):
            stages.monitoring.open_alarm(
                name, signal, opened=world.now, deadline=deadline, actor=ACTOR
            )
        case EndAlarm(alarm, _, cause):
            stages.monitoring.end_alarm(alarm, cause, at=world.now, actor=ACTOR)
        case OpenTraining():
            _open_training(stages, world, step)
        case StartRun(run):
            stages.start_run(run)
        case CloseRun(run, outcome, reason):
            stages.runs.give_up(run, outcome=outcome, message=reason, actor=ACTOR)
            stages.stop_run(run)
        case Judge(version):
            _judge(stages, world, version)
        case LapseVerdict() | AskApproval() | RejectSilently():
            _wait_or_end(stages, world, step)
        case StartRollout() | AdvanceRollout() | RollBack() | Promote():
            _roll(stages, world, step)
            publish_routes(stages)
        case _:
            assert_never(step)


def _open_training(stages: Stages, world: World, step: OpenTraining) -> None:
    cause = None
    if step.alarm is not None:
        cause = stages.ledger.newest(stages.subject("alarm", step.alarm))
    open_training(
        stages,
        world.endpoint,
        world.now,
        trigger=step.trigger,
        until=step.until,
        holdout_rows=step.holdout_rows,
        inputs=step.inputs,
        cause=cause,
    )


def _judge(stages: Stages, world: World, version: str) -> None:
    judged = judge_candidate(stages, world.endpoint, version, now=world.now)
    assert world.candidate is not None
    subject = stages.subject("version", f"{world.endpoint.name}:{version}")
    stages.ledger.append(
        subject,
        judged,
        actor=ACTOR,
        expect=stages.ledger.newest(subject),
        cause=world.candidate.registered,
    )


def _wait_or_end(
    stages: Stages, world: World, step: LapseVerdict | AskApproval | RejectSilently
) -> None:
    name = world.endpoint.name
    endpoint = stages.subject("endpoint", name)
    cause = _verdict_fact(stages, step.verdict)
    match step:
        case LapseVerdict(verdict, version):
            lapsed = VerdictLapsed(verdict=verdict, endpoint=name, candidate=version)
            subject = stages.subject("version", f"{name}:{version}")
            stages.ledger.append(subject, lapsed, actor=ACTOR, cause=cause)
        case AskApproval(version, verdict, deadline):
            asked = ApprovalAsked(
                endpoint=name, candidate=version, verdict=verdict, deadline=deadline
            )
            stages.ledger.append(endpoint, asked, actor=ACTOR, expect=world.seen, cause=cause)
        case RejectSilently(version, verdict):
            rejected = Rejected(
                endpoint=name,
                candidate=version,
                verdict=verdict,
                comment="nobody answered before the deadline",
            )
            stages.ledger.append(endpoint, rejected, actor=ACTOR, expect=world.seen, cause=cause)


def _roll(
    stages: Stages, world: World, step: StartRollout | AdvanceRollout | RollBack | Promote
) -> None:
    match step:
        case StartRollout():
            _start_rollout(stages, world, step)
        case AdvanceRollout(rollout, number, share):
            advanced = RolloutAdvanced(
                rollout=rollout,
                endpoint=world.endpoint.name,
                step=number,
                share=share,
                at=world.now,
            )
            subject = stages.subject("rollout", rollout)
            seen = stages.ledger.newest(subject)
            stages.ledger.append(subject, advanced, actor=ACTOR, expect=seen, cause=seen)
        case RollBack(rollout, candidate, reason, guards):
            end_rollout(
                stages,
                world.endpoint.name,
                rollout,
                candidate,
                reason,
                guards,
                at=world.now,
                actor=ACTOR,
            )
        case Promote():
            _promote(stages, world, step)


def end_rollout(
    stages: Stages,
    endpoint: str,
    rollout: str,
    candidate: str,
    reason: str,
    guards: Digest,
    *,
    at: datetime,
    actor: str,
) -> Fact:
    """End a rollout with the live version kept."""
    subject = stages.subject("rollout", rollout)
    seen = stages.ledger.newest(subject)
    event = RolledBack(
        rollout=Id(rollout),
        endpoint=endpoint,
        candidate=candidate,
        reason=reason,
        guards=guards,
        at=at,
    )
    return stages.ledger.append(subject, event, actor=actor, expect=seen, cause=seen)


def _start_rollout(stages: Stages, world: World, step: StartRollout) -> None:
    assert world.live is not None
    live = world.live.version
    started = RolloutStarted(
        rollout=stages.ids.new(),
        endpoint=world.endpoint.name,
        candidate=step.version,
        live=live,
        verdict=step.verdict,
        kind=step.kind,
        share=step.share,
        started=world.now,
        deadline=step.deadline,
    )

    def still_so(connection: Connection) -> None:
        # A rollout is a subject of its own, so the endpoint's state is checked by hand.
        name = world.endpoint.name
        now_live = state.live_version(connection, stages.project, name)
        if now_live is None or now_live.version != live:
            raise StaleSubject(f"endpoint {name!r}: version {live} is no longer live; read again")
        if state.open_rollout(connection, stages.project, name) is not None:
            raise StaleSubject(f"endpoint {name!r}: a rollout is open already; read it again")

    draft = Draft(
        subject=stages.subject("rollout", started.rollout),
        event=started,
        expect=Seq(0),
        cause=_verdict_fact(stages, step.verdict),
    )
    stages.ledger.append_all([draft], actor=ACTOR, also=still_so)


def _promote(stages: Stages, world: World, step: Promote) -> None:
    promoted = Promoted(
        endpoint=world.endpoint.name,
        version=step.version,
        manifest=step.manifest,
        before=None if world.live is None else world.live.version,
        verdict=step.verdict,
        rollout=step.rollout,
        kind=step.kind,
        at=world.now,
    )
    endpoint = stages.subject("endpoint", world.endpoint.name)
    cause = _verdict_fact(stages, step.verdict)
    drafts: Sequence[Draft] = []
    if step.rollout is not None:
        subject = stages.subject("rollout", step.rollout)
        cause = stages.ledger.newest(subject)
        completed = RolloutCompleted(
            rollout=step.rollout,
            endpoint=world.endpoint.name,
            reason=step.reason,
            guards=step.guards or digest_of([]),
        )
        drafts = [Draft(subject, completed, expect=cause, cause=cause)]
    stages.ledger.append_all(
        [Draft(endpoint, promoted, expect=world.seen, cause=cause), *drafts], actor=ACTOR
    )


def _verdict_fact(stages: Stages, verdict: str) -> Seq:
    with stages.database.read() as connection:
        return Seq(state.verdict(connection, verdict).seq)
