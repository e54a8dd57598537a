"""Requests and answers as MLflow's clients write them: JSON in the habits of protocol buffers.

Names are in snake or camel case, whole numbers may come as text, null is absent, unknown fields are
ignored, NaN and infinities are words, bare or quoted.
"""

import base64
import json
import re
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from math import isfinite, isnan
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

import msgspec
from starlette.datastructures import QueryParams
from starlette.responses import Response

from mainspring.core.errors import InvalidInput

T = TypeVar("T", bound=msgspec.Struct)

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""Text that must be given."""
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

MORE = " See the API docs for more information about request parameters."
DEPTH_AT_MOST = 64

_EMPTY = b"{}"
_CAMEL = re.compile(rb'"[a-z]+[A-Z][A-Za-z]*"\s*:')
_AT = re.compile(r"^(.*?)(?: - at `(?:key in )?\$(.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `([^`]+)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_WORD = re.compile(r"(?<=[a-z0-9])[A-Z]")
_OFFSET_AT_MOST = 1 << 40


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Root of what is read and written."""


class KeyValue(Message, frozen=True, kw_only=True):
    """A tag or a parameter."""

    key: Text
    value: str | None = ""


class Nothing(Message, frozen=True, kw_only=True):
    """A request without fields, and the empty answer."""


def read_body(body: bytes, kind: type[T]) -> T:
    """Read a request's body.

    Raises:
        InvalidInput: It is no JSON object, or a field is missing or of another type.
    """
    # Camel case is looked for first in small bodies only: it is rare, and large ones are ours.
    if len(body) < 4096 and _CAMEL.search(body):
        return _read_slowly(body, kind)
    try:
        found: T = _decoder(kind).decode(body or _EMPTY)
        return found
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_slowly(body, kind)


def read_query(query: QueryParams, kind: type[T]) -> T:
    """Read a request's query; repeated keys are a list."""
    lists = _list_fields(kind)
    given = {
        name: query.getlist(name) if name in lists else query[name]
        for name in kind.__struct_fields__
        if name in query
    }
    return _converted(given, kind)


def answer(value: msgspec.Struct | None) -> Response:
    """Write an answer."""
    body = _EMPTY if value is None else _ENCODER.encode(value)
    return Response(body, media_type="application/json")


def number(value: float) -> float | str:
    """Give a number as JSON can carry it: what is not finite becomes a word."""
    if isfinite(value):
        return value
    if isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def page_token(offset: int, asked: object) -> str:
    """Make the token of the page that begins at an offset of what was asked."""
    return base64.urlsafe_b64encode(f"{offset}.{_fingerprint(asked)}".encode()).decode()


def offset_of(token: str | None, asked: object) -> int:
    """Read a page token; the first page has none.

    Raises:
        InvalidInput: It was not made here for this question.
    """
    if not token:
        return 0
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        offset, fingerprint = text.split(".")
        if fingerprint == _fingerprint(asked) and 0 <= int(offset) < _OFFSET_AT_MOST:
            return int(offset)
    except ValueError:
        pass
    raise InvalidInput(
        f"Invalid page token {token[:40]!r}: expected the next_page_token of the same question, "
        "or none for the first page"
    )


def bounded(value: int | None, default: int, low: int, high: int, name: str) -> int:
    """Give how many results are asked for, within what may be."""
    found = default if value is None else value
    if not low <= found <= high:
        raise InvalidInput(
            f"Invalid value {found} for parameter '{name}' supplied. It must be at least {low} and "
            f"at most {high}.{MORE}"
        )
    return found


def missing(path: str) -> InvalidInput:
    """Say that a field must be given."""
    return InvalidInput(f"Missing value for required parameter '{path}'.{MORE}")


def invalid(path: str, value: object, why: str = "") -> InvalidInput:
    """Say that a field's value cannot be."""
    written = json.dumps(value, default=str)[:300]
    return InvalidInput(f"Invalid value {written} for parameter '{path}' supplied: {why}{MORE}")


def pairs(values: Sequence[KeyValue] | None) -> dict[str, str]:
    """Give tags or parameters by key; the last of a key holds."""
    return {pair.key: pair.value or "" for pair in values or ()}


def listed(values: dict[str, str]) -> tuple[KeyValue, ...]:
    """Give tags or parameters as a list."""
    return tuple(KeyValue(key=key, value=value) for key, value in values.items())


def _read_slowly(body: bytes, kind: type[T]) -> T:
    """Read what the fast way does not: bare NaN, camel case, null fields; or say what is wrong."""
    try:
        # Of the standard library, because it reads NaN; the depth is bounded by its recursion.
        found = json.loads(body or _EMPTY)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"Malformed JSON in the request's body: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"The request's body is {type(found).__name__}, expected a JSON object")
    return _converted(_plain(found, 0, _field_names(kind)), kind)


def _converted(found: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _refused(str(error), found) from error


def _plain(value: Any, depth: int, names: frozenset[str]) -> Any:
    """Give a value with fields in snake case and without nulls."""
    if depth > DEPTH_AT_MOST:
        raise InvalidInput(f"The request's body is nested deeper than {DEPTH_AT_MOST} levels")
    match value:
        case dict():
            return {
                _snake(name, names): _plain(one, depth + 1, names)
                for name, one in value.items()
                if one is not None
            }
        case list():
            return [_plain(one, depth + 1, names) for one in value]
        case str():
            return _text(value)
        case _:
            return value


def _text(value: str) -> str:
    """Return text that can be written; half of a pair of code units cannot."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("Malformed JSON in the request's body: a lone surrogate") from error
    return value


def _snake(name: str, names: frozenset[str]) -> str:
    """Give a field's name; what is no field of ours is somebody's key and stays as it is."""
    spelled = _WORD.sub(lambda sign: f"_{sign.group().lower()}", _text(name))
    return spelled if spelled in names else name


def _refused(message: str, found: dict[str, Any]) -> InvalidInput:
    match = _AT.match(message)
    assert match is not None
    path = (match.group(2) or "").removeprefix(".")
    absent = _MISSING.search(match.group(1))
    if absent is not None:
        return missing(f"{path}.{absent.group(1)}" if path else absent.group(1))
    value = _value_at(found, path)
    if value is None or value == "":
        return missing(path)
    return invalid(path, value, f"Hint: Value was of type '{type(value).__name__}'.")


def _value_at(found: Any, path: str) -> Any:
    for name, index in _STEP.findall(path):
        try:
            found = found[int(index)] if index else found[name]
        except (KeyError, IndexError, TypeError):
            return None
    return found


def _fingerprint(asked: object) -> str:
    return blake2b(msgspec.json.encode(asked), digest_size=6).hexdigest()


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind, strict=False)


@cache
def _list_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind)
    return frozenset(
        name
        for name, hint in hints.items()
        if get_origin(hint) is tuple or any(get_origin(a) is tuple for a in _arguments(hint))
    )


@cache
def _field_names(kind: Any) -> frozenset[str]:
    """Give the names of all fields of a message and of those within it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        inner = [_field_names(hint) for hint in get_type_hints(kind).values()]
        return frozenset(kind.__struct_fields__).union(*inner)
    return frozenset().union(*(_field_names(part) for part in _arguments(kind)))


def _arguments(hint: Any) -> tuple[Any, ...]:
    return tuple(getattr(hint, "__args__", ()))


_ENCODER = msgspec.json.Encoder()
