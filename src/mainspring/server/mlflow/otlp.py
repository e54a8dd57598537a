"""OpenTelemetry's trace export, read from its protobuf bytes or its JSON.

Only what a span keeps is read; other fields are skipped. Written out because the generated classes
are a dependency of clients, and twenty fields are what is needed.
"""

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from mainspring.core.errors import InvalidInput
from mainspring.tracking.spans import AnyValue, Attribute, Event, Span, Status, wrapped

UNPACKED_BYTES = 64 << 20
DEPTH_AT_MOST = 32

_BAD = "Invalid OpenTelemetry format"

_CODES = ("STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR")


def unpacked(body: bytes, encoding: str) -> bytes:
    """Undo a body's compression, up to a limit.

    Raises:
        InvalidInput: It is not what its header says, or far larger than it looks.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise InvalidInput(f"Unsupported Content-Encoding: {encoding[:40]}; use gzip or none")
    undo = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        found = undo.decompress(body, UNPACKED_BYTES)
    except zlib.error as error:
        raise InvalidInput(f"{_BAD}: the body is not {encoding}") from error
    if undo.unconsumed_tail or not undo.eof:
        raise InvalidInput(f"{_BAD}: the body is cut, or larger than {UNPACKED_BYTES} bytes")
    return found


def read_protobuf(body: bytes) -> list[Span]:
    """Read the spans of an export request.

    Raises:
        InvalidInput: It is none.
    """
    try:
        return [
            _span(told)
            for number, resource in _fields(memoryview(body))
            if number == 1
            for inner, scope in _fields(resource)
            if inner == 2
            for last, told in _fields(scope)
            if last == 2
        ]
    except (IndexError, struct.error, TypeError, UnicodeDecodeError) as error:
        raise InvalidInput(_BAD) from error


def read_json(body: bytes) -> list[Span]:
    """Read the spans of an export request in JSON, whose ids are hexadecimal."""
    try:
        told = msgspec.json.decode(body, type=_Request)
        return [
            _from_json(span)
            for resource in told.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
    except (msgspec.DecodeError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{_BAD}: {str(error)[:200]}") from error


# --- protobuf


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """Give number and content of each field: whole numbers as such, the rest as bytes."""
    if not isinstance(data, memoryview):
        raise TypeError("found a number, expected a message")
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(data, at)
            case 5:
                size = 4
            case _:
                raise TypeError("unknown wire type")
        if at + size > len(data):
            raise IndexError("cut")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError("a number of more than ten bytes")


def _span(data: Any) -> Span:
    fields: dict[int, Any] = {}
    attributes, events = [], []
    for number, value in _fields(data):
        if number == 9:
            attributes.append(_attribute(value))
        elif number == 11:
            events.append(_event(value))
        else:
            fields[number] = value
    return _checked(
        bytes(fields.get(1, b"")),
        bytes(fields.get(2, b"")),
        bytes(fields.get(4, b"")),
        name=_text(fields.get(5, b"")),
        start_time_unix_nano=_long(fields.get(7)),
        end_time_unix_nano=_long(fields.get(8)),
        attributes=tuple(attributes),
        events=tuple(events),
        status=_status(fields.get(15, memoryview(b""))),
    )


def _event(data: Any) -> Event:
    at, name, attributes = 0, "", []
    for number, value in _fields(data):
        match number:
            case 1:
                at = _long(value)
            case 2:
                name = _text(value)
            case 3:
                attributes.append(_attribute(value))
    return Event(name=name, time_unix_nano=at, attributes=tuple(attributes))


def _status(data: Any) -> Status:
    fields = dict(_fields(data))
    code = fields.get(3, 0)
    return Status(
        code=_CODES[code if 0 <= code < len(_CODES) else 0], message=_text(fields.get(2, b""))
    )


def _attribute(data: Any, depth: int = 0) -> Attribute:
    fields = dict(_fields(data))
    value = _value(fields[2], depth) if 2 in fields else {}
    return Attribute(key=_text(fields.get(1, b"")), value=value)


def _value(data: Any, depth: int) -> AnyValue:
    if depth > DEPTH_AT_MOST:
        raise TypeError("nested too deep")
    for number, value in _fields(data):
        match number:
            case 1:
                return {"string_value": _text(value)}
            case 2:
                return {"bool_value": bool(value)}
            case 3:
                return {"int_value": value - (1 << 64) if value >= 1 << 63 else value}
            case 4:
                return wrapped(struct.unpack("<d", value)[0])
            case 5:
                values = [_value(one, depth + 1) for _, one in _fields(value)]
                return {"array_value": {"values": values}}
            case 6:
                pairs = [_attribute(one, depth + 1) for _, one in _fields(value)]
                told = [{"key": pair.key, "value": pair.value} for pair in pairs]
                return {"kvlist_value": {"values": told}}
            case 7:
                return {"string_value": base64.b64encode(value).decode()}
    return {}


def _long(value: Any) -> int:
    return 0 if value is None else min(int(struct.unpack("<Q", value)[0]), (1 << 63) - 1)


def _text(value: Any) -> str:
    return bytes(value).decode()


# --- JSON


class _Pair(msgspec.Struct, frozen=True, rename="camel"):
    key: str = ""
    value: dict[str, Any] = {}


class _Happened(msgspec.Struct, frozen=True, rename="camel"):
    time_unix_nano: str | int = 0
    name: str = ""
    attributes: tuple[_Pair, ...] = ()


class _Ended(msgspec.Struct, frozen=True, rename="camel"):
    code: int | str = 0
    message: str = ""


class _Told(msgspec.Struct, frozen=True, rename="camel"):
    trace_id: str
    span_id: str
    parent_span_id: str = ""
    name: str = ""
    start_time_unix_nano: str | int = 0
    end_time_unix_nano: str | int = 0
    attributes: tuple[_Pair, ...] = ()
    events: tuple[_Happened, ...] = ()
    status: _Ended = _Ended()


class _Scope(msgspec.Struct, frozen=True, rename="camel"):
    spans: tuple[_Told, ...] = ()


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    scope_spans: tuple[_Scope, ...] = ()


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    resource_spans: tuple[_Resource, ...] = ()


def _from_json(told: _Told) -> Span:
    code = told.status.code
    return _checked(
        bytes.fromhex(told.trace_id),
        bytes.fromhex(told.span_id),
        bytes.fromhex(told.parent_span_id),
        name=told.name,
        start_time_unix_nano=int(told.start_time_unix_nano),
        end_time_unix_nano=int(told.end_time_unix_nano),
        attributes=tuple(Attribute(key=p.key, value=_from_camel(p.value)) for p in told.attributes),
        events=tuple(
            Event(
                name=one.name,
                time_unix_nano=int(one.time_unix_nano),
                attributes=tuple(
                    Attribute(key=p.key, value=_from_camel(p.value)) for p in one.attributes
                ),
            )
            for one in told.events
        ),
        status=Status(
            code=_CODES[code] if isinstance(code, int) and 0 <= code < 3 else str(code),
            message=told.status.message,
        ),
    )


def _from_camel(value: dict[str, Any], depth: int = 0) -> AnyValue:
    if depth > DEPTH_AT_MOST:
        raise ValueError("nested too deep")
    for kind, found in value.items():
        match kind:
            case "stringValue" | "bytesValue":
                return {"string_value": str(found)}
            case "boolValue":
                return {"bool_value": bool(found)}
            case "intValue":
                return wrapped(int(found))
            case "doubleValue":
                return wrapped(float(found))
            case "arrayValue":
                values = [_from_camel(one, depth + 1) for one in found.get("values", ())]
                return {"array_value": {"values": values}}
            case "kvlistValue":
                pairs = [
                    {"key": str(one["key"]), "value": _from_camel(one.get("value", {}), depth + 1)}
                    for one in found.get("values", ())
                ]
                return {"kvlist_value": {"values": pairs}}
    return {}


def _checked(trace: bytes, span: bytes, parent: bytes, **told: Any) -> Span:
    if len(trace) != 16 or len(span) != 8:
        raise InvalidInput(f"{_BAD}: a span needs a trace id of 16 bytes and an id of 8")
    if not told["name"]:
        told["name"] = "span"
    return Span(
        trace_id=base64.b64encode(trace).decode(),
        span_id=base64.b64encode(span).decode(),
        parent_span_id=base64.b64encode(parent).decode(),
        **told,
    )
