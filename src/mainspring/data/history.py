"""What the ledger's tables say of datasets: declarations and versions."""

from threading import Lock
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from mainspring.core.clock import Instant
from mainspring.core.errors import NotFound
from mainspring.data.pinned import rows_table
from mainspring.data.spec import Dataset
from mainspring.data.tables import DATASET, NEWEST_FIRST, VERSION, VersionRow, spec_of, to_us
from mainspring.data.tables import version_row as _version_row
from mainspring.data.token import Token
from mainspring.data.writing import quarantine_table
from mainspring.store.database import Database

# Built once: making a statement costs more than asking it.
_DECLARED = select(DATASET.c.spec).where(
    DATASET.c.project == bindparam("project"), DATASET.c.name == bindparam("name")
)
_NEWEST = NEWEST_FIRST.limit(1)
_BY_NUMBER = _NEWEST.where(VERSION.c.version == bindparam("version"))
_BY_WRITER = _NEWEST.where(VERSION.c.writer == bindparam("writer"))
_BY_TOKEN = _BY_WRITER.where(VERSION.c.number == bindparam("number"))
_TOKENS_AFTER = NEWEST_FIRST.where(VERSION.c.version > bindparam("version")).with_only_columns(
    VERSION.c.writer, VERSION.c.number
)


class History:
    """The declarations and versions of one project's datasets."""

    def __init__(self, *, project: str, database: Database) -> None:
        self._project = project
        self._database = database
        self._lock = Lock()
        self._tokens: dict[str, list[str]] = {}
        """By dataset, in the order of versions, which are numbered from 1 without a gap."""
        self._declared: dict[str, Dataset] = {}
        """By their text, so that each is decoded once."""

    def specs(self) -> dict[str, Dataset]:
        """Give the declared datasets by name."""
        chosen = select(DATASET).where(DATASET.c.project == self._project)
        with self._database.read() as connection:
            rows = connection.execute(chosen.order_by(DATASET.c.name)).all()
        return {row.name: spec_of(row.spec) for row in rows}

    def spec(self, name: str) -> Dataset:
        """Give one declared dataset."""
        with self._database.read() as connection:
            text = connection.scalar(_DECLARED, {"project": self._project, "name": name})
        if text is None:
            raise NotFound(
                f"dataset {name!r} is not declared in project {self._project!r}; "
                "declare it in the project file and apply it"
            )
        with self._lock:
            if text not in self._declared:
                self._declared = {**self._declared, text: spec_of(text)}
            return self._declared[text]

    def versions(self, name: str) -> list[VersionRow]:
        """List the versions, oldest first."""
        with self._database.read() as connection:
            asked = {"project": self._project, "name": name}
            rows = connection.execute(NEWEST_FIRST, asked).all()
        return [_version_row(row) for row in reversed(rows)]

    def version(self, name: str, version: int | None) -> VersionRow:
        """Give one version, the newest for None; it must exist."""
        if version is None:
            found = self.newest(name)
        else:
            found = self._first(_BY_NUMBER, name, version=version)
        if found is None:
            wanted = "any version" if version is None else f"version {version}"
            raise NotFound(
                f"dataset {name!r} does not have {wanted} in project {self._project!r}; "
                "commit rows first, or list its versions"
            )
        return found

    def newest(self, name: str) -> VersionRow | None:
        """Give the newest version, if there is any."""
        return self._first(_NEWEST, name)

    def newest_by(self, name: str, writer: str) -> VersionRow | None:
        """Give the newest version that a writer committed."""
        return self._first(_BY_WRITER, name, writer=writer)

    def by_token(self, name: str, token: Token) -> VersionRow | None:
        """Give the version a token was committed as."""
        return self._first(_BY_TOKEN, name, writer=token.writer, number=token.number)

    def tokens(self, name: str, version: int) -> list[str]:
        """List the committed tokens up to a version, oldest first."""
        with self._lock:
            known = self._tokens.get(name, [])
        if len(known) < version:
            known = known + self._tokens_after(name, len(known))
            with self._lock:
                self._tokens[name] = known
        return known[:version]

    def _tokens_after(self, name: str, version: int) -> list[str]:
        asked = {"project": self._project, "name": name, "version": version}
        with self._database.read() as connection:
            rows = connection.execute(_TOKENS_AFTER, asked).all()
        return [str(Token(writer, number)) for writer, number in reversed(rows)]

    def pins(self, at: Instant | None) -> dict[str, int]:
        """Give the newest version of every dataset, by wall time `at` if given."""
        chosen = (
            select(VERSION.c.dataset, func.max(VERSION.c.version))
            .where(VERSION.c.project == self._project)
            .group_by(VERSION.c.dataset)
            .order_by(VERSION.c.dataset)
        )
        if at is not None:
            chosen = chosen.where(VERSION.c.at_us <= to_us(at))
        with self._database.read() as connection:
            return {str(name): int(version) for name, version in connection.execute(chosen)}

    def _first(self, statement: Select[Any], name: str, **wanted: str | int) -> VersionRow | None:
        asked = {"project": self._project, "name": name, **wanted}
        with self._database.read() as connection:
            row = connection.execute(statement, asked).one_or_none()
        return None if row is None else _version_row(row)


def delta_versions(connection: Connection) -> dict[tuple[str, str], int]:
    """Give by project and Delta table the newest version that a fact names."""
    columns = VERSION.c
    newest = select(
        columns.project,
        columns.dataset,
        func.max(columns.delta_version),
        func.max(columns.quarantine_delta_version),
    ).group_by(columns.project, columns.dataset)
    named = {}
    for project, dataset, rows, quarantine in connection.execute(newest):
        named[project, rows_table(dataset)] = rows
        if quarantine is not None:
            named[project, quarantine_table(dataset)] = quarantine
    return named
