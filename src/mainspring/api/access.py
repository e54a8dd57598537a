"""Verbs of access: roles and tokens."""

from mainspring.access.permissions import Role
from mainspring.api.verb import Answer, Call, Request, Verb


class Grant(Request, frozen=True, kw_only=True):
    """Give an actor a role."""

    name: str
    role: Role


class ActorName(Request, frozen=True, kw_only=True):
    """An actor by name."""

    name: str


class Recorded(Answer, frozen=True, kw_only=True):
    """The fact that recorded it."""

    fact: int


class Secret(Answer, frozen=True, kw_only=True):
    """A new token; the secret is shown this once."""

    token: str
    name: str
    secret: str


def grant(call: Call, request: Grant) -> Recorded:
    """Give an actor a role in the project."""
    fact = call.project.access.grant(request.name, request.role, actor=call.actor)
    return Recorded(fact=fact.seq)


def revoke(call: Call, request: ActorName) -> Recorded:
    """Take an actor's role and tokens away."""
    return Recorded(fact=call.project.access.revoke(request.name, actor=call.actor).seq)


def issue(call: Call, request: ActorName) -> Secret:
    """Make a token for an actor that has a role."""
    issued = call.project.access.issue(request.name, actor=call.actor)
    return Secret(token=issued.token, name=issued.name, secret=issued.secret)


GRANT = Verb("access.grant", "POST", "actor", "grant", Grant, Recorded, grant)
REVOKE = Verb("access.revoke", "POST", "actor", "revoke", ActorName, Recorded, revoke)
ISSUE = Verb("access.issue", "POST", "token", "issue", ActorName, Secret, issue)
