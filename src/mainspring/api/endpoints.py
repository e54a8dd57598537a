"""Verbs of endpoints: look, agree, decline, promote, roll back."""

from dataclasses import asdict

from mainspring.api.verb import Answer, Call, Request, Verb
from mainspring.core.errors import InvalidInput
from mainspring.formats.routes import RouteTable, load
from mainspring.loop import people
from mainspring.loop.history import Length, WindowHistory, windows
from mainspring.loop.report import EndpointReport, EndpointStatus, report, status
from mainspring.loop.state import endpoint

LONGEST_PATIENCE_S = 60.0


class Name(Request, frozen=True, kw_only=True):
    """An endpoint by name."""

    endpoint: str


class Decision(Request, frozen=True, kw_only=True):
    """What a person decided on a version.

    `expect` is the endpoint's `seen` number from the report the person read: when the endpoint
    has moved since, the decision is refused. Null stands for "as it is now".
    """

    endpoint: str
    version: str
    comment: str
    expect: int | None = None


class RollBack(Request, frozen=True, kw_only=True):
    """End the open rollout of an endpoint."""

    endpoint: str
    comment: str


class Decided(Answer, frozen=True, kw_only=True):
    """The fact that recorded a decision."""

    fact: int
    event: str


class CountsAnswer(Answer, frozen=True, kw_only=True):
    """What came in at an endpoint and what became of it."""

    predictions: int
    """Answered rows that are logged, each once."""
    repeats: int
    """Logged rows of requests that had been answered before; not among `predictions`."""
    left_out: int
    """Answered rows that the log has no record of, by the workers' own count; of all endpoints."""
    torn: int
    """Ranges that end at a record torn by a kill; of all endpoints."""
    labels: int
    early: int
    """Labels that wait for their prediction or for the watermark."""
    labelled: int
    void: int
    corrected: int
    """Outcomes whose value changed after it was first known."""


class Windows(Name, frozen=True, kw_only=True):
    """An endpoint by windows; after `patience_s` seconds older ones are left unmeasured."""

    window: Length = "7d"
    patience_s: float = 60.0


class Statuses(Answer, frozen=True, kw_only=True):
    endpoints: tuple[EndpointStatus, ...]


def show(call: Call, request: Name) -> EndpointReport:
    """Report an endpoint: arms, verdicts, rollouts, alarms and readings."""
    return report(call.project.stages, request.endpoint)


def by_window(call: Call, request: Windows) -> WindowHistory:
    """Report traffic and quality by window, against the first version, frozen."""
    if not 0 <= request.patience_s <= LONGEST_PATIENCE_S:
        raise InvalidInput(
            f"patience_s {request.patience_s}: expected 0 to {LONGEST_PATIENCE_S:g}; ask again for "
            "what is not measured by then"
        )
    return windows(
        call.project.stages, request.endpoint, request.window, patience_s=request.patience_s
    )


def all_statuses(call: Call, _: Request) -> Statuses:
    """Say what every endpoint serves, does and waits for."""
    return Statuses(endpoints=status(call.project.stages))


def counts(call: Call, request: Name) -> CountsAnswer:
    """Count predictions, labels and outcomes of an endpoint; it reads whole tables."""
    stages = call.project.stages
    with stages.database.read() as connection:
        endpoint(connection, stages.project, request.endpoint)
    return CountsAnswer(**asdict(stages.monitoring.counts(request.endpoint)))


def approve(call: Call, request: Decision) -> Decided:
    """Agree to a rollout that waits for a person."""
    return _decided(people.approve, call, request)


def reject(call: Call, request: Decision) -> Decided:
    """Decline a rollout that waits for a person."""
    return _decided(people.reject, call, request)


def promote(call: Call, request: Decision) -> Decided:
    """Make a version live at once that has passed the gate against the present one."""
    return _decided(people.promote, call, request)


def roll_back(call: Call, request: RollBack) -> Decided:
    """End the open rollout; the live version stays."""
    fact = people.roll_back(
        call.project.stages, request.endpoint, comment=request.comment, actor=call.actor
    )
    call.project.driver.wake(request.endpoint)
    return Decided(fact=fact.seq, event=type(fact.event).__name__)


def _decided(verb: people.Verb, call: Call, request: Decision) -> Decided:
    fact = verb(
        call.project.stages,
        request.endpoint,
        request.version,
        comment=request.comment,
        actor=call.actor,
        expect=request.expect,
    )
    call.project.driver.wake(request.endpoint)
    return Decided(fact=fact.seq, event=type(fact.event).__name__)


def routes(call: Call, _: Request) -> RouteTable:
    """Give the published route table, the project's part of it."""
    table = load(call.platform.home.routes)
    mine = (route for route in table.endpoints if route.project == call.project.name)
    return RouteTable(number=table.number, endpoints=tuple(mine))


WINDOWS = Verb("endpoint.windows", "GET", "endpoint", "read", Windows, WindowHistory, by_window)
SHOW = Verb("endpoint.show", "GET", "endpoint", "read", Name, EndpointReport, show)
STATUS = Verb("project.status", "GET", "project", "read", Request, Statuses, all_statuses)
COUNTS = Verb("endpoint.counts", "GET", "endpoint", "read", Name, CountsAnswer, counts)
APPROVE = Verb(
    "endpoint.approve", "POST", "endpoint", "approve", Decision, Decided, approve, repeatable=False
)
REJECT = Verb(
    "endpoint.reject", "POST", "endpoint", "approve", Decision, Decided, reject, repeatable=False
)
PROMOTE = Verb(
    "endpoint.promote", "POST", "endpoint", "promote", Decision, Decided, promote, repeatable=False
)
ROLL_BACK = Verb(
    "endpoint.rollback", "POST", "rollout", "cancel", RollBack, Decided, roll_back, repeatable=False
)
ROUTES = Verb("routes.show", "GET", "endpoint", "read", Request, RouteTable, routes)
