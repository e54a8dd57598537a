"""Searches of experiments and logged models in SQL; what filters and orders mean for runs too."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, case, func, select

from mainspring.core.errors import InvalidInput
from mainspring.store.filters import (
    Order,
    Term,
    number_condition,
    order,
    terms,
    text_condition,
    unindexed,
)
from mainspring.tracking.run import NAME_TAG
from mainspring.tracking.tables import (
    EXPERIMENT,
    LOGGED_MODEL,
    METRIC,
    MODEL_METRIC,
    PARAM,
    RUN_DATASET,
    RUN_RECORD,
    TAG,
    head_of,
)

View = Literal["active", "deleted", "all"]

ENTITIES = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "parameter"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
PLAIN = {name: of for name, of in ENTITIES.items() if of in ("tag", "attribute")}

# To clients a run that was cancelled or ran out of time was killed.
_STATUS = func.upper(
    case((RUN_RECORD.c.status.in_(("expired", "cancelled")), "killed"), else_=RUN_RECORD.c.status)
)
_RUN_TEXTS: Mapping[str, ColumnElement[Any]] = {
    **dict.fromkeys(("run_id", "run_uuid"), RUN_RECORD.c.run),
    **dict.fromkeys(("run_name", "run name", "Run name", "Run Name"), RUN_RECORD.c.name),
    **dict.fromkeys(("status", "Status"), _STATUS),
    "artifact_uri": RUN_RECORD.c.location,
    **dict.fromkeys(("user_id", "User", "user"), RUN_RECORD.c.person),
    "experiment_id": RUN_RECORD.c.experiment,
}
_RUN_NUMBERS: Mapping[str, ColumnElement[Any]] = {
    **dict.fromkeys(("start_time", "created", "Created"), RUN_RECORD.c.started_ms),
    "end_time": RUN_RECORD.c.ended_ms,
}
_EXPERIMENT_TEXTS = {"name": EXPERIMENT.c.name, "experiment_id": EXPERIMENT.c.experiment}
_EXPERIMENT_NUMBERS = {
    "creation_time": EXPERIMENT.c.created_ms,
    "last_update_time": EXPERIMENT.c.updated_ms,
}
_MODEL_TEXTS = {
    "name": LOGGED_MODEL.c.name,
    "model_id": LOGGED_MODEL.c.model,
    "model_type": LOGGED_MODEL.c.kind,
    "source_run_id": LOGGED_MODEL.c.run,
    "status": func.upper(LOGGED_MODEL.c.status),
    "experiment_id": LOGGED_MODEL.c.experiment,
}
_MODEL_NUMBERS = {
    **dict.fromkeys(
        ("creation_time", "creation_timestamp", "creation_timestamp_ms"), LOGGED_MODEL.c.created_ms
    ),
    **dict.fromkeys(
        ("last_updated_timestamp", "last_updated_timestamp_ms"), LOGGED_MODEL.c.updated_ms
    ),
}


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """By what to sort logged models; metrics may be asked on one dataset only."""

    field: str
    ascending: bool = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the found to give."""

    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Subject:
    """What is searched: its table, id column and attributes."""

    table: Table
    id: ColumnElement[str]
    texts: Mapping[str, ColumnElement[Any]]
    numbers: Mapping[str, ColumnElement[Any]]


RUNS = Subject(RUN_RECORD, RUN_RECORD.c.run, _RUN_TEXTS, _RUN_NUMBERS)
_EXPERIMENTS = Subject(EXPERIMENT, EXPERIMENT.c.experiment, _EXPERIMENT_TEXTS, _EXPERIMENT_NUMBERS)
_MODELS = Subject(LOGGED_MODEL, LOGGED_MODEL.c.model, _MODEL_TEXTS, _MODEL_NUMBERS)


def search_experiments(
    connection: Connection,
    project: str,
    *,
    text: str | None,
    orders: Sequence[str],
    view: View,
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of experiments that match, newest first unless ordered otherwise."""
    query = seen(select(EXPERIMENT).where(EXPERIMENT.c.project == project), EXPERIMENT, view)
    for term in terms(text, PLAIN, default="attribute"):
        query = query.where(condition(_EXPERIMENTS, project, term))
    for one in orders:
        query = ordered(query, _EXPERIMENTS, project, order(one, PLAIN, default="attribute"))
    if not orders:
        query = query.order_by(EXPERIMENT.c.created_ms.desc())
    query = query.order_by(EXPERIMENT.c.number.desc())
    return connection.execute(query.offset(page.offset).limit(page.limit)).all()


def search_models(
    connection: Connection,
    project: str,
    *,
    experiments: Sequence[str],
    text: str | None,
    datasets: Sequence[tuple[str, str | None]],
    orders: Sequence[ModelOrder],
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of logged models that match, newest first unless ordered otherwise.

    Args:
        datasets: Name and digest; a condition on a metric holds for one of them only.
    """
    query = select(LOGGED_MODEL).where(
        LOGGED_MODEL.c.project == project, LOGGED_MODEL.c.experiment.in_(experiments)
    )
    query = seen(query, LOGGED_MODEL, "active")
    for term in terms(text, ENTITIES, default="attribute"):
        if term.entity == "metric":
            query = query.where(_model_metric(project, term, datasets))
        else:
            query = query.where(condition(_MODELS, project, term))
    for one in orders:
        read = order(one.field, ENTITIES, default="attribute")
        if read.entity == "metric":
            query = _by_model_metric(query, project, read.key, one)
        else:
            way = Order(read.entity, read.key, one.ascending)
            query = ordered(query, _MODELS, project, way)
    query = query.order_by(LOGGED_MODEL.c.created_ms.desc(), LOGGED_MODEL.c.model.desc())
    return connection.execute(query.offset(page.offset).limit(page.limit)).all()


def seen(query: Select[Any], table: Table, view: View) -> Select[Any]:
    """Leave out what is deleted, or what is not, as asked."""
    match view:
        case "active":
            return query.where(table.c.deleted_ms.is_(None))
        case "deleted":
            return query.where(table.c.deleted_ms.is_not(None))
        case "all":
            return query


def condition(subject: Subject, project: str, term: Term) -> ColumnElement[bool]:
    """Give what a term of a filter asks of a subject's rows."""
    match term.entity:
        case "attribute":
            return _attribute(subject, term)
        case "parameter":
            return _keyed(subject, PARAM, project, term)
        case "tag" if term.key == NAME_TAG and subject is RUNS:
            return _text(RUN_RECORD.c.name, term)
        case "tag":
            return _keyed(subject, TAG, project, term)
        case "metric":
            return _metric(project, term)
        case _:
            return _dataset(project, term)


def _attribute(subject: Subject, term: Term) -> ColumnElement[bool]:
    if term.key in subject.texts:
        column = subject.texts[term.key]
        listed = term.operator in ("IN", "NOT IN")
        if listed and term.key not in ("run_id", "run_name", "status", "name", "model_id"):
            raise InvalidInput(
                f"Only the 'run_id' attribute supports comparison with a list of quoted string "
                f"values; found {term.key!r}"
            )
        return _text(column, term)
    if term.key in subject.numbers:
        return number_condition(subject.numbers[term.key], term)
    raise InvalidInput(f"Invalid attribute key '{term.key[:60]}' specified. {_known(subject)}")


def _known(subject: Subject) -> str:
    return f"Valid keys are {sorted({*subject.texts, *subject.numbers})}"


def _keyed(subject: Subject, table: Table, project: str, term: Term) -> ColumnElement[bool]:
    owners = select(table.c.owner).where(table.c.project == project, table.c.key == term.key)
    if term.operator == "IS NULL":
        return subject.id.not_in(owners)
    if term.operator != "IS NOT NULL":
        if term.operator in ("IN", "NOT IN"):
            raise InvalidInput(f"Invalid comparator '{term.operator}' for {term.entity} keys")
        value: ColumnElement[Any] = table.c.value
        if term.operator == "=" and isinstance(term.value, str):
            # The index has the head of a text; the whole is compared beside it, not instead.
            owners, value = owners.where(head_of(value) == head_of(term.value)), unindexed(value)
        owners = owners.where(text_condition(value, term))
    return subject.id.in_(owners)


def _metric(project: str, term: Term) -> ColumnElement[bool]:
    runs = select(METRIC.c.run).where(METRIC.c.project == project, METRIC.c.key == term.key)
    holds = number_condition(METRIC.c.value, term)
    # A NaN is unlike every number and neither more nor less than any.
    holds = holds | METRIC.c.is_nan if term.operator == "!=" else holds & ~METRIC.c.is_nan
    return RUN_RECORD.c.run.in_(runs.where(holds))


def _dataset(project: str, term: Term) -> ColumnElement[bool]:
    if term.key not in ("name", "digest", "context"):
        raise InvalidInput(
            f"Invalid dataset key '{term.key[:60]}' specified. Valid keys are "
            "['name', 'digest', 'context']"
        )
    column = RUN_DATASET.c[term.key]
    runs = select(RUN_DATASET.c.run).where(RUN_DATASET.c.project == project, _text(column, term))
    return RUN_RECORD.c.run.in_(runs)


def _model_metric(
    project: str, term: Term, datasets: Sequence[tuple[str, str | None]]
) -> ColumnElement[bool]:
    models = select(MODEL_METRIC.c.model).where(
        MODEL_METRIC.c.project == project,
        MODEL_METRIC.c.key == term.key,
        ~MODEL_METRIC.c.is_nan,
        number_condition(MODEL_METRIC.c.value, term),
    )
    if datasets:
        allowed = [_on(name, digest) for name, digest in datasets]
        models = models.where(allowed[0] if len(allowed) == 1 else _any(allowed))
    return LOGGED_MODEL.c.model.in_(models)


def _any(conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    found = conditions[0]
    for condition in conditions[1:]:
        found = found | condition
    return found


def _on(name: str | None, digest: str | None) -> ColumnElement[bool]:
    holds = [MODEL_METRIC.c.dataset_name == name] if name else []
    if digest:
        holds.append(MODEL_METRIC.c.dataset_digest == digest)
    return and_(True, *holds)


def _by_model_metric(query: Select[Any], project: str, key: str, way: ModelOrder) -> Select[Any]:
    best = func.max(MODEL_METRIC.c.value) if not way.ascending else func.min(MODEL_METRIC.c.value)
    value = (
        select(best)
        .where(
            MODEL_METRIC.c.project == project,
            MODEL_METRIC.c.model == LOGGED_MODEL.c.model,
            MODEL_METRIC.c.key == key,
            ~MODEL_METRIC.c.is_nan,
            _on(way.dataset_name, way.dataset_digest),
        )
        .scalar_subquery()
    )
    return query.order_by(_last(value), value.asc() if way.ascending else value.desc())


def _text(column: ColumnElement[Any], term: Term) -> ColumnElement[bool]:
    match term.operator:
        case "IS NULL":
            return column.is_(None)
        case "IS NOT NULL":
            return column.is_not(None)
        case _:
            return text_condition(column, term)


def ordered(query: Select[Any], subject: Subject, project: str, way: Order) -> Select[Any]:
    """Sort by one key; what has none comes last either way, and NaN before that."""
    match way.entity:
        case "metric":
            metric = METRIC.alias()
            mine = (metric.c.project == project) & (metric.c.run == subject.id)
            query = query.outerjoin(metric, mine & (metric.c.key == way.key))
            value: ColumnElement[Any] = metric.c.value
            rank: ColumnElement[Any] = case(
                (metric.c.is_nan.is_(None), 2), (metric.c.is_nan, 1), else_=0
            )
        case "parameter" | "tag":
            table = (PARAM if way.entity == "parameter" else TAG).alias()
            mine = (table.c.project == project) & (table.c.owner == subject.id)
            query = query.outerjoin(table, mine & (table.c.key == way.key))
            value, rank = table.c.value, _last(table.c.value)
        case "attribute" if way.key in subject.texts or way.key in subject.numbers:
            value = subject.texts.get(way.key, subject.numbers.get(way.key, subject.id))
            if not _nullable(value):
                return query.order_by(value.asc() if way.ascending else value.desc())
            rank = _last(value)
        case _:
            raise InvalidInput(
                f"Invalid order_by key '{way.key[:60]}' specified. {_known(subject)}"
            )
    return query.order_by(rank, value.asc() if way.ascending else value.desc())


def _nullable(column: ColumnElement[Any]) -> bool:
    """Tell whether a column may be empty; one that may not is sorted by its index."""
    return bool(getattr(column, "nullable", False))


def _last(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((column.is_(None), 1), else_=0)
