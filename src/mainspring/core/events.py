"""The facts of the ledger: what people and the machine decided or concluded, in the past tense.

Every event is a frozen struct with its own tag. A field may be added with a default; nothing is
renamed, removed or given another meaning, because ledgers written long ago are replayed.
Times are RFC 3339 UTC strings as msgspec writes them; event times (`until`, `watermark`) belong
to the data, `Fact.at` is wall time.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from mainspring.core.ids import Digest, Id, Seq, Subject


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    """Root of all events; the tag is the class name."""


# --- declaration (subject: <project>/project/<project>)


class Applied(Event, frozen=True, tag=True):
    """A project file was recorded: everything it declares, as it was."""

    digest: Digest
    source: str
    """Name of the project file within the bundle."""
    bundle: Digest
    """Blob of the project's source files as they were: what runs execute."""
    code: dict[str, Any] | None
    """Commit, branch and whether there were changes beside it; null outside a repository."""
    datasets: tuple[dict[str, Any], ...]
    views: tuple[dict[str, Any], ...]
    endpoints: tuple[dict[str, Any], ...]
    pipelines: tuple[str, ...]


# --- data (subject: <project>/dataset/<name>)


class Committed(Event, frozen=True, tag=True):
    """Rows became a new version of a dataset."""

    version: int
    token: str
    digest: Digest
    """Of the accepted rows, independent of file layout."""
    rows: int
    rows_total: int
    quarantined: int
    reasons: dict[str, int]
    """Rows per quarantine reason."""
    delta_version: int
    quarantine_delta_version: int | None
    event_time_min: datetime | None
    event_time_max: datetime | None
    arrival_max: datetime | None


class CommitRefused(Event, frozen=True, tag=True):
    """A table-level check refused a commit; nothing was written."""

    token: str
    findings: tuple[str, ...]


# --- runs (subject: <project>/run/<run id>)


class RunOpened(Event, frozen=True, tag=True):
    """The loop or a person decided that a pipeline shall run."""

    run: Id
    pipeline: str
    endpoint: str | None
    trigger: str
    """What asked: `first`, `alarm:<id>`, `cron:<tick>`, `manual:<token>`."""
    parameters: dict[str, Any]
    until: datetime | None
    """Training rows lie before it; the gate's slice begins with it."""
    as_of: datetime | None
    """The watermark: nothing that arrived later is read."""
    pins: dict[str, int]
    """Dataset name -> version read."""
    inputs: Digest
    """Of pipeline, parameters, pins and until: what is not tried twice."""
    holdout_rows: int
    deadline: datetime
    """Wall time."""


class RunClosed(Event, frozen=True, tag=True):
    """A run came to its end."""

    run: Id
    endpoint: str | None
    outcome: Literal["finished", "failed", "expired", "cancelled"]
    version: str | None
    message: str
    attempt: int
    records: Digest | None
    """Of the tracked run's params, metrics and tags at closing."""


# --- registry (subject: <project>/model/<name>)


class Registered(Event, frozen=True, tag=True):
    """A model folder became a version of a model."""

    model: str
    version: str
    manifest: Digest
    run: Id | None
    until: datetime | None
    as_of: datetime | None
    pins: dict[str, int]
    opaque: bool
    source: str | None = None
    """Where the client said that the model lies; null for a run's own folder."""


class ModelCreated(Event, frozen=True, tag=True):
    """A model's name was taken before its first version."""

    model: str


class ModelRenamed(Event, frozen=True, tag=True):
    """A model took another name; its versions and aliases went along."""

    model: str
    name: str
    """The new one."""


class ModelDeleted(Event, frozen=True, tag=True):
    """A model was deleted with its versions and aliases."""

    model: str


class VersionDeleted(Event, frozen=True, tag=True):
    """A version was deleted, and the aliases that pointed to it."""

    model: str
    version: str


class Aliased(Event, frozen=True, tag=True):
    """An alias was set, or removed when `version` is null."""

    model: str
    alias: str
    version: str | None


# --- validation (subject: <project>/version/<model>:<version>)


class Judged(Event, frozen=True, tag=True):
    """The gate spoke on a candidate."""

    verdict: Id
    endpoint: str
    candidate: str
    champion: str | None
    compared: tuple[str, ...]
    outcome: Literal["pass", "fail", "inconclusive"]
    reason: str
    """The finding that decided, in one sentence."""
    better: str | None
    """A kept version that beats the champion by its interval: grounds to restore it."""
    rows: int
    slice_start: datetime
    slice_end: datetime
    planning_sd: float | None
    evidence: Digest
    """Blob of the whole verdict with its findings."""
    inputs: Digest
    deadline: datetime | None
    """In the endpoint's time; set when inconclusive."""


class VerdictLapsed(Event, frozen=True, tag=True):
    """An inconclusive gate reached its deadline: the candidate is not promoted."""

    verdict: Id
    endpoint: str
    candidate: str


# --- approval (subject: <project>/endpoint/<name>)


class ApprovalAsked(Event, frozen=True, tag=True):
    """A rollout waits for a person."""

    endpoint: str
    candidate: str
    verdict: Id
    deadline: datetime


class Approved(Event, frozen=True, tag=True):
    """A person agreed to a rollout."""

    endpoint: str
    candidate: str
    verdict: Id
    comment: str


class Rejected(Event, frozen=True, tag=True):
    """A person declined a rollout, or nobody answered until the deadline."""

    endpoint: str
    candidate: str
    verdict: Id
    comment: str


# --- rollout (subject: <project>/rollout/<id>; Promoted: <project>/endpoint/<name>)


class RolloutStarted(Event, frozen=True, tag=True):
    """A candidate began to take a share of an endpoint's traffic."""

    rollout: Id
    endpoint: str
    candidate: str
    live: str
    verdict: Id
    kind: Literal["canary", "restore"]
    share: float
    started: datetime
    """In the endpoint's time."""
    deadline: datetime


class RolloutAdvanced(Event, frozen=True, tag=True):
    """The share grew by a step of the plan."""

    rollout: Id
    endpoint: str
    step: int
    share: float
    at: datetime


class RolloutCompleted(Event, frozen=True, tag=True):
    """All guards passed: the candidate is live; written together with Promoted."""

    rollout: Id
    endpoint: str
    reason: str
    guards: Digest
    """Of the guards' records at this moment."""


class RolledBack(Event, frozen=True, tag=True):
    """A guard failed, the deadline passed, or a person said so: the candidate takes no traffic."""

    rollout: Id
    endpoint: str
    candidate: str
    reason: str
    guards: Digest
    at: datetime
    """In the endpoint's time."""


class Promoted(Event, frozen=True, tag=True):
    """A version became the live one of an endpoint."""

    endpoint: str
    version: str
    manifest: Digest
    before: str | None
    verdict: Id
    rollout: Id | None
    kind: Literal["first", "canary", "restore"]
    at: datetime
    """In the endpoint's time."""


# --- alarms (subject: <project>/alarm/<id>)


class Alarmed(Event, frozen=True, tag=True):
    """A monitor's promise was broken."""

    alarm: Id
    endpoint: str
    monitor: str
    version: str | None
    message: str
    readings: Digest
    """Of the readings it rests on."""
    opened: datetime
    """In the endpoint's time."""
    deadline: datetime


class AlarmEnded(Event, frozen=True, tag=True):
    """An alarm came to its end, with its cause."""

    alarm: Id
    endpoint: str
    monitor: str
    cause: Literal["quiet", "version_changed", "expired", "acknowledged"]
    at: datetime


# --- access (subject: <project>/actor/<name>)


class Granted(Event, frozen=True, tag=True):
    """An actor was given a role in the project."""

    name: str
    role: Literal["viewer", "editor", "approver", "admin"]


class Revoked(Event, frozen=True, tag=True):
    """An actor lost its role and its tokens."""

    name: str


class TokenIssued(Event, frozen=True, tag=True):
    """A token was made; only its hash is kept."""

    token: Id
    name: str
    hash: Digest


class TokenRevoked(Event, frozen=True, tag=True):
    """A token is no longer accepted."""

    token: Id
    name: str


# --- records (subject: <project>/records/<table>)


class Purged(Event, frozen=True, tag=True):
    """Record rows were deleted by retention or on request."""

    table: str
    rows: int
    digest: Digest
    """Of the rows that are gone."""


AnyEvent = (
    Applied
    | Committed
    | CommitRefused
    | RunOpened
    | RunClosed
    | ModelCreated
    | ModelRenamed
    | ModelDeleted
    | Registered
    | VersionDeleted
    | Aliased
    | Judged
    | VerdictLapsed
    | ApprovalAsked
    | Approved
    | Rejected
    | RolloutStarted
    | RolloutAdvanced
    | RolloutCompleted
    | RolledBack
    | Promoted
    | Alarmed
    | AlarmEnded
    | Granted
    | Revoked
    | TokenIssued
    | TokenRevoked
    | Purged
)


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its place in the ledger.

    `hash` is SHA-256 over `before` (the hash of the fact before it) and the canonical encoding of
    all other fields, so that altering, dropping, reordering or inserting a fact shows.
    """

    seq: Seq
    id: Id
    at: datetime
    actor: str
    subject: Subject
    event: AnyEvent
    cause: Seq | None
    """The fact that led to this one."""
    before: Digest
    hash: Digest
