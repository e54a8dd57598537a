"""What a step may ask of the run it works in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core.clock import Clock, Instant
from mainspring.core.ids import Digest, Id

if TYPE_CHECKING:
    import polars as pl

    from mainspring.store.blobs import Blobs

Rows = Callable[[str, Instant], "pl.DataFrame"]
"""Training rows of an endpoint before an instant, from pinned dataset versions."""

RowsDigest = Callable[[str], Digest]
"""Digest of what an endpoint's rows come from: pins, declaration and as-of instant."""

Models = Callable[[str], tuple[str, Digest]]
"""From a reference such as `models:/fare@champion` to the pinned version and its folder."""


class Metric(msgspec.Struct, frozen=True):
    """One point of a metric's series."""

    key: str
    value: float
    step: int
    at: datetime


class LoggedFile(msgspec.Struct, frozen=True):
    """An artifact of a run: a path that leads to a blob."""

    path: str
    digest: Digest
    size_bytes: int


class ModelNote(msgspec.Struct, frozen=True):
    """A model folder logged in a step; without a name it takes that of the run it is used in."""

    name: str | None
    manifest: Digest


class Logged(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece of work noted in its run; kept with the step so that a repeat notes it again."""

    params: dict[str, str] = {}
    metrics: tuple[Metric, ...] = ()
    tags: dict[str, str] = {}
    artifacts: tuple[LoggedFile, ...] = ()
    models: tuple[ModelNote, ...] = ()


@dataclass(slots=True)
class Notes:
    """Collects what one step logs, until the step ends."""

    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: list[LoggedFile] = field(default_factory=list)
    models: list[ModelNote] = field(default_factory=list)

    def logged(self) -> Logged:
        return Logged(
            params=dict(self.params),
            metrics=tuple(self.metrics),
            tags=dict(self.tags),
            artifacts=tuple(self.artifacts),
            models=tuple(self.models),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The run a step works in: its names, where its rows come from, where its bytes go."""

    project: str
    run: Id
    name: str
    """Default name of a model logged here: the endpoint's, or the pipeline's."""
    blobs: "Blobs"
    clock: Clock
    environment: dict[str, Any]
    rows: Rows
    rows_digest: RowsDigest
    models: Models | None = None
    notes: Notes = field(default_factory=Notes)
    step: str = ""


_current: ContextVar[RunContext | None] = ContextVar("mainspring_run", default=None)


def current_run() -> RunContext | None:
    """Give the run this code works in, or None in a plain call."""
    return _current.get()


@contextmanager
def in_run(context: RunContext) -> Iterator[RunContext]:
    """Make a run the current one within the block, for this thread."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
