"""Verbs of access: roles and tokens."""

from mainspring.access.actors import AcceptedToken, Actor
from mainspring.access.permissions import Role
from mainspring.api.verb import Answer, Call, Request, Verb
from mainspring.core.ids import Id


class Grant(Request, frozen=True, kw_only=True):
    """Give an actor a role."""

    name: str
    role: Role


class ActorName(Request, frozen=True, kw_only=True):
    """An actor by name."""

    name: str


class TokenName(Request, frozen=True, kw_only=True):
    """A token by its id; its secret is kept nowhere."""

    token: Id


class Actors(Answer, frozen=True, kw_only=True):
    """Who has a role in the project."""

    actors: tuple[Actor, ...]


class Tokens(Answer, frozen=True, kw_only=True):
    """The tokens that are accepted, without their secrets."""

    tokens: tuple[AcceptedToken, ...]


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


def revoke_token(call: Call, request: TokenName) -> Recorded:
    """Stop accepting a token."""
    return Recorded(fact=call.project.access.revoke_token(request.token, actor=call.actor).seq)


def list_actors(call: Call, _: Request) -> Actors:
    """List who has a role."""
    return Actors(actors=tuple(call.project.access.actors()))


def list_tokens(call: Call, _: Request) -> Tokens:
    """List the tokens that are accepted."""
    return Tokens(tokens=call.project.access.tokens())


GRANT = Verb("access.grant", "POST", "actor", "grant", Grant, Recorded, grant, repeatable=False)
REVOKE = Verb(
    "access.revoke", "POST", "actor", "revoke", ActorName, Recorded, revoke, repeatable=False
)
ISSUE = Verb("access.issue", "POST", "token", "issue", ActorName, Secret, issue, repeatable=False)
REVOKE_TOKEN = Verb(
    "token.revoke", "POST", "token", "revoke", TokenName, Recorded, revoke_token, repeatable=False
)
LIST = Verb("access.list", "GET", "actor", "read", Request, Actors, list_actors)
LIST_TOKENS = Verb("token.list", "GET", "token", "read", Request, Tokens, list_tokens)
