"""Verbs of endpoints: look, agree, decline, promote, roll back."""

from mainspring.api.verb import Answer, Call, Request, Verb
from mainspring.loop import people
from mainspring.loop.report import EndpointReport, EndpointStatus, report, status


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


class Statuses(Answer, frozen=True, kw_only=True):
    endpoints: tuple[EndpointStatus, ...]


def show(call: Call, request: Name) -> EndpointReport:
    """Report an endpoint: arms, verdicts, rollouts, alarms and readings."""
    return report(call.project.stages, request.endpoint)


def all_statuses(call: Call, _: Request) -> Statuses:
    """Say what every endpoint serves, does and waits for."""
    return Statuses(endpoints=status(call.project.stages))


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
    return Decided(fact=fact.seq, event=type(fact.event).__name__)


SHOW = Verb("endpoint.show", "GET", "endpoint", "read", Name, EndpointReport, show)
STATUS = Verb("project.status", "GET", "project", "read", Request, Statuses, all_statuses)
APPROVE = Verb("endpoint.approve", "POST", "endpoint", "approve", Decision, Decided, approve)
REJECT = Verb("endpoint.reject", "POST", "endpoint", "approve", Decision, Decided, reject)
PROMOTE = Verb("endpoint.promote", "POST", "endpoint", "promote", Decision, Decided, promote)
ROLL_BACK = Verb("endpoint.rollback", "POST", "rollout", "cancel", RollBack, Decided, roll_back)
