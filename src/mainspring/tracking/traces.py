"""Traces: what was told of one, kept as it came, with tags to find it by; its spans are a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from mainspring.core.errors import InvalidInput, NotFound
from mainspring.store.database import Database
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import KEY_LENGTH, checked_time
from mainspring.tracking.search import Page, search_traces
from mainspring.tracking.tables import ARTIFACT, TAG, TRACE
from mainspring.tracking.texts import delete_tag, parts, set_tags, texts_of

PREFIX = "tr-"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace's head as its client told it, and its tags."""

    trace: str
    location: str
    body: dict[str, Any]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Traces:
    """The verbs of traces in one project."""

    project: str
    database: Database
    experiments: Experiments

    def put(
        self,
        trace: str,
        *,
        experiment: str,
        at_ms: int,
        state: str,
        body: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> Trace:
        """Keep a trace's head; told again, the newer one stays."""
        plain = trace.removeprefix(PREFIX).replace("-", "").isalnum() and trace.isascii()
        if not trace.startswith(PREFIX) or not plain or len(trace) > KEY_LENGTH:
            raise InvalidInput(f"trace id {trace[:60]!r}: expected tr- and letters or digits")
        checked_time(at_ms, what="request_time")

        def work(connection: Connection) -> None:
            row = self.experiments.existing(connection, experiment, active=True)
            connection.execute(delete(TRACE).where(self._is(trace)))
            connection.execute(
                insert(TRACE).values(
                    project=self.project,
                    trace=trace,
                    experiment=experiment,
                    location=f"{row.location}/traces/{trace}/artifacts",
                    at_ms=at_ms,
                    state=state,
                    body=msgspec.json.encode(body),
                )
            )
            set_tags(connection, self.project, trace, tags)

        self.database.write(work)
        return self.get(trace)

    def get(self, trace: str) -> Trace:
        """Give one."""
        with self.database.read() as connection:
            return self._full(connection, [self._existing(connection, trace)])[0]

    def search(
        self, experiments: Sequence[str], *, text: str | None, orders: Sequence[str], page: Page
    ) -> list[Trace]:
        """Search traces."""
        with self.database.read() as connection:
            rows = search_traces(
                connection,
                self.project,
                experiments=experiments,
                text=text,
                orders=orders,
                page=page,
            )
            return self._full(connection, rows)

    def set_tag(self, trace: str, key: str, value: str) -> None:
        """Set a tag."""

        def work(connection: Connection) -> None:
            self._existing(connection, trace)
            set_tags(connection, self.project, trace, {key: value})

        self.database.write(work)

    def delete_tag(self, trace: str, key: str) -> None:
        """Remove a tag; NotFound when it is not there."""

        def work(connection: Connection) -> None:
            self._existing(connection, trace)
            if not delete_tag(connection, self.project, trace, key):
                raise NotFound(f"No trace tag with key '{key}' for trace with ID '{trace}'")

        self.database.write(work)

    def delete(
        self, experiment: str, *, traces: Sequence[str], until_ms: int | None, limit: int | None
    ) -> int:
        """Delete traces of an experiment with their files, by id or the oldest up to an instant."""
        mine = (TRACE.c.project == self.project) & (TRACE.c.experiment == experiment)
        if until_ms is not None:
            mine &= TRACE.c.at_ms <= until_ms
        if traces:
            mine &= TRACE.c.trace.in_(traces)

        def work(connection: Connection) -> int:
            query = select(TRACE.c.trace).where(mine).order_by(TRACE.c.at_ms).limit(limit)
            found = list(connection.execute(query).scalars())
            for part in parts(found):
                gone = TRACE.c.trace.in_(part)
                connection.execute(delete(TRACE).where(TRACE.c.project == self.project, gone))
                for table in (TAG, ARTIFACT):
                    owned = (table.c.project == self.project) & table.c.owner.in_(part)
                    connection.execute(delete(table).where(owned))
            return len(found)

        return self.database.write(work)

    def _existing(self, connection: Connection, trace: str) -> Row[Any]:
        row = connection.execute(select(TRACE).where(self._is(trace))).first()
        if row is None:
            raise NotFound(f"Trace with ID '{trace[:80]}' not found.")
        return row

    def _full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Trace]:
        tags = texts_of(connection, TAG, self.project, [row.trace for row in rows])
        return [
            Trace(
                trace=row.trace,
                location=row.location,
                body=msgspec.json.decode(row.body),
                tags=tags.get(row.trace, {}),
            )
            for row in rows
        ]

    def _is(self, trace: str) -> Any:
        return (TRACE.c.project == self.project) & (TRACE.c.trace == trace)
