"""The source's verbs: push rows online, send labels, advance the watermark."""

from datetime import datetime

from mainspring.api.arrow import decode
from mainspring.api.verb import Answer, Call, Request, Verb
from mainspring.core.clock import utc
from mainspring.loop.run import settle
from mainspring.monitoring.labels import Label


class Push(Request, frozen=True, kw_only=True):
    """Rows of a dataset that became known, for the online features only."""

    dataset: str
    rows: bytes
    """Arrow IPC stream."""
    until: datetime
    """Everything up to this instant has been pushed: ticks up to it are written."""
    token: str


class Pushed(Answer, frozen=True, kw_only=True):
    rows: int
    quarantined: int
    ticks: int
    late: int


def push(call: Call, request: Push) -> Pushed:
    """Write online features; the same token again changes nothing."""
    rows = decode(request.rows, subject=f"push to {request.dataset}")
    done = call.project.stages.features.push(
        request.dataset, rows, until=utc(request.until), token=request.token
    )
    return Pushed(rows=done.rows, quarantined=done.quarantined, ticks=done.ticks, late=done.late)


class Labels(Request, frozen=True, kw_only=True):
    """Outcomes of predictions, by prediction id or by key and event time."""

    endpoint: str
    token: str
    labels: tuple[Label, ...]


class Labelled(Answer, frozen=True, kw_only=True):
    rows: int
    repeated: bool


def label(call: Call, request: Labels) -> Labelled:
    """Record outcomes; the same token again changes nothing."""
    report = call.project.stages.monitoring.label(
        request.endpoint, request.labels, token=request.token
    )
    return Labelled(rows=report.rows, repeated=report.repeated)


class Advance(Request, frozen=True, kw_only=True):
    """Nothing that arrives later belongs before this instant."""

    endpoint: str
    until: datetime
    settle: bool = True
    """Wait until the loop has no step to take."""


class Advanced(Answer, frozen=True, kw_only=True):
    watermark: datetime
    steps: tuple[str, ...]
    waiting: str
    error: str | None


def advance(call: Call, request: Advance) -> Advanced:
    """Move an endpoint's watermark on; an older instant changes nothing."""
    stages = call.project.stages
    watermark = stages.monitoring.advance(request.endpoint, utc(request.until))
    if not request.settle:
        return Advanced(watermark=watermark, steps=(), waiting="not asked", error=None)
    settled = settle(stages, request.endpoint)
    return Advanced(
        watermark=watermark,
        steps=settled.steps,
        waiting=settled.waiting,
        error=settled.error,
    )


PUSH = Verb("feature.push", "POST", "feature", "push", Push, Pushed, push)
LABEL = Verb("label.add", "POST", "label", "write", Labels, Labelled, label)
ADVANCE = Verb("endpoint.advance", "POST", "endpoint", "advance", Advance, Advanced, advance)
