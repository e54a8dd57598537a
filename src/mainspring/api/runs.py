"""Verbs of pipeline runs: start, look, follow and cancel, and what a running attempt reports."""

from importlib.metadata import version
from typing import Any

import msgspec

from mainspring.api import attempts
from mainspring.api.attempts import (
    Close,
    Done,
    Held,
    Log,
    Named,
    Renewed,
    RunSources,
    StepDone,
    StepKey,
    StepKnown,
)
from mainspring.api.verb import LARGEST, Answer, Call, Request, Verb, bounded
from mainspring.core.errors import InvalidInput, Refused
from mainspring.core.ids import Id
from mainspring.governance.comparison import Comparison, compare
from mainspring.loop.driver import LONGEST_WAIT_S
from mainspring.loop.observe import endpoint_now
from mainspring.loop.rows import row_sources
from mainspring.loop.state import endpoint
from mainspring.loop.training import open_by_hand
from mainspring.pipelines.log import read_log
from mainspring.pipelines.run import Closed, RunRow
from mainspring.tracking.run import TrackedRun

RUNS_AT_MOST = 10_000
LOG_BYTES_AT_LEAST = 64
LOG_BYTES_AT_MOST = 1 << 20


class Start(Request, frozen=True, kw_only=True):
    """Train a candidate for an endpoint now."""

    endpoint: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    token: str | None = None
    """The same token again starts no second run."""
    wait_s: float = 30.0
    """How long the answer may wait until the loop is settled, 0 to 60."""


class Started(Answer, frozen=True, kw_only=True):
    """The run as it stands; with `settled` nothing more happens until something new is known."""

    run: RunRow
    waiting: str
    error: str | None
    settled: bool


class Listed(Request, frozen=True, kw_only=True):
    """Runs, of one endpoint or of all."""

    endpoint: str | None = None
    limit: int = 100


class Runs(Answer, frozen=True, kw_only=True):
    runs: tuple[RunRow, ...]


class RunDetail(Answer, frozen=True, kw_only=True):
    """A run and its tracked record."""

    run: RunRow
    tracked: TrackedRun


class Two(Request, frozen=True, kw_only=True):
    """Two runs, of pipelines or of mlflow's clients."""

    run: Id
    other: Id


class Cancel(Request, frozen=True, kw_only=True):
    """End an open run without a result."""

    run: Id
    comment: str


class Output(Request, frozen=True, kw_only=True):
    """A part of a run's log; `offset` is a byte, 0 or the last answer's `next`."""

    run: Id
    offset: int = 0
    limit: int = 1 << 16


class OutputLines(Answer, frozen=True, kw_only=True):
    """Whole lines of a log.

    With `ended` the run is closed and nothing is left to read.
    """

    lines: tuple[str, ...]
    next: int
    ended: bool


def start(call: Call, request: Start) -> Started:
    """Open a run by hand and let the loop take it from there."""
    wait_s = waiting_time(request.wait_s)
    stages = call.project.stages
    with stages.database.read() as connection:
        spec = endpoint(connection, stages.project, request.endpoint)
    driver = call.project.driver
    # Whether a run of this token, or any other, is open is asked and answered in one turn.
    with driver.turn(request.endpoint):
        run = open_by_hand(
            stages,
            request.endpoint,
            endpoint_now(stages, spec),
            parameters=request.parameters,
            token=request.token or stages.ids.new(),
            actor=call.actor,
        )
    settled = driver.settle(request.endpoint, wait_s=wait_s)
    return Started(
        run=stages.runs.get(run),
        waiting=settled.waiting,
        error=settled.error,
        settled=settled.at_rest,
    )


def waiting_time(wait_s: float) -> float:
    """Give a waiting time back, if it is one that can be."""
    if not 0.0 <= wait_s <= LONGEST_WAIT_S:
        raise InvalidInput(f"wait_s {wait_s}: expected 0 to {LONGEST_WAIT_S:g}")
    return wait_s


def list_runs(call: Call, request: Listed) -> Runs:
    """List runs, newest first."""
    limit = bounded("limit", request.limit, 1, RUNS_AT_MOST)
    found = call.project.stages.runs.list(endpoint=request.endpoint, limit=limit)
    return Runs(runs=tuple(found))


def show(call: Call, request: Named) -> RunDetail:
    """Show a run: what it read, logged and made."""
    row = call.project.stages.runs.get(request.run)
    return RunDetail(run=row, tracked=call.project.tracking.get(request.run))


def diff(call: Call, request: Two) -> Comparison:
    """Say what two runs differ in."""
    return compare(call.project.stages, call.project.tracking, request.run, request.other)


def cancel(call: Call, request: Cancel) -> RunDetail:
    """Close an open run as cancelled and stop its process; what it has not reported is lost."""
    stages, comment = call.project.stages, request.comment.strip()
    if not comment:
        raise InvalidInput(f"run {request.run}: found no comment; say why it is cancelled")
    row = stages.runs.get(request.run)
    stages.runs.give_up(request.run, outcome="cancelled", message=comment, actor=call.actor)
    ended = stages.runs.get(request.run)
    if ended.state != "cancelled":
        raise Refused(f"run {request.run}: is over already ({ended.state}); nothing was changed")
    stages.stop_run(request.run)
    if row.endpoint is not None:
        call.project.driver.wake(row.endpoint)
    return show(call, Named(project=request.project, run=request.run))


def output(call: Call, request: Output) -> OutputLines:
    """Give whole lines of a run's log from an offset on."""
    offset = bounded("offset", request.offset, 0, LARGEST)
    limit = bounded("limit", request.limit, LOG_BYTES_AT_LEAST, LOG_BYTES_AT_MOST)
    # Asked before the file is read: what the run wrote before its end is then there.
    over = call.project.stages.runs.get(request.run).state != "open"
    file = call.platform.home.runs(call.project.name) / f"{request.run}.log"
    read = read_log(file, offset, limit, over=over)
    return OutputLines(lines=read.lines, next=read.next, ended=over and read.at_end)


# --- what an attempt asks and reports


def sources(call: Call, request: Named) -> RunSources:
    """Give what an attempt needs: the applied code, and what its rows are made from."""
    stages = call.project.stages
    row, applied = stages.runs.get(request.run), call.project.applied()
    models, aliases = stages.registry.references()
    return RunSources(
        mainspring=version("mainspring"),
        run=row,
        source=applied.source,
        bundle=applied.bundle,
        code=applied.code,
        rows=row_sources(stages, row.pins),
        lease_s=call.project.lease_s,
        models=models,
        aliases=aliases,
    )


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
    closed = call.project.stages.runs.close(
        request.run, token=request.token, report=request.report, actor=call.actor
    )
    _wake(call, request.run)
    return closed


def leave(call: Call, request: Held) -> Done:
    """End an attempt and not its run."""
    call.project.stages.runs.leave(request.run, token=request.token)
    _wake(call, request.run)
    return Done()


def _wake(call: Call, run: Id) -> None:
    endpoint = call.project.stages.runs.get(run).endpoint
    if endpoint is not None:
        call.project.driver.wake(endpoint)


START = Verb("run.start", "POST", "run", "start", Start, Started, start)
LIST = Verb("run.list", "GET", "run", "read", Listed, Runs, list_runs)
SHOW = Verb("run.show", "GET", "run", "read", Named, RunDetail, show)
DIFF = Verb("run.diff", "GET", "run", "read", Two, Comparison, diff)
CANCEL = Verb("run.cancel", "POST", "run", "cancel", Cancel, RunDetail, cancel)
OUTPUT = Verb("run.output", "GET", "run", "read", Output, OutputLines, output)
SOURCES = Verb.answering(attempts.SOURCES, sources)
RENEW = Verb.answering(attempts.RENEW, renew)
STEP_KNOWN = Verb.answering(attempts.STEP_KNOWN, step_known)
STEP_DONE = Verb.answering(attempts.STEP_DONE, step_done)
LOG = Verb.answering(attempts.LOG, log)
LEAVE = Verb.answering(attempts.LEAVE, leave)
CLOSE = Verb.answering(attempts.CLOSE, close)
