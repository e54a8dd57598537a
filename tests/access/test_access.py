"""Roles, tokens and the closed table of permissions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from mainspring.access import tables
from mainspring.access.actors import Access, Actor
from mainspring.access.permissions import PERMISSIONS, ROLES, Role, reaches
from mainspring.core.clock import FrozenClock
from mainspring.core.errors import InvalidInput, NotAuthenticated, NotFound, NotPermitted, Refused
from mainspring.core.ids import Id, IdSource
from mainspring.store import chain
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger

START = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    clock = FrozenClock(START)
    ids = IdSource(clock)
    with Database.open(tmp_path / "m.db", clock=clock) as database:
        for metadata in (chain.METADATA, tables.METADATA):
            database.write(metadata.create_all)
        ledger = Ledger(database, clock=clock, ids=ids, derivations=[tables.DERIVED], head=None)
        yield Access("default", database, ledger, ids)


def with_token(access: Access, name: str, role: Role) -> str:
    access.grant(name, role, actor="local")
    return access.issue(name, actor="local").secret


def test_without_tokens_the_local_user_is_admin(access: Access) -> None:
    assert access.identify(None, local=True) == Actor("local", "admin")


def test_without_tokens_a_caller_from_elsewhere_is_nobody(access: Access) -> None:
    with pytest.raises(NotAuthenticated, match="ask an admin"):
        access.identify(None, local=False)


def test_from_the_first_token_on_the_local_user_needs_one(access: Access) -> None:
    with_token(access, "ann", "admin")

    with pytest.raises(NotAuthenticated):
        access.identify(None, local=True)


def test_a_token_says_who_calls_and_with_which_role(access: Access) -> None:
    with_token(access, "ann", "admin")
    secret = with_token(access, "bob", "editor")

    assert access.identify(secret, local=False) == Actor("bob", "editor")


def test_an_unknown_token_is_refused_even_on_loopback(access: Access) -> None:
    with pytest.raises(NotAuthenticated, match="unknown or revoked"):
        access.identify("guess", local=True)


def test_a_token_holds_in_its_own_project_only(access: Access) -> None:
    secret = with_token(access, "ann", "admin")
    other = Access("other", access.database, access.ledger, access.ids)

    with pytest.raises(NotAuthenticated):
        other.identify(secret, local=True)


def test_the_secret_is_kept_nowhere(access: Access) -> None:
    secret = with_token(access, "ann", "admin")

    with access.database.read() as connection:
        stored = connection.execute(select(tables.TOKEN)).all()
        facts = connection.execute(select(chain.LEDGER)).all()

    assert secret not in str(stored) + str(facts)
    assert len(secret) >= 43


def test_revoking_an_actor_ends_their_tokens(access: Access) -> None:
    with_token(access, "ann", "admin")
    secret = with_token(access, "bob", "editor")

    access.revoke("bob", actor="ann")

    with pytest.raises(NotAuthenticated):
        access.identify(secret, local=False)


def test_a_revoked_token_is_refused_and_the_others_stay(access: Access) -> None:
    kept = with_token(access, "ann", "admin")
    lost = access.issue("ann", actor="ann")

    access.revoke_token(lost.token, actor="ann")

    assert access.identify(kept, local=False).name == "ann"
    with pytest.raises(NotAuthenticated):
        access.identify(lost.secret, local=False)


def test_revoking_what_is_not_there_says_so(access: Access) -> None:
    with pytest.raises(NotFound, match="no role"):
        access.revoke("nobody", actor="local")
    with pytest.raises(NotFound, match="does not exist"):
        access.revoke_token(Id("0" * 32), actor="local")


def test_the_first_token_must_be_an_admins(access: Access) -> None:
    access.grant("bob", "editor", actor="local")

    with pytest.raises(Refused, match="admin first"):
        access.issue("bob", actor="local")


def test_the_last_admin_with_a_token_cannot_be_revoked(access: Access) -> None:
    with_token(access, "ann", "admin")
    access.grant("eve", "admin", actor="ann")

    with pytest.raises(Refused, match="last admin"):
        access.revoke("ann", actor="ann")


def test_a_token_needs_a_role(access: Access) -> None:
    with pytest.raises(NotFound, match="grant one first"):
        access.issue("nobody", actor="local")


def test_an_unknown_role_is_refused(access: Access) -> None:
    with pytest.raises(InvalidInput, match="viewer"):
        access.grant("ann", "owner", actor="local")  # type: ignore[arg-type]


def test_a_new_role_replaces_the_one_before(access: Access) -> None:
    access.grant("ann", "viewer", actor="local")
    access.grant("ann", "approver", actor="local")

    assert access.actors() == [Actor("ann", "approver")]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("pair", PERMISSIONS)
def test_every_permission_holds_for_its_role_and_those_above_only(
    access: Access, role: Role, pair: tuple[str, str]
) -> None:
    actor = Actor("ann", role)

    if reaches(role, PERMISSIONS[pair]):
        access.check(actor, *pair)
    else:
        with pytest.raises(NotPermitted, match=f"'ann' may not {pair[1]}.*{PERMISSIONS[pair]}"):
            access.check(actor, *pair)


def test_what_no_line_of_the_table_allows_is_denied_to_the_admin_too(access: Access) -> None:
    with pytest.raises(NotPermitted, match="no role allows it"):
        access.check(Actor("ann", "admin"), "endpoint", "explode")


def test_an_actor_without_a_role_may_nothing(access: Access) -> None:
    with pytest.raises(NotPermitted, match="found role none"):
        access.check(Actor("ann", None), "project", "read")


def test_replay_gives_equal_tables(access: Access) -> None:
    with_token(access, "ann", "admin")
    lost = access.issue("ann", actor="ann")
    access.revoke_token(lost.token, actor="ann")
    with_token(access, "bob", "viewer")
    access.revoke("bob", actor="ann")

    def snapshot() -> list[list[tuple[object, ...]]]:
        with access.database.read() as connection:
            return [
                sorted(tuple(row) for row in connection.execute(select(table)))
                for table in tables.DERIVED.tables
            ]

    before = snapshot()
    access.ledger.rebuild()

    assert snapshot() == before
    assert [len(rows) for rows in before] == [1, 1]
