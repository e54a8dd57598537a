"""Evaluation datasets: what MLflow calls sets of questions with records."""

from typing import Any

import msgspec

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import digest_of
from mainspring.server.mlflow.limits import check_key
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    Message,
    Text,
    bounded,
    invalid,
    offset_of,
    page_token,
)
from mainspring.tracking.limits import TAG_LENGTH
from mainspring.tracking.questions import Question, Questions, QuestionSet
from mainspring.tracking.search import Page

RESULTS_AT_MOST = 1000
RECORDS_AT_MOST = 10_000
"""In one request."""


class Create(Message, frozen=True, kw_only=True):
    name: Text
    experiment_ids: tuple[str, ...] | None = None
    tags: str | None = None


class Named(Message, frozen=True, kw_only=True):
    dataset_id: str = ""


class Upsert(Named, frozen=True, kw_only=True):
    records: Text


class Paged(Named, frozen=True, kw_only=True):
    max_results: Int64 | None = None
    page_token: str | None = None


class Remove(Named, frozen=True, kw_only=True):
    dataset_record_ids: tuple[str, ...] | None = None


class SetTags(Named, frozen=True, kw_only=True):
    tags: Text


class DeleteTag(Named, frozen=True, kw_only=True):
    key: str = ""


class Link(Named, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None


class Search(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None
    filter_string: str | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Shown(Message, frozen=True, kw_only=True):
    dataset_id: str
    name: str
    tags: str
    profile: str | None = None
    digest: str
    created_time: int
    last_update_time: int
    created_by: str = ""
    last_updated_by: str = ""
    experiment_ids: tuple[str, ...] = ()


class One(Message, frozen=True, kw_only=True):
    dataset: Shown


class Found(Message, frozen=True, kw_only=True):
    datasets: tuple[Shown, ...] = ()
    next_page_token: str | None = None


class Upserted(msgspec.Struct, frozen=True, kw_only=True):
    inserted_count: int
    updated_count: int


class Records(Message, frozen=True, kw_only=True):
    records: str
    next_page_token: str | None = None


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    deleted_count: int


class Experiments(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] = ()


def create(call: Call, request: Create) -> One:
    """Make a dataset."""
    made = _of(call).create(
        request.name,
        experiments=request.experiment_ids or (),
        tags={key: value or "" for key, value in _tags(request.tags or "{}").items()},
        person=call.actor,
    )
    return One(dataset=_shown(made))


def get(call: Call, request: Named) -> One:
    """Give one."""
    return One(dataset=_shown(_of(call).get(request.dataset_id)))


def delete(call: Call, request: Named) -> None:
    """Delete one with its records, if it is there."""
    _of(call).delete(request.dataset_id)


def search(call: Call, request: Search) -> Found:
    """Search datasets."""
    limit = bounded(request.max_results, 1000, 1, RESULTS_AT_MOST, "max_results")
    experiments, orders = request.experiment_ids or (), request.order_by or ()
    asked = ["questions", request.filter_string or "", orders, experiments]
    offset = offset_of(request.page_token, asked)
    found = _of(call).search(
        experiments, text=request.filter_string, orders=orders, page=Page(offset, limit + 1)
    )
    return Found(
        datasets=tuple(_shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def upsert(call: Call, request: Upsert) -> Upserted:
    """Keep records; those with inputs that are there are changed."""
    try:
        told = msgspec.json.decode(request.records, type=tuple[Question, ...])
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("records", request.records[:100], str(error)) from error
    if len(told) > RECORDS_AT_MOST:
        raise InvalidInput(f"at most {RECORDS_AT_MOST} records at once, found {len(told)}")
    added, changed = _of(call).put(request.dataset_id, told, person=call.actor)
    return Upserted(inserted_count=added, updated_count=changed)


def records(call: Call, request: Paged) -> Records:
    """Give records, in one text as clients read them."""
    limit = bounded(request.max_results, 1000, 1, RECORDS_AT_MOST, "max_results")
    asked = ["records", request.dataset_id]
    offset = offset_of(request.page_token, asked)
    found = _of(call).questions(request.dataset_id, Page(offset, limit + 1))
    shown = [_record(request.dataset_id, one) for one in found[:limit]]
    return Records(
        records=msgspec.json.encode(shown).decode(),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def remove(call: Call, request: Remove) -> Removed:
    """Delete records."""
    gone = _of(call).remove(request.dataset_id, request.dataset_record_ids or ())
    return Removed(deleted_count=gone)


def set_tags(call: Call, request: SetTags) -> None:
    """Set tags; null removes one."""
    _of(call).set_tags(request.dataset_id, _tags(request.tags))


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag if it is there."""
    _of(call).set_tags(request.dataset_id, {request.key: None})


def add_experiments(call: Call, request: Link) -> One:
    """Say that experiments use it."""
    _of(call).add_experiments(request.dataset_id, request.experiment_ids or ())
    return get(call, request)


def remove_experiments(call: Call, request: Link) -> One:
    """Say that experiments use it no more."""
    _of(call).remove_experiments(request.dataset_id, request.experiment_ids or ())
    return get(call, request)


def experiments(call: Call, request: Named) -> Experiments:
    """Say which experiments use it."""
    return Experiments(experiment_ids=_of(call).get(request.dataset_id).experiments)


def _of(call: Call) -> Questions:
    return call.project.tracking.questions


def _tags(told: str) -> dict[str, str | None]:
    try:
        found = msgspec.json.decode(told, type=dict[str, str | None])
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("tags", told[:100], str(error)) from error
    return {
        check_key(key, "tags.key"): None if value is None else value[:TAG_LENGTH]
        for key, value in found.items()
    }


def _shown(found: QuestionSet) -> Shown:
    profile = msgspec.json.encode({"num_records": found.questions}).decode()
    return Shown(
        dataset_id=found.question_set,
        name=found.name,
        tags=msgspec.json.encode(found.tags).decode(),
        profile=profile if found.questions else None,
        digest=digest_of([found.question_set, found.updated_ms, found.questions])[:8],
        created_time=found.created_ms,
        last_update_time=found.updated_ms,
        created_by=found.person,
        last_updated_by=found.changed_by,
        experiment_ids=found.experiments,
    )


def _record(dataset: str, question: Question) -> dict[str, Any]:
    source = question.source or {}
    shown = {
        "dataset_record_id": question.question,
        "dataset_id": dataset,
        "inputs": question.inputs,
        "outputs": question.outputs,
        "expectations": question.expectations,
        "tags": question.tags or {},
        "source": question.source,
        "source_type": source.get("source_type"),
        "source_id": (source.get("source_data") or {}).get("trace_id"),
        "created_time": question.created_ms,
        "last_update_time": question.updated_ms,
    }
    return {name: value for name, value in shown.items() if value is not None}


_ONE = "/datasets/{dataset_id}"

ENDPOINTS = (
    Endpoint("POST", "/datasets/create", WRITE, Create, create),
    Endpoint("POST", "/datasets/search", READ, Search, search),
    Endpoint("GET", _ONE, READ, Named, get),
    Endpoint("DELETE", _ONE, WRITE, Named, delete),
    Endpoint("POST", f"{_ONE}/records", WRITE, Upsert, upsert),
    Endpoint("GET", f"{_ONE}/records", READ, Paged, records),
    Endpoint("DELETE", f"{_ONE}/records", WRITE, Remove, remove),
    Endpoint("PATCH", f"{_ONE}/tags", WRITE, SetTags, set_tags),
    Endpoint("DELETE", f"{_ONE}/tags/{{key}}", WRITE, DeleteTag, delete_tag),
    Endpoint("POST", f"{_ONE}/add-experiments", WRITE, Link, add_experiments),
    Endpoint("POST", f"{_ONE}/remove-experiments", WRITE, Link, remove_experiments),
    Endpoint("GET", f"{_ONE}/experiment-ids", READ, Named, experiments),
)
