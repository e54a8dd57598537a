"""What a running attempt asks and reports; each report names its token: an orphan is refused."""

from datetime import datetime
from typing import Any

from mainspring.api.verb import Answer, Question, Request
from mainspring.core.ids import Digest, Id
from mainspring.loop.sources import RowSources
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import Closed, RunReport, RunRow


class Named(Request, frozen=True, kw_only=True):
    """A run by its id."""

    run: Id


class RunSources(Answer, frozen=True, kw_only=True):
    """All that an attempt must know to do its work.

    Attributes:
        mainspring: Version of the platform; an attempt of another would report in another form.
        source: The project file, among the files of `bundle`.
        code: State of the repository from which the declaration was applied.
        lease_s: How long an attempt may be silent.
        models: Folder of each version, by `models:/name/version`.
        aliases: The version each alias names now, by `models:/name@alias`.
    """

    mainspring: str
    run: RunRow
    source: str
    bundle: Digest
    code: dict[str, Any] | None
    rows: RowSources
    lease_s: float
    models: dict[str, Digest]
    aliases: dict[str, str]


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
    """The end of the run."""

    report: RunReport


class Done(Answer, frozen=True, kw_only=True):
    """The report was taken."""


SOURCES = Question("run.sources", "GET", "run", "report", Named, RunSources)
RENEW = Question("run.renew", "POST", "run", "report", Held, Renewed)
STEP_KNOWN = Question("run.step", "GET", "run", "report", StepKey, StepKnown)
STEP_DONE = Question("run.record", "POST", "run", "report", StepDone, Done)
LOG = Question("run.log", "POST", "run", "report", Log, Done)
LEAVE = Question("run.leave", "POST", "run", "report", Held, Done)
CLOSE = Question("run.close", "POST", "run", "report", Close, Closed)
