"""Searches of traces: by what was told of them, by tags, assessments and their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from mainspring.core.errors import InvalidInput
from mainspring.store.filters import Order, Term, number_condition, order, terms, text_condition
from mainspring.tracking.search import Page, Subject, condition, ordered
from mainspring.tracking.tables import ASSESSMENT, PARAM, SPAN, TAG, TRACE, TRACE_RUN

NAME_TAG = "mlflow.traceName"
PROMPTS_TAG = "mlflow.linkedPrompts"
SOURCE_RUN = "mlflow.sourceRun"
"""Metadata that names the run in which a trace was made."""

_SUBJECT = Subject(
    TRACE,
    TRACE.c.trace,
    {
        **dict.fromkeys(("trace_id", "request_id"), TRACE.c.trace),
        **dict.fromkeys(("status", "state"), TRACE.c.state),
        "experiment_id": TRACE.c.experiment,
        "client_request_id": TRACE.c.client_request,
    },
    {
        **dict.fromkeys(("timestamp_ms", "timestamp", "request_time"), TRACE.c.at_ms),
        **dict.fromkeys(
            ("execution_time_ms", "execution_time", "execution_duration"), TRACE.c.took_ms
        ),
        **dict.fromkeys(("end_time_ms", "end_time"), TRACE.c.at_ms + TRACE.c.took_ms),
    },
)
_SPAN_TEXTS: Mapping[str, ColumnElement[str]] = {
    "name": SPAN.c.name,
    "type": SPAN.c.kind,
    "status": SPAN.c.status,
    "content": SPAN.c.body,
}
_ENTITIES = {
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "trace"), "attribute"),
    # What a client told of a trace lies where parameters do.
    **dict.fromkeys(("metadata", "request_metadata", "trace_metadata"), "parameter"),
    **dict.fromkeys(("feedback", "assessment", "assessments"), "feedback"),
    **dict.fromkeys(("expectation", "expectations"), "expectation"),
    **dict.fromkeys(("span", "spans"), "span"),
}

# What is asked of a trace and kept with its tags or metadata.
_KEPT = {
    ("attribute", "name"): ("tag", NAME_TAG),
    ("attribute", "run_id"): ("parameter", SOURCE_RUN),
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
        way = order(one, _ENTITIES, default="attribute")
        entity, key = _KEPT.get((way.entity, way.key), (way.entity, way.key))
        query = ordered(query, _SUBJECT, project, Order(entity, key, way.ascending))
    query = query.order_by(TRACE.c.at_ms.desc(), TRACE.c.trace.desc())
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
    if term.entity == "span" or (term.entity, term.key) == ("attribute", "text"):
        return _spanned(project, term)
    if (term.entity, term.key) in (("attribute", "name"), ("attribute", "prompt")):
        key = NAME_TAG if term.key == "name" else PROMPTS_TAG
        named = select(TAG.c.owner).where(TAG.c.project == project, TAG.c.key == key)
        return TRACE.c.trace.in_(named.where(text_condition(TAG.c.value, _as_kept(term))))
    return condition(_SUBJECT, project, term)


def _as_kept(term: Term) -> Term:
    """Look for a prompt's version where traces keep it: in a list of names and versions."""
    if term.key != "prompt":
        return term
    name, _, version = str(term.value).rpartition("/")
    if term.operator != "=" or not term.quoted or not name:
        raise InvalidInput("Invalid prompt filter: expected prompt = '<name>/<version>'")
    pair = msgspec.json.encode({"name": name, "version": version}).decode()
    return replace(term, operator="LIKE", value=f"%{pair}%")


def _spanned(project: str, term: Term) -> ColumnElement[bool]:
    key = "content" if term.entity == "attribute" else term.key
    column = _SPAN_TEXTS.get(key)
    if column is None:
        raise InvalidInput(
            f"Invalid span attribute '{key[:60]}'. Supported attributes: name, type, status, "
            "content"
        )
    if key == "content" and term.operator not in ("LIKE", "ILIKE"):
        raise InvalidInput(f"span.content comparator '{term.operator}' not one of LIKE, ILIKE")
    mine = select(SPAN.c.trace).where(SPAN.c.project == project)
    return TRACE.c.trace.in_(mine.where(text_condition(column, term)))


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
        case ">" | ">=" | "<" | "<=":
            return TRACE.c.trace.in_(mine.where(number_condition(ASSESSMENT.c.number, term)))
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
