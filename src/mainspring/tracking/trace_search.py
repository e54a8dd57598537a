"""Searches of traces: by what was told of them, by tags, assessments and their runs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from mainspring.core.errors import InvalidInput
from mainspring.store.filters import Term, order, terms, text_condition
from mainspring.tracking.search import Page, Subject, condition, ordered
from mainspring.tracking.tables import ASSESSMENT, PARAM, TAG, TRACE, TRACE_RUN

NAME_TAG = "mlflow.traceName"
SOURCE_RUN = "mlflow.sourceRun"
"""Metadata that names the run in which a trace was made."""

_SUBJECT = Subject(
    TRACE,
    TRACE.c.trace,
    {
        **dict.fromkeys(("trace_id", "request_id"), TRACE.c.trace),
        **dict.fromkeys(("status", "state"), TRACE.c.state),
        "experiment_id": TRACE.c.experiment,
    },
    dict.fromkeys(("timestamp_ms", "timestamp", "request_time"), TRACE.c.at_ms),
)
_ENTITIES = {
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "trace"), "attribute"),
    # What a client told of a trace lies where parameters do.
    **dict.fromkeys(("metadata", "request_metadata", "trace_metadata"), "parameter"),
    **dict.fromkeys(("feedback", "assessment", "assessments"), "feedback"),
    **dict.fromkeys(("expectation", "expectations"), "expectation"),
}


def search_traces(
    connection: Connection,
    project: str,
    *,
    experiments: Sequence[str],
    text: str | None,
    orders: Sequence[str],
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of traces that match, newest first unless ordered otherwise."""
    query = _matching(select(TRACE), project, experiments, [text])
    for one in orders:
        query = ordered(query, _SUBJECT, project, order(one, _ENTITIES, default="attribute"))
    query = query.order_by(TRACE.c.at_ms.desc(), TRACE.c.trace)
    return connection.execute(query.offset(page.offset).limit(page.limit)).all()


def count_traces(
    connection: Connection, project: str, *, experiments: Sequence[str], texts: Sequence[str]
) -> int:
    """Count the traces that match all of some filters."""
    query = _matching(select(func.count()).select_from(TRACE), project, experiments, texts)
    return int(connection.execute(query).scalar_one())


def _matching(
    query: Select[Any], project: str, experiments: Sequence[str], texts: Sequence[str | None]
) -> Select[Any]:
    query = query.where(TRACE.c.project == project, TRACE.c.experiment.in_(experiments))
    for text in texts:
        for term in terms(text, _ENTITIES, default="attribute"):
            query = query.where(_condition(project, term))
    return query


def _condition(project: str, term: Term) -> ColumnElement[bool]:
    if term.entity in ("feedback", "expectation"):
        return _assessed(project, term)
    if term.entity == "attribute" and term.key == "run_id":
        return _of_run(project, term)
    if term.entity == "attribute" and term.key in ("name", "trace_name"):
        named = select(TAG.c.owner).where(TAG.c.project == project, TAG.c.key == NAME_TAG)
        return TRACE.c.trace.in_(named.where(text_condition(TAG.c.value, term)))
    return condition(_SUBJECT, project, term)


def _assessed(project: str, term: Term) -> ColumnElement[bool]:
    mine = select(ASSESSMENT.c.trace).where(
        ASSESSMENT.c.project == project,
        ASSESSMENT.c.kind == term.entity,
        ASSESSMENT.c.name == term.key,
        ASSESSMENT.c.valid,
    )
    match term.operator:
        case "IS NULL":
            return TRACE.c.trace.not_in(mine)
        case "IS NOT NULL":
            return TRACE.c.trace.in_(mine)
        case "IN" | "NOT IN":
            raise InvalidInput(f"Invalid comparator '{term.operator}' for {term.entity} keys")
        case _:
            return TRACE.c.trace.in_(mine.where(text_condition(ASSESSMENT.c.value, term)))


def _of_run(project: str, term: Term) -> ColumnElement[bool]:
    if term.operator != "=":
        raise InvalidInput(f"Invalid comparator '{term.operator}' for attribute 'run_id'; use '='")
    linked = select(TRACE_RUN.c.trace).where(
        TRACE_RUN.c.project == project, TRACE_RUN.c.run == term.value
    )
    made = select(PARAM.c.owner).where(
        PARAM.c.project == project, PARAM.c.key == SOURCE_RUN, PARAM.c.value == term.value
    )
    return TRACE.c.trace.in_(linked) | TRACE.c.trace.in_(made)
