"""Traces: what was told of one, kept as it came, with tags to find it by, and spans."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select

from mainspring.core.errors import InvalidInput, NotFound
from mainspring.store.database import Database
from mainspring.tracking.assessments import Body, assessments_of
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import KEY_LENGTH, checked_time
from mainspring.tracking.search import Page
from mainspring.tracking.spans import Span, put_spans, spans_of
from mainspring.tracking.state import run_exists, untracked
from mainspring.tracking.tables import ARTIFACT, ASSESSMENT, PARAM, SPAN, TAG, TRACE, TRACE_RUN
from mainspring.tracking.texts import delete_tag, parts, set_params, set_tags, texts, texts_of
from mainspring.tracking.trace_search import count_traces, search_traces

PREFIX = "tr-"
SPANS_TAG, IN_STORE = "mlflow.trace.spansLocation", "TRACKING_STORE"
"""Where clients look for spans: here, not in a file."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """A trace's head as its client told it, and its tags."""

    trace: str
    experiment: str
    location: str
    at_ms: int
    took_ms: int | None
    state: str
    body: dict[str, Any]
    tags: dict[str, str]
    assessments: tuple[dict[str, Any], ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of a trace.

    Attributes:
        trace: Its id, `tr-` and letters or digits.
        body: As it is shown, without tags and assessments.
        took_ms: None while it is under way.
    """

    trace: str
    experiment: str
    at_ms: int
    state: str
    body: Mapping[str, Any]
    tags: Mapping[str, str]
    metadata: Mapping[str, str]
    took_ms: int | None = None
    client_request: str | None = None


Describe = Callable[[str, Sequence[Span]], Head]


@dataclass(frozen=True, slots=True)
class Traces:
    """The verbs of traces in one project."""

    project: str
    database: Database
    experiments: Experiments

    def put(self, head: Head) -> Trace:
        """Keep a trace's head; told again, the newer one stays."""
        _check(head)
        self.database.write(lambda connection: self._put(connection, head))
        return self.get(head.trace)

    def put_spans(
        self, spans: Mapping[str, Sequence[Span]], describe: Describe | None = None
    ) -> None:
        """Keep spans by their trace, all of them or none.

        Args:
            describe: Says what all spans of a trace tell of it, when nobody told of it otherwise.
                Asked inside the write: of two pieces that come at once the later sees the former.

        Raises:
            NotFound: A trace is not there, and nobody describes it.
        """

        def work(connection: Connection) -> None:
            for trace, told in spans.items():
                put_spans(connection, self.project, trace, told)
                if describe is not None and self._told_by_spans(connection, trace):
                    whole = spans_of(connection, self.project, [trace])[trace]
                    head = describe(trace, whole)
                    _check(head)
                    self._put(connection, head)
                self._existing(connection, trace)

        self.database.write(work)

    def spans(self, traces: Sequence[str]) -> dict[str, list[Span]]:
        """Give the spans of traces that have any."""
        with self.database.read() as connection:
            return spans_of(connection, self.project, traces)

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

    def newest(self, experiments: Sequence[str], *, text: str | None, limit: int) -> list[Trace]:
        """Give the newest that match, without their assessments."""
        page = Page(0, limit)
        with self.database.read() as connection:
            rows = search_traces(
                connection, self.project, experiments=experiments, text=text, orders=(), page=page
            )
            return self._shown(connection, rows, {})

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
                for table in (ASSESSMENT, TRACE_RUN, SPAN):
                    owned = (table.c.project == self.project) & table.c.trace.in_(part)
                    connection.execute(delete(table).where(owned))
            return len(found)

        return self.database.write(work)

    def _told_by_spans(self, connection: Connection, trace: str) -> bool:
        if connection.execute(select(TRACE.c.trace).where(self._is(trace))).first() is None:
            return True
        return texts(connection, TAG, self.project, trace).get(SPANS_TAG) == IN_STORE

    def _put(self, connection: Connection, head: Head) -> None:
        row = self.experiments.existing(connection, head.experiment, active=True)
        connection.execute(delete(TRACE).where(self._is(head.trace)))
        connection.execute(
            insert(TRACE).values(
                project=self.project,
                trace=head.trace,
                experiment=head.experiment,
                location=f"{row.location}/traces/{head.trace}/artifacts",
                at_ms=head.at_ms,
                state=head.state,
                body=msgspec.json.encode(head.body),
                took_ms=head.took_ms,
                client_request=head.client_request,
            )
        )
        set_tags(connection, self.project, head.trace, head.tags)
        # To find it by; told again, the newer hold.
        owned = (PARAM.c.project == self.project) & (PARAM.c.owner == head.trace)
        connection.execute(delete(PARAM).where(owned))
        set_params(connection, self.project, head.trace, head.metadata)

    def _existing(self, connection: Connection, trace: str) -> Row[Any]:
        row = connection.execute(select(TRACE).where(self._is(trace))).first()
        if row is None:
            raise NotFound(f"Trace with ID '{trace[:80]}' not found.")
        return row

    def _full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Trace]:
        names = [row.trace for row in rows]
        return self._shown(connection, rows, assessments_of(connection, self.project, names))

    def _shown(
        self, connection: Connection, rows: Sequence[Row[Any]], said: Mapping[str, Sequence[Body]]
    ) -> list[Trace]:
        tags = texts_of(connection, TAG, self.project, [row.trace for row in rows])
        return [
            Trace(
                trace=row.trace,
                experiment=row.experiment,
                location=row.location,
                at_ms=row.at_ms,
                took_ms=row.took_ms,
                state=row.state,
                body=msgspec.json.decode(row.body),
                tags=tags.get(row.trace, {}),
                assessments=tuple(said.get(row.trace, ())),
            )
            for row in rows
        ]

    def _is(self, trace: str) -> Any:
        return (TRACE.c.project == self.project) & (TRACE.c.trace == trace)


def _check(head: Head) -> None:
    trace = head.trace
    plain = trace.removeprefix(PREFIX).replace("-", "").isalnum() and trace.isascii()
    if not trace.startswith(PREFIX) or not plain or len(trace) > KEY_LENGTH:
        raise InvalidInput(f"trace id {trace[:60]!r}: expected tr- and letters or digits")
    checked_time(head.at_ms, what="request_time")
