"""Traces: what was told of one, kept as it came, with tags to find it by; its spans are a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from mainspring.core.errors import InvalidInput, NotFound
from mainspring.store.database import Database
from mainspring.tracking.assessments import assessments_of
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import KEY_LENGTH, checked_time
from mainspring.tracking.search import Page
from mainspring.tracking.state import run_exists, untracked
from mainspring.tracking.tables import ARTIFACT, ASSESSMENT, PARAM, TAG, TRACE, TRACE_RUN
from mainspring.tracking.texts import delete_tag, parts, set_params, set_tags, texts_of
from mainspring.tracking.trace_search import count_traces, search_traces

PREFIX = "tr-"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace's head as its client told it, and its tags."""

    trace: str
    location: str
    body: dict[str, Any]
    tags: dict[str, str]
    assessments: tuple[dict[str, Any], ...] = ()


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
        metadata: Mapping[str, str],
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
            # To find it by; told again, the newer hold.
            owned = (PARAM.c.project == self.project) & (PARAM.c.owner == trace)
            connection.execute(delete(PARAM).where(owned))
            set_params(connection, self.project, trace, metadata)

        self.database.write(work)
        return self.get(trace)

    def get_many(self, traces: Sequence[str]) -> list[Trace]:
        """Give those that are there, in the order asked for."""
        with self.database.read() as connection:
            rows: list[Row[Any]] = []
            for part in parts(traces):
                mine = (TRACE.c.project == self.project) & TRACE.c.trace.in_(part)
                rows += connection.execute(select(TRACE).where(mine)).all()
            found = {one.trace: one for one in self._full(connection, rows)}
        return [found[trace] for trace in traces if trace in found]

    def link(self, run: str, traces: Sequence[str]) -> None:
        """Say that traces belong to a run; again changes nothing."""

        def work(connection: Connection) -> None:
            if not run_exists(connection, self.project, run):
                raise untracked(self.project, run)
            for trace in dict.fromkeys(traces):
                self._existing(connection, trace)
                row = {"project": self.project, "trace": trace, "run": run}
                mine = [TRACE_RUN.c[name] == value for name, value in row.items()]
                if connection.execute(select(TRACE_RUN).where(*mine)).first() is None:
                    connection.execute(insert(TRACE_RUN).values(**row))

        self.database.write(work)

    def count(self, experiments: Sequence[str], texts: Sequence[str]) -> int:
        """Count the traces that match all of some filters."""
        with self.database.read() as connection:
            return count_traces(connection, self.project, experiments=experiments, texts=texts)

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
                for table in (TAG, PARAM, ARTIFACT):
                    owned = (table.c.project == self.project) & table.c.owner.in_(part)
                    connection.execute(delete(table).where(owned))
                for table in (ASSESSMENT, TRACE_RUN):
                    owned = (table.c.project == self.project) & table.c.trace.in_(part)
                    connection.execute(delete(table).where(owned))
            return len(found)

        return self.database.write(work)

    def _existing(self, connection: Connection, trace: str) -> Row[Any]:
        row = connection.execute(select(TRACE).where(self._is(trace))).first()
        if row is None:
            raise NotFound(f"Trace with ID '{trace[:80]}' not found.")
        return row

    def _full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Trace]:
        names = [row.trace for row in rows]
        tags = texts_of(connection, TAG, self.project, names)
        said = assessments_of(connection, self.project, names)
        return [
            Trace(
                trace=row.trace,
                location=row.location,
                body=msgspec.json.decode(row.body),
                tags=tags.get(row.trace, {}),
                assessments=tuple(said.get(row.trace, ())),
            )
            for row in rows
        ]

    def _is(self, trace: str) -> Any:
        return (TRACE.c.project == self.project) & (TRACE.c.trace == trace)
