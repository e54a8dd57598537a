"""Spans: sent by OpenTelemetry's protocol, or read from the file that a client uploads."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.core.ids import Digest
from mainspring.server.mlflow.otlp import read_json, read_protobuf, unpacked
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.traces import Many, body_of, shown
from mainspring.server.mlflow.wire import Message, Text
from mainspring.server.routing import Asked, Route
from mainspring.tracking.artifacts import Place
from mainspring.tracking.limits import TAG_LENGTH
from mainspring.tracking.spans import (
    INPUTS,
    OUTPUTS,
    Attribute,
    Event,
    Span,
    Status,
    hex_id,
    wrapped,
)
from mainspring.tracking.traces import IN_STORE, PREFIX, SPANS_TAG, Head

FILE = "traces.json"
"""Where clients put the spans of a trace."""

FILE_BYTES = 32 << 20
"""A larger file is kept, and its spans are not looked into."""

BATCH_AT_MOST = 100
PREVIEW_LENGTH = 1000
EXPERIMENT, RUN = "x-mlflow-experiment-id", "x-mlflow-run-id"

_log = logging.getLogger("mainspring.server")


class Asking(Message, frozen=True, kw_only=True):
    trace_id: Text
    allow_partial: bool | None = None


class Whole(Message, frozen=True, kw_only=True):
    trace_info: dict[str, Any]
    spans: tuple[Span, ...] = ()


class One(Message, frozen=True, kw_only=True):
    trace: Whole


class Wholes(Message, frozen=True, kw_only=True):
    traces: tuple[Whole, ...] = ()


class _Happened(msgspec.Struct, frozen=True, kw_only=True):
    name: str = ""
    time_unix_nano: int | None = None
    attributes: dict[str, Any] | None = None


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """A span as clients write it to their file: each attribute is JSON in a text."""

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str = ""
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None
    attributes: dict[str, Any] = {}
    events: tuple[_Happened, ...] = ()
    status: dict[str, str | None] = {}


class _File(msgspec.Struct, frozen=True, kw_only=True):
    spans: tuple[_Told, ...] = ()


def get(call: Call, request: Asking) -> One:
    """Give a trace with its spans."""
    traces = call.project.tracking.traces
    found = traces.get(request.trace_id)
    spans = traces.spans([found.trace]).get(found.trace, ())
    return One(trace=Whole(trace_info=shown(found), spans=tuple(spans)))


def get_many(call: Call, request: Many) -> Wholes:
    """Give several traces with their spans; those that are not there are left out."""
    wanted = request.trace_ids or ()
    if len(wanted) > BATCH_AT_MOST:
        raise InvalidInput(f"at most {BATCH_AT_MOST} trace ids at once, found {len(wanted)}")
    traces = call.project.tracking.traces
    found = traces.get_many(wanted)
    spans = traces.spans([one.trace for one in found])
    return Wholes(
        traces=tuple(
            Whole(trace_info=shown(one), spans=tuple(spans.get(one.trace, ()))) for one in found
        )
    )


def export(asked: Asked) -> Response:
    """Take spans by OpenTelemetry's protocol, all of a request or none."""
    headers = asked.request.headers
    experiment = headers.get(EXPERIMENT)
    if not experiment:
        raise InvalidInput(f"Missing header {EXPERIMENT}: the experiment that the spans go to")
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if kind not in ("application/x-protobuf", "application/json"):
        raise InvalidInput(
            f"Invalid Content-Type: {kind[:60]}. Expected: application/x-protobuf or "
            "application/json"
        )
    body = unpacked(asked.body, headers.get("content-encoding", "").lower())
    spans = read_json(body) if kind == "application/json" else read_protobuf(body)
    if not spans:
        raise InvalidInput("Invalid OpenTelemetry format - no spans found")
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[PREFIX + hex_id(span.trace_id)].append(span)
    traces = asked.call.project.tracking.traces
    traces.put_spans(by_trace, lambda trace, whole: _head(trace, experiment, whole))
    if run := headers.get(RUN):
        traces.link(run, list(by_trace))
    return Response(b"{}" if kind == "application/json" else b"", media_type=kind)


def read_file(call: Call, place: Place, digest: Digest, size_bytes: int) -> None:
    """Look into a trace's file that was uploaded, so that its spans are found and answered.

    What cannot be read stays a file: clients read it themselves.
    """
    if place.path != FILE or not place.owner.startswith(PREFIX) or size_bytes > FILE_BYTES:
        return
    try:
        told = msgspec.json.decode(call.project.blobs.get(digest), type=_File)
        spans = {place.owner: [_span(one) for one in told.spans]}
        call.project.tracking.traces.put_spans(spans)
    except (msgspec.DecodeError, MainspringError, ValueError) as error:
        _log.info("the spans of trace %s are not looked into: %s", place.owner, error)


def _head(trace: str, experiment: str, spans: Sequence[Span]) -> Head:
    """Say of a trace what its spans tell, most of it the one without a parent."""
    root = next((span for span in spans if not span.parent_span_id), None)
    began = min(span.start_time_unix_nano for span in spans) // 1_000_000
    took = None
    if root is not None:
        took = max(span.end_time_unix_nano for span in spans) // 1_000_000 - began
    state = "IN_PROGRESS" if root is None else "ERROR" if root.state == "ERROR" else "OK"
    metadata = {"mlflow.trace_schema.version": "3"}
    body = body_of(trace, experiment, at_ms=began, state=state, took_ms=took)
    body["trace_metadata"] = metadata
    if root is not None:
        for name, key in (("request_preview", INPUTS), ("response_preview", OUTPUTS)):
            if (value := root.attribute(key)) is not None:
                body[name] = _preview(value)
    tags = {SPANS_TAG: IN_STORE}
    if root is not None:
        tags["mlflow.traceName"] = root.name[:TAG_LENGTH]
    return Head(
        trace=trace,
        experiment=experiment,
        at_ms=began,
        state=state,
        body=body,
        tags=tags,
        metadata=metadata,
        took_ms=took,
    )


def _preview(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:PREVIEW_LENGTH]


def _span(told: _Told) -> Span:
    attributes = told.attributes.items()
    return Span(
        trace_id=told.trace_id,
        span_id=told.span_id,
        parent_span_id=told.parent_span_id or "",
        name=told.name,
        start_time_unix_nano=told.start_time_unix_nano or 0,
        end_time_unix_nano=told.end_time_unix_nano or 0,
        attributes=tuple(Attribute(key=key, value=_value(one)) for key, one in attributes),
        events=tuple(
            Event(
                name=one.name,
                time_unix_nano=one.time_unix_nano or 0,
                attributes=tuple(
                    Attribute(key=key, value=wrapped(value))
                    for key, value in (one.attributes or {}).items()
                ),
            )
            for one in told.events
        ),
        status=Status(
            code=told.status.get("code") or "STATUS_CODE_UNSET",
            message=told.status.get("message") or "",
        ),
    )


def _value(told: Any) -> dict[str, Any]:
    if not isinstance(told, str):
        return wrapped(told)
    try:
        return wrapped(msgspec.json.decode(told))
    except msgspec.DecodeError:
        return wrapped(told)


ENDPOINTS = (
    Endpoint("GET", "/traces/get", READ, Asking, get),
    Endpoint("GET", "/traces/batchGet", READ, Many, get_many),
    Endpoint("POST", "/traces/batchGet", READ, Many, get_many),
)
EXPORT = Route("POST", "/v1/traces", WRITE, export)
