"""Spans of traces: each a row, found by its name, type, state and text."""

import base64
import binascii
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select

from mainspring.core.errors import InvalidInput
from mainspring.tracking.tables import SPAN
from mainspring.tracking.texts import parts

SPANS_AT_MOST = 10_000
"""Of one trace; what is told beyond is kept in the client's file only."""

SPAN_BYTES = 1 << 20
TYPE = "mlflow.spanType"
INPUTS, OUTPUTS = "mlflow.spanInputs", "mlflow.spanOutputs"

_OK = "STATUS_CODE_"
_DEPTH = 64

AnyValue = dict[str, Any]


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute; its value in OpenTelemetry's form, `{"string_value": ...}`."""

    key: str
    value: AnyValue = {}


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened within a span."""

    name: str = ""
    time_unix_nano: int = 0
    attributes: tuple[Attribute, ...] = ()


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a span ended."""

    code: str = "STATUS_CODE_UNSET"
    message: str = ""


class Span(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A span in the JSON of OpenTelemetry's protocol; ids are base64."""

    trace_id: str
    span_id: str
    name: str
    parent_span_id: str = ""
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    attributes: tuple[Attribute, ...] = ()
    events: tuple[Event, ...] = ()
    status: Status = Status()

    @property
    def state(self) -> str:
        """OK, ERROR or UNSET."""
        return self.status.code.removeprefix(_OK)

    def attribute(self, key: str) -> Any:
        """Give an attribute's value; None without one."""
        return next((plain(one.value) for one in self.attributes if one.key == key), None)


def hex_id(told: str) -> str:
    """Give an id in hexadecimal.

    Raises:
        InvalidInput: It is not base64.
    """
    try:
        return base64.b64decode(told, validate=True).hex()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"span id {told[:60]!r} is not base64") from error


def put_spans(connection: Connection, project: str, trace: str, spans: Sequence[Span]) -> None:
    """Keep spans of a trace; one that is told again is replaced."""
    told = {hex_id(span.span_id): span for span in spans}
    for part in parts(told):
        mine = (SPAN.c.project == project) & (SPAN.c.trace == trace) & SPAN.c.span.in_(part)
        connection.execute(delete(SPAN).where(mine))
    known = select(SPAN.c.span).where(SPAN.c.project == project, SPAN.c.trace == trace)
    if len(connection.execute(known).all()) + len(told) > SPANS_AT_MOST:
        raise InvalidInput(f"trace {trace}: more than {SPANS_AT_MOST} spans, the rest do not fit")
    rows = [_row(project, trace, name, span) for name, span in told.items()]
    if rows:
        connection.execute(insert(SPAN), rows)


def spans_of(connection: Connection, project: str, traces: Sequence[str]) -> dict[str, list[Span]]:
    """Give the spans of traces, each trace's in the order they began."""
    found: dict[str, list[Span]] = defaultdict(list)
    for part in parts(traces):
        mine = (SPAN.c.project == project) & SPAN.c.trace.in_(part)
        query = select(SPAN).where(mine).order_by(SPAN.c.start_ns, SPAN.c.span)
        for row in connection.execute(query):
            found[row.trace].append(msgspec.json.decode(row.body, type=Span))
    return found


def wrapped(value: Any, depth: int = 0) -> AnyValue:
    """Give a JSON value in OpenTelemetry's form."""
    if depth > _DEPTH:
        raise InvalidInput(f"a span's attribute is nested deeper than {_DEPTH} levels")
    match value:
        case None:
            return {}
        case bool():
            return {"bool_value": value}
        case int() if -(1 << 63) <= value < 1 << 63:
            return {"int_value": value}
        case int() | float():
            return {"double_value": float(value)}
        case list():
            return {"array_value": {"values": [wrapped(one, depth + 1) for one in value]}}
        case dict():
            pairs = [{"key": str(k), "value": wrapped(v, depth + 1)} for k, v in value.items()]
            return {"kvlist_value": {"values": pairs}}
        case _:
            return {"string_value": str(value)}


def plain(value: AnyValue) -> Any:
    """Give the JSON value of one in OpenTelemetry's form."""
    for kind, found in value.items():
        match kind:
            case "array_value":
                return [plain(one) for one in found.get("values", ())]
            case "kvlist_value":
                return {one["key"]: plain(one["value"]) for one in found.get("values", ())}
            case _:
                return found
    return None


def _row(project: str, trace: str, name: str, span: Span) -> dict[str, Any]:
    body = msgspec.json.encode(span).decode()
    if len(body) > SPAN_BYTES:
        raise InvalidInput(f"span {span.name[:60]!r} has {len(body)} bytes, at most {SPAN_BYTES}")
    return {
        "project": project,
        "trace": trace,
        "span": name,
        "name": span.name,
        "kind": str(span.attribute(TYPE) or "UNKNOWN"),
        "status": span.state,
        "start_ns": span.start_time_unix_nano,
        "body": body,
    }
