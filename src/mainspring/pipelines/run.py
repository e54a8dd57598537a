"""What a run is, how it is reported, and what it asks of tracking and registry."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from mainspring.core.clock import Instant
from mainspring.core.events import Fact, RunClosed
from mainspring.core.ids import Digest, Id, Seq
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mainspring.store.ledger import Draft


class TrackedRuns(Protocol):
    """The tracked run behind each pipeline run; its writes join the caller's transaction."""

    def create(self, connection: "Connection", run: Id, *, name: str, at: Instant) -> None: ...

    def record(
        self,
        connection: "Connection",
        run: Id,
        *,
        params: Mapping[str, str],
        metrics: Sequence[tuple[str, float, int, datetime]],
        tags: Mapping[str, str],
        artifacts: Sequence[tuple[str, Digest, int]],
    ) -> None: ...

    def end(self, connection: "Connection", run: Id, *, status: str, at: Instant) -> None: ...

    def digest(self, run: Id) -> Digest: ...


class ModelDrafts(Protocol):
    """Checks a model folder and drafts its registration under the next number."""

    def registration(
        self,
        *,
        model: str,
        manifest: Digest,
        run: Id | None,
        until: Instant | None,
        as_of: Instant | None,
        pins: Mapping[str, int],
        cause: Seq | None,
    ) -> "Draft": ...


class ModelFile(msgspec.Struct, frozen=True):
    """The model folder that came of a run, and the model it becomes a version of."""

    name: str
    manifest: Digest


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended."""

    outcome: Literal["finished", "failed"]
    message: str = ""
    model: ModelFile | None = None


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the ledger knows it."""

    run: Id
    pipeline: str
    endpoint: str | None
    trigger: str
    parameters: dict[str, Any]
    until: datetime | None
    as_of: datetime | None
    pins: dict[str, int]
    inputs: Digest
    holdout_rows: int
    opened: datetime
    opened_seq: Seq
    deadline: datetime
    state: Literal["open", "finished", "failed", "expired", "cancelled"]
    version: str | None
    message: str
    attempt: int
    records: Digest | None
    closed: datetime | None
    closed_seq: Seq | None


class OpenRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that waits for its end, as the loop looks at it."""

    run: Id
    attempts: int
    """How many have begun."""
    leased: bool
    """Whether one of them is alive."""
    deadline: datetime


class Closed(msgspec.Struct, frozen=True):
    """The facts that closed a run."""

    facts: tuple[Fact, ...]

    @property
    def version(self) -> str | None:
        """The model version that came of it."""
        event = self.facts[-1].event
        return event.version if isinstance(event, RunClosed) else None


class RunReports(Protocol):
    """How a run process reports, in memory or over the wire; every call may be repeated.

    All but `step_outputs` raise StaleToken once the attempt is over.
    """

    def step_outputs(self, key: Digest) -> StepOutputs | None: ...

    def record_step(self, *, key: Digest, step: str, outputs: StepOutputs) -> None: ...

    def log(self, logged: Logged) -> None: ...

    def renew(self) -> None: ...

    def finish(self, report: RunReport) -> Closed: ...
