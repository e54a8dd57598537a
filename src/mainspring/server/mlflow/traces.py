"""Traces: heads, tags and search; the spans are a file that the client uploads by itself."""

from datetime import datetime
from typing import Any

import msgspec

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.server.mlflow.limits import check_key
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    Message,
    Text,
    bounded,
    missing,
    offset_of,
    page_token,
)
from mainspring.tracking.limits import TAG_LENGTH, millis
from mainspring.tracking.search import Page
from mainspring.tracking.traces import Trace

LOCATION_TAG = "mlflow.artifactLocation"
"""Where the client uploads a trace's spans."""

RESULTS_AT_MOST = 500


class InExperiment(Message, frozen=True, kw_only=True):
    experiment_id: Text


class Location(Message, frozen=True, kw_only=True):
    type: str | int | None = None
    mlflow_experiment: InExperiment | None = None


class Head(Message, frozen=True, kw_only=True):
    """What the table keeps apart; the rest is kept as it came."""

    trace_id: Text
    trace_location: Location
    request_time: datetime
    state: str | int | None = None
    tags: dict[str, str] | None = None


class Told(Message, frozen=True, kw_only=True):
    trace_info: dict[str, Any]


class Start(Message, frozen=True, kw_only=True):
    trace: Told


class One(Message, frozen=True, kw_only=True):
    trace: Told


class Named(Message, frozen=True, kw_only=True):
    trace_id: str = ""


class SetTag(Named, frozen=True, kw_only=True):
    key: Text
    value: str | None = ""


class DeleteTag(Named, frozen=True, kw_only=True):
    key: Text


class Search(Message, frozen=True, kw_only=True):
    locations: tuple[Location, ...] | None = None
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    traces: tuple[dict[str, Any], ...] = ()
    next_page_token: str | None = None


class Delete(Message, frozen=True, kw_only=True):
    experiment_id: Text
    max_timestamp_millis: Int64 | None = None
    max_traces: Int64 | None = None
    request_ids: tuple[str, ...] | None = None


class Deleted(Message, frozen=True, kw_only=True):
    traces_deleted: int


def start(call: Call, request: Start) -> One:
    """Keep a trace's head; its answer says where the spans go."""
    told = request.trace.trace_info
    try:
        head = msgspec.convert(told, Head, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Invalid value for parameter 'trace.trace_info': {error}") from error
    if head.trace_location.mlflow_experiment is None:
        raise missing("trace.trace_info.trace_location.mlflow_experiment")
    if head.request_time.tzinfo is None:
        raise InvalidInput("Invalid value for parameter 'request_time': it has no time zone")
    tags = {
        check_key(key, "tags.key"): value[:TAG_LENGTH] for key, value in (head.tags or {}).items()
    }
    kept = call.project.tracking.traces.put(
        head.trace_id,
        experiment=head.trace_location.mlflow_experiment.experiment_id,
        at_ms=millis(head.request_time),
        state=str(head.state or "STATE_UNSPECIFIED"),
        body={name: value for name, value in told.items() if name != "tags"},
        tags=tags,
    )
    return One(trace=Told(trace_info=_shown(kept)))


def get(call: Call, request: Named) -> One:
    """Give a trace's head."""
    found = call.project.tracking.traces.get(request.trace_id)
    return One(trace=Told(trace_info=_shown(found)))


def search(call: Call, request: Search) -> Found:
    """Search traces."""
    limit = bounded(request.max_results, 100, 1, RESULTS_AT_MOST, "max_results")
    experiments = [
        one.mlflow_experiment.experiment_id
        for one in request.locations or ()
        if one.mlflow_experiment is not None
    ]
    orders = request.order_by or ()
    asked = ["traces", request.filter or "", orders, experiments]
    offset = offset_of(request.page_token, asked)
    found = call.project.tracking.traces.search(
        experiments, text=request.filter, orders=orders, page=Page(offset, limit + 1)
    )
    return Found(
        traces=tuple(_shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def set_tag(call: Call, request: SetTag) -> None:
    """Set a tag."""
    key = check_key(request.key, "key")
    call.project.tracking.traces.set_tag(request.trace_id, key, (request.value or "")[:TAG_LENGTH])


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag."""
    call.project.tracking.traces.delete_tag(request.trace_id, request.key)


def delete(call: Call, request: Delete) -> Deleted:
    """Delete traces with their spans."""
    if (request.request_ids is None) == (request.max_timestamp_millis is None):
        raise InvalidInput("Either `max_timestamp_millis` or `trace_ids` must be specified.")
    count = call.project.tracking.traces.delete(
        request.experiment_id,
        traces=request.request_ids or (),
        until_ms=request.max_timestamp_millis,
        limit=request.max_traces,
    )
    return Deleted(traces_deleted=count)


def _shown(trace: Trace) -> dict[str, Any]:
    return {**trace.body, "tags": {**trace.tags, LOCATION_TAG: trace.location}}


ENDPOINTS = (
    Endpoint("POST", "/traces", WRITE, Start, start),
    Endpoint("POST", "/traces/search", READ, Search, search),
    Endpoint("POST", "/traces/delete-traces", WRITE, Delete, delete),
    Endpoint("GET", "/traces/{trace_id}", READ, Named, get),
    Endpoint("PATCH", "/traces/{trace_id}/tags", WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/traces/{trace_id}/tags", WRITE, DeleteTag, delete_tag),
)
OLD_ENDPOINTS = (
    Endpoint("POST", "/traces/delete-traces", WRITE, Delete, delete),
    Endpoint("PATCH", "/traces/{trace_id}/tags", WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/traces/{trace_id}/tags", WRITE, DeleteTag, delete_tag),
)
