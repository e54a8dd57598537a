"""What a tracked run is made of, and the limits of its parts."""

from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Digest, Id

Status = Literal["running", "finished", "failed", "expired", "cancelled"]

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
METRICS_PER_BATCH = 1000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Point(msgspec.Struct, frozen=True):
    """One point of a metric's series; value may be NaN or infinite."""

    key: str
    value: float
    step: int
    at: datetime


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


class TrackedRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run with all that was logged to it; of each metric the last point."""

    run: Id
    experiment: str
    name: str
    status: Status
    started: datetime
    ended: datetime | None
    deleted: datetime | None
    params: dict[str, str]
    metrics: dict[str, Point]
    tags: dict[str, str]
    artifacts: dict[str, ArtifactFile]


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run as a list shows it."""

    run: Id
    experiment: str
    name: str
    status: Status
    started: datetime
    ended: datetime | None
    deleted: datetime | None


class MetricSummary(msgspec.Struct, frozen=True):
    """The outstanding points of a metric; NaN counts only as last."""

    last: Point
    min: Point | None
    max: Point | None
    points: int


def micros(at: Instant) -> int:
    """Give whole microseconds since 1970 UTC."""
    return (utc(at) - _EPOCH) // timedelta(microseconds=1)


def instant(at_us: int) -> Instant:
    """Give the instant of whole microseconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def checked_key(key: str, *, what: str) -> str:
    """Return a key that may be logged, else say what may."""
    if not key or len(key) > KEY_LENGTH or any(ord(sign) < 32 for sign in key):
        raise InvalidInput(
            f"{what} key {key[:60]!r}: found {len(key)} characters, expected 1 to {KEY_LENGTH} "
            "without control characters; shorten it"
        )
    return key


def checked_text(key: str, value: str, *, what: str, limit: int) -> str:
    """Return a value that fits its limit."""
    if len(value) > limit:
        raise InvalidInput(
            f"{what} {key!r}: found a value of {len(value)} characters, expected {limit} at most; "
            "log it as an artifact"
        )
    return value


def checked_path(path: str) -> str:
    """Return an artifact path: relative, plain, below its run; it names a row and never a file."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and "\\" not in path and "\0" not in path
    if not parts or path.startswith("/") or ".." in parts or not plain or len(path) > KEY_LENGTH:
        raise InvalidInput(
            f"artifact path {path[:60]!r} is not allowed; expected a relative path of plain parts, "
            f"such as plots/roc.png, of {KEY_LENGTH} characters at most"
        )
    return path
