"""Verbs of pipeline runs: start and look, and what a running attempt reports."""

from datetime import datetime
from typing import Any

import msgspec

from mainspring.api.verb import Answer, Call, Request, Verb, bounded
from mainspring.core.ids import Digest, Id
from mainspring.loop.observe import endpoint_now
from mainspring.loop.run import settle
from mainspring.loop.state import endpoint
from mainspring.loop.training import open_by_hand
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import Closed, RunReport, RunRow
from mainspring.tracking.run import TrackedRun

RUNS_AT_MOST = 10_000


class Start(Request, frozen=True, kw_only=True):
    """Train a candidate for an endpoint now."""

    endpoint: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    token: str | None = None
    """The same token again starts no second run."""


class Started(Answer, frozen=True, kw_only=True):
    """The run as it stands once the loop has settled."""

    run: RunRow
    waiting: str
    error: str | None


class Listed(Request, frozen=True, kw_only=True):
    """Runs, of one endpoint or of all."""

    endpoint: str | None = None
    limit: int = 100


class Runs(Answer, frozen=True, kw_only=True):
    runs: tuple[RunRow, ...]


class Named(Request, frozen=True, kw_only=True):
    """A run by its id."""

    run: Id


class RunDetail(Answer, frozen=True, kw_only=True):
    """A run and its tracked record."""

    run: RunRow
    tracked: TrackedRun


def start(call: Call, request: Start) -> Started:
    """Open a run by hand and let the loop take it from there."""
    stages = call.project.stages
    with stages.database.read() as connection:
        spec = endpoint(connection, stages.project, request.endpoint)
    run = open_by_hand(
        stages,
        request.endpoint,
        endpoint_now(stages, spec),
        parameters=request.parameters,
        token=request.token or stages.ids.new(),
        actor=call.actor,
    )
    settled = settle(stages, request.endpoint)
    return Started(run=stages.runs.get(run), waiting=settled.waiting, error=settled.error)


def list_runs(call: Call, request: Listed) -> Runs:
    """List runs, newest first."""
    limit = bounded("limit", request.limit, 1, RUNS_AT_MOST)
    found = call.project.stages.runs.list(endpoint=request.endpoint, limit=limit)
    return Runs(runs=tuple(found))


def show(call: Call, request: Named) -> RunDetail:
    """Show a run: what it read, logged and made."""
    row = call.project.stages.runs.get(request.run)
    return RunDetail(run=row, tracked=call.project.tracking.get(request.run))


# --- what an attempt reports; each names its token, so that an orphan is refused


class Lease(Request, frozen=True, kw_only=True):
    """Begin the next attempt at an open run."""

    run: Id
    owner: str


class Leased(Answer, frozen=True, kw_only=True):
    """The attempt's token, and everything it must know of the run."""

    token: str
    attempt: int
    ends: datetime
    run: RunRow


class Held(Request, frozen=True, kw_only=True):
    """A running attempt."""

    run: Id
    token: str


class Renewed(Answer, frozen=True, kw_only=True):
    ends: datetime


class StepKey(Request, frozen=True, kw_only=True):
    """A step by the digest of all that goes into it."""

    key: Digest


class StepKnown(Answer, frozen=True, kw_only=True):
    outputs: StepOutputs | None


class StepDone(Held, frozen=True, kw_only=True):
    """A step's outputs under its key."""

    key: Digest
    step: str
    outputs: StepOutputs


class Log(Held, frozen=True, kw_only=True):
    """What the attempt notes in its run."""

    logged: Logged


class Close(Held, frozen=True, kw_only=True):
    """The end of the attempt."""

    report: RunReport


class Done(Answer, frozen=True, kw_only=True):
    """The report was taken."""


def lease(call: Call, request: Lease) -> Leased:
    """Begin the next attempt at an open run."""
    runs = call.project.stages.runs
    held = runs.lease(request.run, owner=request.owner)
    return Leased(token=held.token, attempt=held.attempt, ends=held.ends, run=runs.get(request.run))


def renew(call: Call, request: Held) -> Renewed:
    """Say that the attempt is alive."""
    return Renewed(ends=call.project.stages.runs.renew(request.run, token=request.token))


def step_known(call: Call, request: StepKey) -> StepKnown:
    """Give what a step of this key gave before, in whichever run."""
    return StepKnown(outputs=call.project.stages.runs.step_outputs(request.key))


def step_done(call: Call, request: StepDone) -> Done:
    """Keep a step's outputs and what it logged: both or neither."""
    call.project.stages.runs.record_step(
        request.run,
        token=request.token,
        key=request.key,
        step=request.step,
        outputs=request.outputs,
    )
    return Done()


def log(call: Call, request: Log) -> Done:
    """Log to the run."""
    call.project.stages.runs.log(request.run, token=request.token, logged=request.logged)
    return Done()


def close(call: Call, request: Close) -> Closed:
    """Close the run: the model's registration and the end, in one append."""
    return call.project.stages.runs.close(
        request.run, token=request.token, report=request.report, actor=call.actor
    )


START = Verb("run.start", "POST", "run", "start", Start, Started, start)
LIST = Verb("run.list", "GET", "run", "read", Listed, Runs, list_runs)
SHOW = Verb("run.show", "GET", "run", "read", Named, RunDetail, show)
LEASE = Verb("run.lease", "POST", "run", "report", Lease, Leased, lease)
RENEW = Verb("run.renew", "POST", "run", "report", Held, Renewed, renew)
STEP_KNOWN = Verb("run.step", "GET", "run", "report", StepKey, StepKnown, step_known)
STEP_DONE = Verb("run.record", "POST", "run", "report", StepDone, Done, step_done)
LOG = Verb("run.log", "POST", "run", "report", Log, Done, log)
CLOSE = Verb("run.close", "POST", "run", "report", Close, Closed, close)
