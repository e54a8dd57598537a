"""Canonical encoding of plain values: equal values, equal encodings, in any process."""

import hashlib
import math
import re
import types
import typing
import uuid
import zoneinfo
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from logging import Logger
from pathlib import PurePath
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.clock import utc

Encoding = list[Any]
"""JSON: a tag and what the tag needs."""


def leaf(value: Any) -> Encoding | None:
    """Encode a value that holds no other objects, or give None when it is not one.

    Types that compare equal but behave differently (1, 1.0 and True) encode differently.
    """
    return _scalar(value) or _moment(value) or _array(value) or _marker(value)


def _scalar(value: Any) -> Encoding | None:
    match value:
        case None | bool():
            return ["constant", value]
        case _ if type(value) is int:
            return ["int", str(value)]
        case _ if type(value) is float:
            return ["float", "nan" if math.isnan(value) else value.hex()]
        case _ if type(value) is str:
            return ["str", value]
        case bytes() | bytearray():
            return [type(value).__name__, value.hex()]
        case complex() | Decimal() | Fraction() | uuid.UUID() | range() | PurePath():
            return [type(value).__name__, str(value)]
        case slice():
            return ["slice", repr(value)]
        case re.Pattern():
            return ["pattern", str(value.pattern), value.flags]
        case _:
            return None


def _moment(value: Any) -> Encoding | None:
    match value:
        case datetime():
            aware = value.tzinfo is not None
            return [
                "instant" if aware else "datetime",
                (utc(value) if aware else value).isoformat(),
            ]
        case date() | time():
            return [type(value).__name__, value.isoformat()]
        case timedelta():
            return ["timedelta", value.days, value.seconds, value.microseconds]
        case zoneinfo.ZoneInfo() | timezone():
            return ["zone", str(value)]
        case _:
            return None


def _array(value: Any) -> Encoding | None:
    match value:
        case np.dtype():
            return ["dtype", str(value)]
        case np.ndarray() if not value.dtype.hasobject:
            content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return ["array", str(value.dtype), list(value.shape), content]
        case np.generic() if not value.dtype.hasobject:
            return ["array scalar", str(value.dtype), value.tobytes().hex()]
        case pl.DataFrame():
            return ["frame", frame_digest(value)]
        case pl.Series():
            return ["series", frame_digest(value.to_frame())]
        case pl.Expr():
            return ["expression", value.meta.serialize().hex()]
        case pl.DataType():
            return ["polars type", repr(value)]
        case _:
            return None


def _marker(value: Any) -> Encoding | None:
    """Encode what stands for itself by its name."""
    match value:
        case Logger():
            return ["logger", value.name]
        case types.GenericAlias() | types.UnionType() | typing.TypeVar() | typing.ParamSpec():
            return ["type", repr(value)]
        case _ if value is Ellipsis or value is NotImplemented:
            return ["constant", repr(value)]
        case _ if type(value).__module__ == "typing":
            return ["type", repr(value)]
        case _:
            return None


def frame_digest(frame: pl.DataFrame) -> str:
    """Digest a frame by its column names, types and values, whatever its memory layout."""
    digest = hashlib.sha256(repr([frame.height, list(frame.schema.items())]).encode())
    for column in frame.iter_columns():
        _add_column(digest, column)
    return digest.hexdigest()


def _add_column(digest: "hashlib._Hash", column: pl.Series) -> None:
    # Arrow's own buffers differ with how a frame was put together, so write nulls, lengths and
    # values apart.
    digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    kind = column.dtype
    if isinstance(kind, pl.Struct):
        for field in column.struct.unnest().iter_columns():
            _add_column(digest, field)
    elif isinstance(kind, pl.List | pl.Array):
        lists = column.cast(pl.List(kind.inner))
        digest.update(lists.list.len().fill_null(0).to_numpy().tobytes())
        _add_column(digest, lists.explode())
    elif (kind.is_numeric() and not kind.is_decimal()) or kind.is_temporal():
        digest.update(column.to_physical().fill_null(0).to_numpy().tobytes())
    elif kind == pl.Boolean:
        digest.update(column.fill_null(False).cast(pl.UInt8).to_numpy().tobytes())
    elif kind == pl.Binary:
        _add_column(digest, column.bin.encode("hex"))
    else:
        texts = column.cast(pl.String).fill_null("")
        digest.update(texts.str.len_bytes().to_numpy().tobytes())
        digest.update((texts.str.join("").item() or "").encode())
