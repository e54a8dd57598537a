"""The quick way to read a V2 request: plain JSON, each value of its column's own type.

What it does not take is no error: it goes the long way (`asking.py`), which says what is wrong.
"""

import struct
from array import array
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Annotated, Any, Literal, cast

import msgspec

from mainspring.core.errors import MainspringError
from mainspring.core.ids import IdSource
from mainspring.formats.model import Column
from mainspring.serving.asking import (
    EVENT_TIME,
    KEY,
    LONGEST_ID,
    LONGEST_KEY,
    Aware,
    keys_of,
    micros_of,
    times_of,
)
from mainspring.serving.replay import asked_digest
from mainspring.serving.sent import Sent
from mainspring.serving.tensors import MOST_ELEMENTS, MOST_ROWS
from mainspring.serving.vectors import Rows

_KEPT_ORDERS = 64
_Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Key = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_KEY)]
_RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]


class _Number(msgspec.Struct, frozen=True, gc=False):
    name: str
    shape: tuple[Literal[1]]
    datatype: Literal["FP64", "FP32"]
    data: tuple[float | _Whole | None]
    parameters: None = None


class _Value(msgspec.Struct, frozen=True, gc=False):
    name: str
    shape: tuple[Literal[1]]
    datatype: Literal["FP64", "FP32", "INT64", "BYTES", "BOOL"]
    data: tuple[float | _Whole | str | bool | None]
    parameters: None = None


class _Column(msgspec.Struct, frozen=True, gc=False):
    name: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]]
    datatype: Literal["FP64", "FP32", "INT64", "BYTES", "BOOL"]
    data: list[float | _Whole | str | bool | None]
    parameters: None = None


class _Parameters(msgspec.Struct, frozen=True, gc=False):
    key: _Key | None = None
    event_time: Aware | None = None
    binary_data_output: Literal[False] | None = None
    timeout: None = None


_NONE = _Parameters()


class _Numbers(msgspec.Struct, frozen=True, gc=False):
    inputs: list[_Number]
    id: _RequestId | None = None
    parameters: _Parameters = _NONE
    outputs: None = None


class _Values(msgspec.Struct, frozen=True, gc=False):
    inputs: list[_Value]
    id: _RequestId | None = None
    parameters: _Parameters = _NONE
    outputs: None = None


class _Columns(msgspec.Struct, frozen=True, gc=False):
    inputs: list[_Column]
    id: _RequestId | None = None
    parameters: _Parameters = _NONE
    outputs: None = None


_columns = msgspec.json.Decoder(_Columns).decode
_numbers = msgspec.json.Decoder(_Numbers).decode
_values = msgspec.json.Decoder(_Values).decode

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_MISSING = float("nan")
# Of a column: the datatypes and the types of values that need no second look.
_FITTING: dict[str, tuple[frozenset[str], frozenset[type]]] = {
    "float": (frozenset({"FP64", "FP32"}), frozenset({float, int, type(None)})),
    "int": (frozenset({"INT64"}), frozenset({int, type(None)})),
    "bool": (frozenset({"BOOL"}), frozenset({bool, type(None)})),
    "str": (frozenset({"BYTES"}), frozenset({str, type(None)})),
}

_Pick = Callable[[list[Any]], Sequence[Any]]


class QuickReader:
    """Reads requests of one endpoint, columns in whatever order they come."""

    def __init__(self, columns: Sequence[Column], version: str | None) -> None:
        self._columns = tuple(columns)
        self._version = version
        self._names = [column.name for column in columns]
        self._packed = struct.Struct(f"{len(columns)}d").pack
        self._plain = all(column.type == "float" for column in columns)
        self._orders: dict[tuple[str, ...], _Pick] = {}

    def read(self, content: bytes, *, now_us: int, ids: IdSource) -> Sent | None:
        """Give the request; None if it must go the long way."""
        body: _Numbers | _Values
        try:
            body = _numbers(content) if self._plain else _values(content)
        except _UNREADABLE:
            return self._many(content, now_us, ids)
        names = [tensor.name for tensor in body.inputs]
        values: list[Any] = [tensor.data[0] for tensor in body.inputs]
        in_order: Sequence[Any] = values
        if names != self._names:
            pick = self._order(tuple(names))
            if pick is None:
                return None
            in_order = pick(values)
        strings: dict[str, list[str]] = {}
        numbers = in_order
        if not self._plain:
            datatypes = {tensor.name: tensor.datatype for tensor in body.inputs}
            numbers = []
            for column, value in zip(self._columns, in_order, strict=True):
                fitting, types = _FITTING[column.type]
                if type(value) not in types or datatypes[column.name] not in fitting:
                    return None
                if column.type == "str":
                    strings[column.name] = ["" if value is None else value]
                else:
                    numbers.append(value)
        floats = _numbers_of(numbers).tobytes()
        given = body.parameters
        keys = [ids.new() if given.key is None else given.key]
        times = [now_us if given.event_time is None else micros_of(given.event_time)]
        if body.id is None:
            return Sent(keys, times, floats, strings)
        columns = {name: [value] for name, value in zip(names, values, strict=True)}
        rows = Rows(keys, times, columns, given.key is not None, given.event_time is not None)
        return Sent(keys, times, floats, strings, body.id, asked_digest(rows, self._version))

    def row(self, content: bytes) -> tuple[bytes, str | None, int | None] | None:
        """Give the numbers, key and event time of a request of one row that names no id.

        Only of an endpoint whose columns are all floats; None if it must be read otherwise.
        """
        try:
            body = _numbers(content)
        except _UNREADABLE:
            return None
        inputs, given = body.inputs, body.parameters
        in_order: list[float | None] = [tensor.data[0] for tensor in inputs]
        values: Sequence[float | None] = in_order
        names = [tensor.name for tensor in inputs]
        if body.id is not None:
            return None
        if names != self._names:
            pick = self._order(tuple(names))
            if pick is None:
                return None
            values = pick(in_order)
        try:
            floats = self._packed(*values)
        except struct.error:
            floats = _numbers_of(values).tobytes()
        if given is _NONE:
            return floats, None, None
        at = given.event_time
        return floats, given.key, None if at is None else micros_of(at)

    def _many(self, content: bytes, now_us: int, ids: IdSource) -> Sent | None:
        """Read a request of several rows, or of one with its key among the inputs."""
        try:
            body = _columns(content)
        except _UNREADABLE:
            return None
        named = {tensor.name: tensor for tensor in body.inputs}
        sent_keys, sent_times = named.pop(KEY, None), named.pop(EVENT_TIME, None)
        columns = {name: tensor.data for name, tensor in named.items()}
        added = [tensor for tensor in (sent_keys, sent_times) if tensor is not None]
        if len(columns) != len(self._columns) or len(columns) + len(added) != len(body.inputs):
            return None
        count = body.inputs[0].shape[0]
        if count * len(body.inputs) > MOST_ELEMENTS or any(t.datatype != "BYTES" for t in added):
            return None
        if any(t.shape[0] != count or len(t.data) != count for t in body.inputs):
            return None
        strings: dict[str, list[str]] = {}
        floats = array("d")
        for column in self._columns:
            tensor = named.get(column.name)
            fitting, types = _FITTING[column.type]
            if (
                tensor is None
                or tensor.datatype not in fitting
                or not types.issuperset(map(type, tensor.data))
            ):
                return None
            if column.type == "str":
                texts = cast(list[str | None], tensor.data)
                strings[column.name] = [text or "" for text in texts]
            else:
                floats += _numbers_of(cast(list[float | None], tensor.data))
        given = body.parameters
        try:
            keys = keys_of(None if sent_keys is None else sent_keys.data, given.key, count)
            times = times_of(
                None if sent_times is None else sent_times.data, given.event_time, count
            )
        except MainspringError:
            return None
        rows = Rows(
            keys or [ids.new() for _ in range(count)],
            times or [now_us] * count,
            columns,
            keys is not None,
            times is not None,
        )
        asked = b"" if body.id is None else asked_digest(rows, self._version)
        return Sent(rows.keys, rows.event_times_us, floats.tobytes(), strings, body.id, asked)

    def _order(self, names: tuple[str, ...]) -> _Pick | None:
        """Give what puts values sent in this order into the order of the columns."""
        pick = self._orders.get(names)
        if pick is None and len(names) > 1 and sorted(names) == sorted(self._names):
            pick = itemgetter(*(names.index(name) for name in self._names))
            if len(self._orders) < _KEPT_ORDERS:
                self._orders[names] = pick
        return pick


def _numbers_of(values: Sequence[float | None]) -> "array[float]":
    try:
        return array("d", cast(Sequence[float], values))
    except TypeError:
        return array("d", [_MISSING if value is None else value for value in values])
