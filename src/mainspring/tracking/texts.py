"""Parameters and tags: texts by key, of runs, experiments and logged models alike."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from mainspring.core.errors import Refused
from mainspring.store.bulk import BulkStatement, QuickQuery
from mainspring.store.filters import unindexed
from mainspring.tracking.limits import PARAM_LENGTH, TAG_LENGTH, checked_key, checked_text
from mainspring.tracking.tables import PARAM, TAG

T = TypeVar("T")

# Below the number of variables that every database takes in one statement.
_IN_ONE_QUERY = 500


def set_params(connection: Connection, project: str, owner: str, params: Mapping[str, str]) -> None:
    """Write parameters once: the same value again is fine.

    Raises:
        Refused: One has another value already.
    """
    for key, value in params.items():
        checked_key(key, what="parameter")
        checked_text(key, value, what="parameter", limit=PARAM_LENGTH)
    known = _known(connection, PARAM, project, owner, params)
    for key, found in known.items():
        if found != params[key]:
            raise Refused(
                f"Changing param values is not allowed. Param with key='{key}' was already logged "
                f"with value='{found[:500]}' for run ID='{owner}'. Attempted logging new value "
                f"'{params[key][:500]}'."
            )
    _insert(connection, PARAM, project, owner, {k: v for k, v in params.items() if k not in known})


def set_tags(
    connection: Connection,
    project: str,
    owner: str,
    tags: Mapping[str, str],
    *,
    limit: int = TAG_LENGTH,
) -> None:
    """Set tags; the newest value stays."""
    check_tags(tags, limit=limit)
    known = _known(connection, TAG, project, owner, tags)
    changed = [
        (tags[key], project, owner, key) for key, found in known.items() if found != tags[key]
    ]
    _CHANGE_TAG.run(connection, changed)
    add_tags(connection, project, owner, {k: v for k, v in tags.items() if k not in known})


def check_tags(tags: Mapping[str, str], *, limit: int = TAG_LENGTH) -> None:
    """Refuse tags that are over their limits."""
    for key, value in tags.items():
        checked_key(key, what="tag")
        checked_text(key, value, what="tag", limit=limit)


def add_tags(connection: Connection, project: str, owner: str, tags: Mapping[str, str]) -> None:
    """Add tags that were checked and of which the owner has none."""
    _insert(connection, TAG, project, owner, tags)


def delete_tag(connection: Connection, project: str, owner: str, key: str) -> bool:
    """Remove a tag; tells whether it was there."""
    mine = (TAG.c.project == project) & (TAG.c.owner == owner) & (TAG.c.key == key)
    return connection.execute(delete(TAG).where(mine)).rowcount > 0


def texts(connection: Connection, table: Table, project: str, owner: str) -> dict[str, str]:
    """Give the parameters or tags of one owner, by key in order."""
    rows = connection.execute(_OF_OWNER[table.name], {"of_project": project, "of_owner": owner})
    return {row[0]: row[1] for row in rows}


def texts_of(
    connection: Connection, table: Table, project: str, owners: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Give the parameters or tags of many owners."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    query = _OF_OWNERS[table.name]
    for part in parts(owners):
        rows = connection.execute(query, {"of_project": project, "of_owners": part})
        for owner, key, value in rows:
            found[owner][key] = value
    return found


def parts(values: Iterable[T], size: int = _IN_ONE_QUERY) -> Iterator[list[T]]:
    """Cut values into pieces that fit one statement."""
    whole = list(values)
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def _known(
    connection: Connection, table: Table, project: str, owner: str, wanted: Mapping[str, str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    if len(wanted) == 1:
        key = next(iter(wanted))
        rows = _ONE[table.name].rows(connection, project, owner, key)
        return {key: rows[0][0]} if rows else {}
    for part in parts(wanted):
        query = select(table.c.key, table.c.value).where(
            table.c.project == project, table.c.owner == owner, table.c.key.in_(part)
        )
        found |= {row[0]: row[1] for row in connection.execute(query)}
    return found


def _insert(
    connection: Connection, table: Table, project: str, owner: str, values: Mapping[str, str]
) -> None:
    rows = [(project, owner, key, value) for key, value in values.items()]
    _ADD[table.name].run(connection, rows)


def _one(table: Table) -> QuickQuery:
    query = select(table.c.value).where(
        table.c.project == bindparam("of_project"),
        table.c.owner == bindparam("of_owner"),
        table.c.key == bindparam("of_key"),
    )
    return QuickQuery(query, ["of_project", "of_owner", "of_key"])


def _of_owner(table: Table) -> Any:
    query = select(table.c.key, table.c.value).where(
        table.c.project == bindparam("of_project"), table.c.owner == bindparam("of_owner")
    )
    return query.order_by(table.c.key)


def _of_owners(table: Table) -> Any:
    query = select(table.c.owner, table.c.key, table.c.value).where(
        table.c.project == bindparam("of_project"),
        table.c.owner.in_(bindparam("of_owners", expanding=True)),
    )
    return query.order_by(unindexed(table.c.key))


# Built once: making a statement costs more than running it.
_OF_OWNERS = {table.name: _of_owners(table) for table in (PARAM, TAG)}
_ONE = {table.name: _one(table) for table in (PARAM, TAG)}
_OF_OWNER = {table.name: _of_owner(table) for table in (PARAM, TAG)}
_ADD = {
    table.name: BulkStatement(insert(table), ["project", "owner", "key", "value"])
    for table in (PARAM, TAG)
}
_CHANGE_TAG = BulkStatement(
    update(TAG)
    .where(
        TAG.c.project == bindparam("of_project"),
        TAG.c.owner == bindparam("of_owner"),
        TAG.c.key == bindparam("of_key"),
    )
    .values(value=bindparam("to_value")),
    ["to_value", "of_project", "of_owner", "of_key"],
)
