"""Who may call what: generated over the whole table, for nobody and for every role."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest
from api_bodies import BODIES

from mainspring.access.permissions import PERMISSIONS, ROLES, Role
from mainspring.api.local import local_client
from mainspring.api.table import TABLE, VERBS, table_of
from mainspring.core.errors import MainspringError, NotAuthenticated, NotPermitted

if TYPE_CHECKING:
    from tests.api.conftest import World

OF_A_VIEWER = {
    "project.status", "data.log", "data.show", "data.quarantine", "run.list", "run.show",
    "endpoint.show",
    "endpoint.counts", "endpoint.windows", "event.list", "audit.verify", "prediction.trace",
    "model.card", "run.diff", "run.output", "label.list",
    "endpoint.watermark", "routes.show",
}  # fmt: skip
OF_AN_APPROVER_NOT_AN_EDITOR = {
    "endpoint.approve", "endpoint.reject", "endpoint.promote", "endpoint.rollback",
}  # fmt: skip
OF_AN_ADMIN_ONLY = {
    "access.grant", "access.revoke", "access.issue", "access.list", "token.revoke", "token.list",
}  # fmt: skip


def content(world: "World") -> list[str]:
    """Give the whole database as text."""
    with closing(sqlite3.connect(world.platform.home.database)) as connection:
        return list(connection.iterdump())


def may(role: Role | None, name: str) -> bool:
    needed = PERMISSIONS[TABLE[name].resource, TABLE[name].action]
    return role is not None and ROLES.index(role) >= ROLES.index(needed)


def test_every_verb_has_a_body_here_and_a_permission_that_is_known() -> None:
    assert set(BODIES) == set(TABLE)
    assert {(verb.resource, verb.action) for verb in VERBS} <= set(PERMISSIONS)
    assert set(PERMISSIONS.values()) <= set(get_args(Role))


@pytest.mark.parametrize("role", [None, *ROLES])
def test_a_role_may_call_exactly_what_the_table_says(fresh: "World", role: Role | None) -> None:
    caller = fresh.caller(role)
    before = content(fresh)
    denied = [name for name in TABLE if not may(role, name)]

    for name in denied:
        with pytest.raises(NotPermitted, match="'somebody' may not"):
            caller.by_name(name, json.dumps(BODIES[name]).encode())
    assert content(fresh) == before

    # Nothing that they name is there, so most end in another error: not in this one.
    for name in [name for name in TABLE if name not in denied]:
        try:
            caller.by_name(name, json.dumps(BODIES[name]).encode())
        except NotPermitted:
            pytest.fail(f"{role} may not call {name}")
        except MainspringError:
            continue


def test_roles_mean_what_they_are_called() -> None:
    def allowed(role: Role) -> set[str]:
        return {name for name in TABLE if may(role, name)}

    assert allowed("viewer") == OF_A_VIEWER
    assert allowed("approver") - allowed("editor") == OF_AN_APPROVER_NOT_AN_EDITOR
    assert allowed("admin") - allowed("approver") == OF_AN_ADMIN_ONLY
    assert allowed("admin") == set(TABLE)


def test_once_a_token_exists_who_shows_none_is_nobody(fresh: "World") -> None:
    fresh.client_of("admin", "ann")
    fresh.caller("admin").by_name("access.grant", b'{"name": "ann", "role": "admin"}')
    issued = json.loads(fresh.caller("admin").by_name("access.issue", b'{"name": "ann"}'))
    access = fresh.platform.access("default")

    with pytest.raises(NotAuthenticated, match="ask an admin"):
        local_client(fresh.platform, fresh.config)

    assert access.identify(issued["secret"], local=False).role == "admin"


def test_a_verb_whose_permission_no_role_has_stops_the_start() -> None:
    unknown = replace(TABLE["data.log"], name="data.erase", action="erase")

    with pytest.raises(RuntimeError, match=r"'data.erase' needs 'erase' on 'dataset'"):
        table_of([*VERBS, unknown])


def test_a_name_that_is_taken_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match=r"'data.log' is in the table twice"):
        table_of([*VERBS, TABLE["data.log"]])
