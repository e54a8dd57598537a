"""The V2 protocol's infer request: from its bytes to rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, SchemaMismatch
from mainspring.core.ids import IdSource
from mainspring.formats.model import Column
from mainspring.formats.routes import EndpointRoute
from mainspring.serving.tensors import MOST_ELEMENTS, InputTensor, column
from mainspring.serving.vectors import Rows

KEY = "__key__"
EVENT_TIME = "__event_time__"
OUTPUTS = {"score": "FP64", "version": "BYTES", "arm": "BYTES"}
"""What may be asked for, with the datatype; `score` alone by default."""

LONGEST_ID = 200
LONGEST_KEY = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
Aware = Annotated[datetime, msgspec.Meta(tz=True)]
_ADDED = {KEY: Column(KEY, "str"), EVENT_TIME: Column(EVENT_TIME, "str")}


class WantedOutput(msgspec.Struct, frozen=True):
    """One output that the caller asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(msgspec.Struct, frozen=True):
    """The JSON of an infer request; what else is in it is ignored."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[WantedOutput] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An infer request, understood."""

    id: str | None
    rows: Rows
    outputs: tuple[str, ...]
    binary: frozenset[str]
    """Outputs that are to come as bytes behind the JSON."""
    timeout_us: int | None
    """How long it may wait to be scored."""


def parse(content: bytes, json_bytes: int | None) -> tuple[InferBody, memoryview]:
    """Read the JSON of a body; give it with the bytes behind it.

    Args:
        content: The body.
        json_bytes: Where the JSON ends, if binary data follows.

    Raises:
        InvalidInput: It is not such JSON.
    """
    whole = memoryview(content)
    end = len(whole) if json_bytes is None else json_bytes
    if not 0 <= end <= len(whole):
        raise InvalidInput(
            f"body: Inference-Header-Content-Length says {end}, found {len(whole)} bytes"
        )
    try:
        return _decode(whole[:end]), whole[end:]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"body: not a V2 request ({error}); expected JSON with 'inputs', each with name, "
            "shape, datatype and data; a missing number is null"
        ) from error


def understood(
    body: InferBody, behind: memoryview, route: EndpointRoute, *, clock: Clock, ids: IdSource
) -> Asked:
    """Make rows of a request. Shapes and names are checked before any data is looked at.

    Raises:
        InvalidInput, SchemaMismatch: The input or output is named.
    """
    request_id = body.id or None
    if request_id is not None and len(request_id) > LONGEST_ID:
        raise InvalidInput(f"id: found {len(request_id)} characters, expected {LONGEST_ID} at most")
    columns = {column.name: column for column in route.request}
    rows = _checked_shapes(body.inputs, columns, route.endpoint)
    contents = _contents(body.inputs, behind)
    values = {
        tensor.name: column(
            tensor, columns.get(tensor.name) or _ADDED[tensor.name], contents.get(tensor.name)
        )
        for tensor in body.inputs
    }
    wanted, binary = _outputs(body)
    keys = keys_of(values.pop(KEY, None), body.parameters.get("key"), rows)
    times = times_of(values.pop(EVENT_TIME, None), body.parameters.get("event_time"), rows)
    now_us = micros_of(clock.now())
    return Asked(
        request_id,
        Rows(
            keys or [ids.new() for _ in range(rows)],
            times or [now_us] * rows,
            values,
            keys_given=keys is not None,
            times_given=times is not None,
        ),
        wanted,
        binary,
        _timeout_us(body.parameters.get("timeout")),
    )


def _timeout_us(value: object) -> int | None:
    if value is None or (type(value) is int and value > 0):
        return value
    raise InvalidInput(f"parameter 'timeout': found {value!r}, expected whole microseconds above 0")


def _checked_shapes(
    tensors: Sequence[InputTensor], columns: dict[str, Column], endpoint: str
) -> int:
    expected = ", ".join([*columns, f"{KEY} and {EVENT_TIME} (both optional)"])
    if not tensors:
        raise InvalidInput(f"endpoint {endpoint!r}: no inputs; expected {expected}")
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise InvalidInput(f"endpoint {endpoint!r}: an input is there twice; send each once")
    for tensor in tensors:
        if tensor.name not in columns and tensor.name not in _ADDED:
            raise SchemaMismatch(
                f"endpoint {endpoint!r}: unknown input {tensor.name[:60]!r}; expected {expected}"
            )
    counts = {tensor.name: tensor.count() for tensor in tensors}
    rows = counts[tensors[0].name]
    if set(counts.values()) != {rows}:
        raise InvalidInput(
            f"endpoint {endpoint!r}: inputs have different numbers of rows ("
            f"{', '.join(f'{name} {count}' for name, count in counts.items())}); send as many each"
        )
    if rows * len(tensors) > MOST_ELEMENTS:
        raise InvalidInput(
            f"endpoint {endpoint!r}: found {rows * len(tensors)} values, expected at most "
            f"{MOST_ELEMENTS} in one request; send fewer rows"
        )
    return rows


def _contents(tensors: Sequence[InputTensor], behind: memoryview) -> dict[str, memoryview]:
    contents, at = {}, 0
    for tensor in tensors:
        size = tensor.binary_size
        if size is not None:
            contents[tensor.name] = behind[at : at + size]
            at += size
    if at != len(behind):
        raise InvalidInput(
            f"body: the inputs' binary_data_size say {at} bytes, found {len(behind)} behind the "
            "JSON (its length is in the header Inference-Header-Content-Length)"
        )
    return contents


def _outputs(body: InferBody) -> tuple[tuple[str, ...], frozenset[str]]:
    wanted = [WantedOutput("score")] if body.outputs is None else body.outputs
    for output in wanted:
        if output.name not in OUTPUTS:
            raise InvalidInput(
                f"unknown output {output.name[:60]!r}; expected some of {', '.join(OUTPUTS)}"
            )
    by_default = body.parameters.get("binary_data_output") is True
    binary = {w.name for w in wanted if w.parameters.get("binary_data", by_default) is True}
    return tuple(dict.fromkeys(output.name for output in wanted)), frozenset(binary)


def keys_of(tensor: list[Any] | None, parameter: Any, rows: int) -> list[str] | None:
    """Give the rows' keys out of the tensor or the parameter; None if there are none."""
    if tensor is None:
        if parameter is None:
            return None
        if rows != 1:
            raise InvalidInput(f"the parameter 'key' is for one row, found {rows}; send {KEY}")
        tensor = [parameter]
    elif parameter is not None:
        raise InvalidInput(f"found the parameter 'key' and {KEY}; send one of them")
    for i, key in enumerate(tensor):
        if type(key) is not str or not 0 < len(key) <= LONGEST_KEY:
            raise InvalidInput(
                f"key of row {i}: expected a text of 1 to {LONGEST_KEY} characters; it joins the "
                "label later"
            )
    return tensor


def times_of(tensor: list[Any] | None, parameter: Any, rows: int) -> list[int] | None:
    """Give the rows' event times as `keys_of` does, in microseconds."""
    if tensor is None:
        if parameter is None:
            return None
        tensor = [parameter]
    elif parameter is not None:
        raise InvalidInput(f"found the parameter 'event_time' and {EVENT_TIME}; send one of them")
    try:
        instants = msgspec.convert(tensor, list[Aware])
    except msgspec.ValidationError as error:
        raise InvalidInput(
            f"event time: {error}; expected RFC 3339 with a zone, such as 2013-07-01T10:00:00Z"
        ) from error
    micros = [micros_of(instant) for instant in instants]
    # One event time may stand for all rows: those of one moment are usually asked together.
    return micros if len(micros) == rows else micros * rows


def micros_of(instant: datetime) -> int:
    """Give an instant in microseconds of UTC since 1970."""
    return (instant - _EPOCH) // _US


_decode = msgspec.json.Decoder(InferBody).decode
