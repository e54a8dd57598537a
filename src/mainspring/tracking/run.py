"""What a tracked run is made of."""

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from mainspring.core.ids import Digest, Id
from mainspring.tracking.inputs import Inputs

Status = Literal["running", "scheduled", "finished", "failed", "killed", "expired", "cancelled"]

NAME_TAG = "mlflow.runName"
"""The tag that repeats a run's name, so that clients find it where they look."""


class Point(msgspec.Struct, frozen=True):
    """One point of a metric's series; value may be NaN or infinite."""

    key: str
    value: float
    step: int
    at_ms: int
    """Whole milliseconds since 1970 UTC."""


class ArtifactFile(msgspec.Struct, frozen=True):
    """A path of a run and the blob it leads to."""

    path: str
    digest: Digest
    size_bytes: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged to a run in one call, all or nothing."""

    params: dict[str, str] = {}
    metrics: tuple[Point, ...] = ()
    tags: dict[str, str] = {}
    artifacts: tuple[ArtifactFile, ...] = ()


class Change(NamedTuple):
    """What is to be another in a run; None leaves it."""

    run: Id
    status: Status | None = None
    ended_ms: int | None = None
    name: str | None = None


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a list shows it."""

    run: Id
    experiment: str
    name: str
    person: str
    status: Status
    location: str
    """Where clients keep its artifacts."""
    managed: bool
    """It belongs to a pipeline, whose verbs alone may end it."""
    started: datetime
    ended: datetime | None
    deleted: datetime | None


class FoundRun(RunRow, frozen=True, kw_only=True):
    """A run with what was logged to it but its files; of each metric the last point."""

    params: dict[str, str]
    metrics: dict[str, Point]
    tags: dict[str, str]
    inputs: Inputs


class TrackedRun(FoundRun, frozen=True, kw_only=True):
    """A run with all that was logged to it."""

    artifacts: dict[str, ArtifactFile]


class MetricSummary(msgspec.Struct, frozen=True):
    """The outstanding points of a metric; NaN counts only as last."""

    last: Point
    min: Point | None
    max: Point | None
    points: int
