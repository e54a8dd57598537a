"""Traces as clients before 3.0 tell and read them."""

from collections.abc import Sequence

import mainspring.tracking.traces as tracked
from mainspring.api.verb import Call
from mainspring.server.mlflow.limits import check_key
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.traces import LOCATION_TAG, RESULTS_AT_MOST, body_of
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    Text,
    bounded,
    listed,
    offset_of,
    page_token,
    pairs,
)
from mainspring.tracking.limits import PARAM_LENGTH, TAG_LENGTH, checked_time
from mainspring.tracking.search import Page

_STATES = {"0": "STATE_UNSPECIFIED", "1": "OK", "2": "ERROR", "3": "IN_PROGRESS"}
"""By their number in the protocol."""


class Start(Message, frozen=True, kw_only=True):
    experiment_id: Text
    timestamp_ms: Int64
    request_metadata: tuple[KeyValue, ...] | None = None
    tags: tuple[KeyValue, ...] | None = None


class End(Message, frozen=True, kw_only=True):
    request_id: str = ""
    timestamp_ms: Int64
    status: Text | int
    request_metadata: tuple[KeyValue, ...] | None = None
    tags: tuple[KeyValue, ...] | None = None


class Named(Message, frozen=True, kw_only=True):
    request_id: str = ""


class Search(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Told(Message, frozen=True, kw_only=True):
    request_id: str
    experiment_id: str
    timestamp_ms: int
    execution_time_ms: int | None = None
    status: str
    request_metadata: tuple[KeyValue, ...] = ()
    tags: tuple[KeyValue, ...] = ()


class One(Message, frozen=True, kw_only=True):
    trace_info: Told


class Found(Message, frozen=True, kw_only=True):
    traces: tuple[Told, ...] = ()
    next_page_token: str | None = None


def start(call: Call, request: Start) -> One:
    """Begin a trace; its id is made here."""
    trace = f"{tracked.PREFIX}{call.platform.ids.new()}"
    head = _head(trace, request.experiment_id, request.timestamp_ms, "IN_PROGRESS")
    return One(trace_info=_shown(_put(call, head, request)))


def end(call: Call, request: End) -> One:
    """End a trace; tags and metadata are added to those that it has."""
    found = call.project.tracking.traces.get(request.request_id)
    state = str(request.status)
    head = _head(
        found.trace,
        found.experiment,
        found.at_ms,
        _STATES.get(state, state),
        took_ms=max(0, checked_time(request.timestamp_ms, what="timestamp_ms") - found.at_ms),
        metadata=found.body.get("trace_metadata", {}),
    )
    return One(trace_info=_shown(_put(call, head, request)))


def get(call: Call, request: Named) -> One:
    """Give a trace's head."""
    return One(trace_info=_shown(call.project.tracking.traces.get(request.request_id)))


def search(call: Call, request: Search) -> Found:
    """Search traces."""
    limit = bounded(request.max_results, 100, 1, RESULTS_AT_MOST, "max_results")
    experiments, orders = request.experiment_ids or (), request.order_by or ()
    asked: Sequence[object] = ["old traces", request.filter or "", orders, experiments]
    offset = offset_of(request.page_token, asked)
    found = call.project.tracking.traces.search(
        experiments, text=request.filter, orders=orders, page=Page(offset, limit + 1)
    )
    return Found(
        traces=tuple(_shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def _head(
    trace: str,
    experiment: str,
    at_ms: int,
    state: str,
    *,
    took_ms: int | None = None,
    metadata: dict[str, str] | None = None,
) -> tracked.Head:
    checked_time(at_ms, what="timestamp_ms")
    body = body_of(trace, experiment, at_ms=at_ms, state=state, took_ms=took_ms)
    return tracked.Head(
        trace=trace,
        experiment=experiment,
        at_ms=at_ms,
        state=state,
        body=body,
        tags={},
        metadata=metadata or {},
        took_ms=took_ms,
    )


def _put(call: Call, head: tracked.Head, told: Start | End) -> tracked.Trace:
    added = {
        check_key(key, "request_metadata.key"): value[:PARAM_LENGTH]
        for key, value in pairs(told.request_metadata).items()
    }
    metadata = {**head.metadata, **added}
    tags = {
        check_key(key, "tags.key"): value[:TAG_LENGTH] for key, value in pairs(told.tags).items()
    }
    return call.project.tracking.traces.put(
        tracked.Head(
            trace=head.trace,
            experiment=head.experiment,
            at_ms=head.at_ms,
            state=head.state,
            body={**head.body, "trace_metadata": metadata},
            tags=tags,
            metadata=metadata,
            took_ms=head.took_ms,
        )
    )


def _shown(trace: tracked.Trace) -> Told:
    return Told(
        request_id=trace.trace,
        experiment_id=trace.experiment,
        timestamp_ms=trace.at_ms,
        execution_time_ms=trace.took_ms,
        status=trace.state,
        request_metadata=listed(trace.body.get("trace_metadata", {})),
        tags=listed({**trace.tags, LOCATION_TAG: trace.location}),
    )


ENDPOINTS = (
    Endpoint("POST", "/traces", WRITE, Start, start),
    Endpoint("GET", "/traces", READ, Search, search),
    Endpoint("PATCH", "/traces/{request_id}", WRITE, End, end),
    Endpoint("GET", "/traces/{request_id}/info", READ, Named, get),
)
