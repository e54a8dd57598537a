"""Actors: who calls, proven by a token, and whether they may."""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, func, select

from mainspring.access.permissions import PERMISSIONS, ROLES, Role, reaches
from mainspring.access.tables import GRANT, TOKEN
from mainspring.core.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, Refused
from mainspring.core.events import Fact, Granted, Revoked, TokenIssued, TokenRevoked
from mainspring.core.ids import Id, IdSource, Subject, checked_name, digest_bytes
from mainspring.store.database import Database
from mainspring.store.ledger import Draft, Ledger

_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who was identified; without a role nothing is allowed."""

    name: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token; its secret is shown this once and kept nowhere."""

    token: Id
    name: str
    secret: str


@dataclass(frozen=True, slots=True)
class AcceptedToken:
    """A token that is accepted, and whose it is."""

    token: Id
    name: str


@dataclass(frozen=True, slots=True)
class Access:
    """Roles and tokens of one project.

    Attributes:
        local_actor: Name of the person at this machine.
        publish: Tells the data plane of what changed, before a verb returns.
    """

    project: str
    database: Database
    ledger: Ledger
    ids: IdSource
    local_actor: str = "local"
    publish: Callable[[], None] = lambda: None

    def identify(self, token: str | None, *, local: bool) -> Actor:
        """Say who calls.

        Args:
            token: What the caller showed.
            local: The call came over loopback or in memory. While no token exists in the whole
                home, such a caller is the local user and admin.

        Raises:
            NotAuthenticated: No token where one is needed, or an unknown one.
        """
        with self.database.read() as connection:
            if token is not None:
                return self._of_token(connection, token)
            if local and not _tokens_exist(connection):
                return Actor(self.local_actor, "admin")
        raise NotAuthenticated(
            f"project {self.project!r}: no token given, expected one; ask an admin to issue it and "
            "send it as 'Authorization: Bearer ...'"
        )

    def check(self, actor: Actor, resource: str, action: str) -> None:
        """Refuse what the actor's role does not allow; an unknown pair is allowed to nobody.

        Raises:
            NotPermitted: The message says who, what and the role that is needed.
        """
        needed = PERMISSIONS.get((resource, action))
        if needed is None:
            raise NotPermitted(
                f"{actor.name!r} may not {action} {resource!r} in project {self.project!r}: "
                "no role allows it; the permission table has no such action"
            )
        if actor.role is None or not reaches(actor.role, needed):
            raise NotPermitted(
                f"{actor.name!r} may not {action} {resource!r} in project {self.project!r}: "
                f"found role {actor.role or 'none'}, expected {needed} or above; "
                "ask an admin for it"
            )

    def grant(self, name: str, role: Role, *, actor: str) -> Fact:
        """Give an actor a role; the one before is replaced."""
        if role not in ROLES:
            raise InvalidInput(f"role {role!r}: expected one of {', '.join(ROLES)}")
        granted = Granted(name=name, role=role)
        fact = self.ledger.append(self._subject(name), granted, actor=actor)
        self.publish()
        return fact

    def revoke(self, name: str, *, actor: str) -> Fact:
        """Take an actor's role and all their tokens.

        Raises:
            NotFound: They have no role here.
            Refused: They are the last admin while tokens exist: nobody could undo it.
        """

        def still_held(connection: Connection) -> None:
            role = _role(connection, self.project, name)
            if role is None:
                raise NotFound(f"actor {name!r} has no role in project {self.project!r}")
            if role == "admin" and _tokens_exist(connection):
                self._keep_an_admin(connection, name)

        return self._append(self._subject(name), Revoked(name=name), actor, still_held)

    def issue(self, name: str, *, actor: str) -> IssuedToken:
        """Make a token for an actor who has a role.

        Only its SHA-256 is stored: 256 random bits need no slow hash.

        Raises:
            NotFound: The actor has no role yet.
            Refused: It would be the home's first token while nobody with a token is admin.
        """
        secret = secrets.token_urlsafe(_TOKEN_BYTES)
        token = self.ids.new()
        event = TokenIssued(token=token, name=name, hash=digest_bytes(secret.encode()))

        def has_role(connection: Connection) -> None:
            role = _role(connection, self.project, name)
            if role is None:
                raise NotFound(
                    f"actor {name!r} has no role in project {self.project!r}: grant one first"
                )
            # From the first token on the local user is nobody, so an admin must be able to act.
            if role != "admin" and not _tokens_exist(connection):
                raise Refused(
                    f"token for {name!r}: it would be the first, and its role is {role}; issue one "
                    "to an admin first, else nobody could administer the project"
                )

        self._append(self._subject(name), event, actor, has_role)
        return IssuedToken(token, name, secret)

    def revoke_token(self, token: Id, *, actor: str) -> Fact:
        """Stop accepting a token.

        Raises:
            NotFound: There is none of this id.
        """
        with self.database.read() as connection:
            name = self._token_name(connection, token)

        def still_there(connection: Connection) -> None:
            self._token_name(connection, token)

        event = TokenRevoked(token=token, name=name)
        return self._append(self._subject(name), event, actor, still_there)

    def actors(self) -> list[Actor]:
        """List who has a role."""
        rows = select(GRANT.c.name, GRANT.c.role).where(GRANT.c.project == self.project)
        with self.database.read() as connection:
            return [Actor(*row) for row in connection.execute(rows.order_by(GRANT.c.name))]

    def tokens(self) -> tuple[AcceptedToken, ...]:
        """List the tokens that are accepted, oldest first."""
        rows = select(TOKEN.c.token, TOKEN.c.name).where(TOKEN.c.project == self.project)
        with self.database.read() as connection:
            found = connection.execute(rows.order_by(TOKEN.c.token))
            return tuple(AcceptedToken(*row) for row in found)

    def _of_token(self, connection: Connection, token: str) -> Actor:
        hashed = digest_bytes(token.encode())
        # The hash finds the row; the comparison takes the same time wherever they differ.
        found = connection.execute(
            select(TOKEN.c.hash, TOKEN.c.name).where(
                TOKEN.c.project == self.project, TOKEN.c.hash == hashed
            )
        ).all()
        for stored, name in found:
            if hmac.compare_digest(stored, hashed):
                return Actor(name, _role(connection, self.project, name))
        raise NotAuthenticated(
            f"project {self.project!r}: the token is unknown or revoked; ask an admin for a new one"
        )

    def _token_name(self, connection: Connection, token: Id) -> str:
        mine = (TOKEN.c.project == self.project) & (TOKEN.c.token == token)
        name = connection.execute(select(TOKEN.c.name).where(mine)).scalar()
        if name is None:
            raise NotFound(f"token {token} does not exist in project {self.project!r}")
        return str(name)

    def _keep_an_admin(self, connection: Connection, leaving: str) -> None:
        others = (
            select(func.count())
            .select_from(
                GRANT.join(
                    TOKEN, (TOKEN.c.project == GRANT.c.project) & (TOKEN.c.name == GRANT.c.name)
                )
            )
            .where(
                GRANT.c.project == self.project, GRANT.c.role == "admin", GRANT.c.name != leaving
            )
        )
        if not connection.execute(others).scalar():
            raise Refused(
                f"actor {leaving!r} is the last admin with a token in project {self.project!r}: "
                "give another one the role and a token first"
            )

    def _append(
        self,
        subject: Subject,
        event: Revoked | TokenIssued | TokenRevoked,
        actor: str,
        also: Callable[[Connection], None],
    ) -> Fact:
        fact = self.ledger.append_all([Draft(subject, event)], actor=actor, also=also)[0]
        self.publish()
        return fact

    def _subject(self, name: str) -> Subject:
        return Subject(self.project, "actor", checked_name(name, what="actor"))


def _role(connection: Connection, project: str, name: str) -> Role | None:
    query = select(GRANT.c.role).where(GRANT.c.project == project, GRANT.c.name == name)
    return cast("Role | None", connection.execute(query).scalar())


def _tokens_exist(connection: Connection) -> bool:
    return connection.execute(select(TOKEN.c.token).limit(1)).scalar() is not None
