"""Answers as bytes: msgpack, which keeps everything, or JSON, which has no word for NaN."""

import math
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from mainspring.core.errors import InvalidInput

JSON = "application/json"
MSGPACK = "application/msgpack"

NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""What stands in JSON for a number that is none, where null would mean something else."""

Clean = Callable[[Any], Any]

_CLEANERS: dict[type[Any], Clean | None] = {}
"""By type; worked out once, because looking into types is slow."""


def media_type(accept: str) -> str:
    """Choose the form of an answer: msgpack for who names it, JSON for all others.

    >>> media_type("application/msgpack"), media_type("*/*"), media_type("text/html")
    ('application/msgpack', 'application/json', 'application/json')
    """
    wanted = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return MSGPACK if MSGPACK in wanted else JSON


def encode(answer: Any, kind: type[Any], form: str) -> bytes:
    """Write an answer of a type in the form that `media_type` gave.

    In JSON a number that is not finite is null where the type allows null, else one of the texts
    "NaN", "Infinity", "-Infinity": a logged loss that exploded must not look like one that is not
    there, and must not make its run unreadable.
    """
    if form == MSGPACK:
        return msgspec.msgpack.encode(answer)
    clean = cleaner(kind)
    if clean is None:
        return msgspec.json.encode(answer)
    return msgspec.json.encode(clean(msgspec.to_builtins(answer)))


def cleaner(kind: type[Any]) -> Clean | None:
    """Give what makes a type's plain form writable in JSON; none for a type without numbers."""
    if kind not in _CLEANERS:
        _CLEANERS[kind] = _of(inspect.type_info(kind), {})
    return _CLEANERS[kind]


def _of(kind: inspect.Type, around: dict[Any, list[Clean | None]]) -> Clean | None:
    match kind:
        case inspect.FloatType():
            return _told
        case inspect.UnionType(types):
            return _union(types, around)
        case inspect.StructType() | inspect.DataclassType():
            return _fields(kind, around)
        case inspect.DictType(value_type=value):
            return _values(_of(value, around))
        case inspect.TupleType(item_types):
            return _places([_of(one, around) for one in item_types])
        case (
            inspect.VarTupleType(item_type=item)
            | inspect.ListType(item_type=item)
            | inspect.SetType(item_type=item)
            | inspect.FrozenSetType(item_type=item)
        ):
            return _items(_of(item, around))
        case _:
            return None


def _union(types: tuple[inspect.Type, ...], around: dict[Any, list[Clean | None]]) -> Clean | None:
    nullable = any(isinstance(one, inspect.NoneType) for one in types)
    of = [
        _of(one, around)
        for one in types
        if not isinstance(one, inspect.NoneType | inspect.FloatType)
    ]
    some = [clean for clean in of if clean is not None]
    if any(isinstance(one, inspect.FloatType) for one in types) and not some:
        return _any_number if nullable else _told
    if not some:
        return None
    # Of several shapes only the value knows which it is: there JSON's writer puts null.
    if len(of) > 1:
        return None
    clean = some[0]
    return lambda found: None if found is None else clean(found)


def _values(each: Clean | None) -> Clean | None:
    return each and (lambda found: {key: each(one) for key, one in found.items()})


def _items(each: Clean | None) -> Clean | None:
    return each and (lambda found: [each(one) for one in found])


def _fields(
    kind: inspect.StructType | inspect.DataclassType, around: dict[Any, list[Clean | None]]
) -> Clean | None:
    if kind.cls in around:
        # A type within itself: what it needs is known once the outer one is through.
        later = around[kind.cls]
        return lambda found: later[0](found) if later and later[0] else found
    around[kind.cls] = later = []
    fields = {one.encode_name: each for one in kind.fields if (each := _of(one.type, around))}
    if not fields:
        later.append(None)
        return None

    def clean(found: dict[str, Any]) -> dict[str, Any]:
        return {key: fields[key](one) if key in fields else one for key, one in found.items()}

    later.append(clean)
    del around[kind.cls]
    return clean


def _places(of: list[Clean | None]) -> Clean | None:
    if not any(of):
        return None
    return lambda found: [each(one) if each else one for each, one in zip(of, found, strict=True)]


def _told(found: Any) -> Any:
    if isinstance(found, float) and not math.isfinite(found):
        return "NaN" if math.isnan(found) else "Infinity" if found > 0 else "-Infinity"
    return found


def _any_number(found: Any) -> Any:
    return None if isinstance(found, float) and not math.isfinite(found) else found


def decode(body: bytes, content_type: str, kind: type[Any], *, what: str) -> Any:
    """Read a request in the form that its content type names.

    Raises:
        InvalidInput: It is not one; the message says where.
    """
    try:
        if content_type == MSGPACK:
            return msgspec.msgpack.decode(body, type=kind)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what}: {error}; see the request's fields") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidInput(f"{what}: the body is not {content_type} ({error})") from error
