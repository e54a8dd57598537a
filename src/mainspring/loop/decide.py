"""Name the next step of an endpoint's loop: pure, closed, one step per pass.

Level decides: the same world always gives the same step, whatever led to it. A step that has
been taken changes the world so that it is not named again.
"""

from dataclasses import dataclass
from typing import Literal

from mainspring.core.clock import duration
from mainspring.core.ids import Digest, Id
from mainspring.loop.spec import Cron, OnAlarm
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
from mainspring.loop.world import Candidate, OpenRollout, OpenRun, World

ALARM_LIFE = "14d"
"""An alarm that is neither quiet nor answered by a new version ends after this: its monitor starts
afresh, so that another alarm rests on what came since instead of the first standing for ever."""

MORE_ROWS = 1.25
"""An inconclusive gate speaks again once it has this many times the rows."""


@dataclass(frozen=True, slots=True)
class Due:
    """A trigger that asks for a run now."""

    trigger: str
    alarm: Id | None


def decide(world: World) -> Step | None:
    """Name the next step, or none when the loop is settled."""
    step = _alarms(world) or _run(world)
    if step is not None:
        return step
    if world.rollout is not None:
        return _rollout(world, world.rollout)
    if world.restorable is not None and world.live is not None:
        found = world.restorable
        return _start(world, found.version, found.manifest, found.verdict, "restore")
    if world.candidate is not None:
        return _candidate(world, world.candidate)
    return _training(world)


def due(world: World) -> Due | None:
    """Name the trigger that asks for a run, whether or not there are rows enough for one."""
    if world.run or world.candidate or world.rollout or world.restorable:
        return None
    if world.live is None:
        return Due("first", None)
    for trigger in world.endpoint.retrain:
        match trigger:
            case OnAlarm():
                found = _asking(world, trigger)
            case Cron():
                tick = trigger.last_tick(world.now)
                answered = max(world.retrained or tick, world.live.since)
                found = Due(f"cron:{tick.isoformat()}", None) if tick > answered else None
        if found is not None:
            return found
    return None


def waiting(world: World) -> str:
    """Say in a sentence what a settled loop waits for."""
    match world:
        case World(rollout=OpenRollout() as rollout):
            return (
                f"rollout of version {rollout.candidate} at step {rollout.step + 1}: "
                f"{rollout.guards.reason}; rolled back at {rollout.deadline.isoformat()}"
            )
        case World(candidate=Candidate(approval="asked") as candidate):
            return f"version {candidate.version} waits for an approval"
        case World(candidate=Candidate(verdict=None) as candidate):
            return f"version {candidate.version} waits for labelled rows to be judged on"
        case World(candidate=Candidate() as candidate):
            return f"the gate on version {candidate.version} is inconclusive"
        case World(run=OpenRun() as run):
            return f"run {run.run} is under way"
    asked = due(world)
    if asked is not None and world.holdout is not None:
        if world.holdout.until is None:
            return (
                f"{asked.trigger} asks for a run, which needs {world.holdout.needed} newest "
                f"labelled rows held back; there are {world.holdout.available}"
            )
        return f"{asked.trigger} asks for a run that was already tried with the same inputs"
    return "nothing to do: no trigger is due"


def _alarms(world: World) -> Step | None:
    live = world.live.version if world.live else None
    firing = {signal.monitor: signal for signal in world.signals}
    for alarm in world.alarms:
        signal = firing.pop(alarm.monitor, None)
        if alarm.version != live:
            return EndAlarm(alarm.alarm, alarm.monitor, "version_changed")
        if signal is not None and signal.quiet:
            return EndAlarm(alarm.alarm, alarm.monitor, "quiet")
        if world.now >= alarm.deadline:
            return EndAlarm(alarm.alarm, alarm.monitor, "expired")
    for signal in firing.values():
        if signal.firing and live is not None:
            return RaiseAlarm(signal, world.now + duration(ALARM_LIFE))
    return None


def _rollout(world: World, rollout: OpenRollout) -> Step | None:
    plan, guards = world.endpoint.rollout, rollout.guards
    if guards.outcome == "fail":
        return RollBack(rollout.rollout, rollout.candidate, guards.reason, guards.digest)
    if world.now >= rollout.deadline:
        reason = f"inconclusive at the deadline {rollout.deadline.isoformat()}: {guards.reason}"
        return RollBack(rollout.rollout, rollout.candidate, reason, guards.digest)
    if world.now < rollout.stepped + duration(plan.hold):
        return None
    following = rollout.step + 1
    if following < len(plan.steps):
        if guards.progress * len(plan.steps) < following:
            return None
        return AdvanceRollout(rollout.rollout, following, plan.steps[following])
    if guards.outcome != "pass":
        return None
    return Promote(
        rollout.candidate,
        rollout.manifest,
        rollout.verdict,
        rollout.rollout,
        rollout.kind,
        guards.reason,
        guards.digest,
    )


def _candidate(world: World, candidate: Candidate) -> Step | None:
    verdict = candidate.verdict
    live = world.live.version if world.live else None
    if verdict is None or (verdict.champion != live and candidate.approval == "none"):
        return Judge(candidate.version) if candidate.rows_now > 0 else None
    if verdict.outcome == "inconclusive":
        if verdict.deadline is not None and world.now >= verdict.deadline:
            return LapseVerdict(verdict.verdict, candidate.version)
        grown = candidate.rows_now >= MORE_ROWS * max(verdict.rows, 1)
        return Judge(candidate.version) if grown else None
    return _agreed(world, candidate, verdict.verdict)


def _agreed(world: World, candidate: Candidate, verdict: Id) -> Step | None:
    version, manifest = candidate.version, candidate.manifest
    if world.live is None:
        reason = "the first version that passed the gate"
        return Promote(version, manifest, verdict, None, "first", reason, None)
    patience = world.endpoint.rollout.approval
    if patience is not None and candidate.approval == "none":
        return AskApproval(version, verdict, world.now + duration(patience))
    if candidate.approval == "asked":
        late = candidate.approval_deadline is not None and world.now >= candidate.approval_deadline
        return RejectSilently(version, verdict) if late else None
    return _start(world, version, manifest, verdict, "canary")


def _start(
    world: World, version: str, manifest: Digest, verdict: Id, kind: Literal["canary", "restore"]
) -> StartRollout:
    plan = world.endpoint.rollout
    deadline = world.now + duration(plan.deadline)
    return StartRollout(version, manifest, verdict, kind, plan.steps[0], deadline)


def _run(world: World) -> Step | None:
    run = world.run
    if run is None:
        return None
    if run.expired:
        return CloseRun(run.run, "expired", "its deadline has passed")
    if run.leased:
        return None
    if run.attempts >= world.endpoint.attempts:
        reason = f"{run.attempts} attempts ended without a report"
        return CloseRun(run.run, "failed", reason)
    return StartRun(run.run)


def _training(world: World) -> Step | None:
    asked = due(world)
    held = world.holdout
    if asked is None or held is None or held.until is None or held.inputs is None:
        return None
    if held.inputs in world.tried:
        return None
    return OpenTraining(asked.trigger, asked.alarm, held.until, held.needed, held.inputs)


def _asking(world: World, trigger: OnAlarm) -> Due | None:
    for alarm in world.alarms:
        if alarm.monitor != trigger.monitor:
            continue
        # A run of any trigger since the alarm opened has done what it asks for.
        asked = world.retrained
        if asked is None or asked < alarm.opened or world.now >= asked + duration(trigger.retry):
            return Due(f"alarm:{alarm.alarm}", alarm.alarm)
    return None
