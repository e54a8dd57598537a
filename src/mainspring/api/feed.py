"""The source's verbs: push rows online, send labels, advance the watermark."""

from datetime import UTC, datetime

from mainspring.api.arrow import decode
from mainspring.api.endpoints import Name
from mainspring.api.runs import waiting_time
from mainspring.api.verb import Answer, Call, Request, Verb, bounded
from mainspring.core.clock import utc
from mainspring.core.errors import InvalidInput
from mainspring.loop import state
from mainspring.monitoring.labels import Label
from mainspring.monitoring.listing import OutcomePage

OUTCOMES_AT_MOST = 10_000
BEGINNING, END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


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
    """Take the loop's steps, and wait for its open run and the workers."""
    wait_s: float = 30.0
    """How long the answer may wait for them, 0 to 60."""


class Advanced(Answer, frozen=True, kw_only=True):
    """What the advance led to; with `settled` nothing more happens until something new is known."""

    watermark: datetime
    settled: bool
    steps: tuple[str, ...]
    waiting: str
    error: str | None


def advance(call: Call, request: Advance) -> Advanced:
    """Move an endpoint's watermark on; an older instant changes nothing."""
    stages, driver = call.project.stages, call.project.driver
    wait_s = waiting_time(request.wait_s)
    watermark = stages.monitoring.advance(request.endpoint, utc(request.until))
    if not request.settle:
        driver.wake(request.endpoint)
        return Advanced(
            watermark=watermark, settled=False, steps=(), waiting="not asked", error=None
        )
    settled = driver.settle(request.endpoint, wait_s=wait_s)
    return Advanced(
        watermark=watermark,
        settled=settled.at_rest,
        steps=settled.steps,
        waiting=settled.waiting,
        error=settled.error,
    )


class Watermark(Answer, frozen=True, kw_only=True):
    """Up to where conclusions are drawn; null before the first advance."""

    watermark: datetime | None


def watermark(call: Call, request: Name) -> Watermark:
    """Say where an endpoint's watermark stands: what its source has delivered."""
    stages = call.project.stages
    with stages.database.read() as connection:
        state.endpoint(connection, stages.project, request.endpoint)
    return Watermark(watermark=stages.monitoring.watermark(request.endpoint))


class Outcomes(Request, frozen=True, kw_only=True):
    """What became of predictions: of one (`<id>` or `<id>:<i>`), or of those of a time range."""

    endpoint: str
    prediction: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: str | None = None
    """The last answer's `next`."""
    limit: int = 1000


def outcomes(call: Call, request: Outcomes) -> OutcomePage:
    """List predictions with the labels that hold, by event time; compacted ones only."""
    stages = call.project.stages
    limit = bounded("limit", request.limit, 1, OUTCOMES_AT_MOST)
    with stages.database.read() as connection:
        state.endpoint(connection, stages.project, request.endpoint)
    span = (request.start, request.end, request.after)
    if request.prediction is not None:
        if any(part is not None for part in span):
            raise InvalidInput("label.list: found a prediction and a time range; give one of them")
        return stages.monitoring.outcomes_of(request.endpoint, request.prediction, limit=limit)
    return stages.monitoring.outcome_page(
        request.endpoint,
        BEGINNING if request.start is None else utc(request.start),
        END if request.end is None else utc(request.end),
        after=request.after,
        limit=limit,
    )


PUSH = Verb("feature.push", "POST", "feature", "push", Push, Pushed, push)
LABEL = Verb("label.add", "POST", "label", "write", Labels, Labelled, label)
ADVANCE = Verb("endpoint.advance", "POST", "endpoint", "advance", Advance, Advanced, advance)
WATERMARK = Verb("endpoint.watermark", "GET", "endpoint", "read", Name, Watermark, watermark)
OUTCOMES = Verb("label.list", "GET", "label", "read", Outcomes, OutcomePage, outcomes)
