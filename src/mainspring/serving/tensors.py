"""Tensors of the V2 protocol: from JSON or bytes to a column, and back."""

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from mainspring.core.errors import InvalidInput, SchemaMismatch
from mainspring.formats.model import Column

MOST_ROWS = 16_384
MOST_ELEMENTS = 1 << 21

_NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_RANGES = {
    name: (int(np.iinfo(name.lower()).min), int(np.iinfo(name.lower()).max))
    for name in _NUMPY
    if "INT" in name
}
DATATYPES = {"str": "BYTES", "float": "FP64", "int": "INT64", "bool": "BOOL"}
"""Of a column's type, as the metadata names it."""
_NULL = type(None)
_LENGTH = struct.Struct("<I")


class InputTensor(msgspec.Struct, frozen=True):
    """One input of a request."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    """Row-major, flat or nested."""
    parameters: dict[str, Any] = {}

    @property
    def binary_size(self) -> int | None:
        """Bytes behind the JSON that are its data; None if the data is in the JSON."""
        size = self.parameters.get("binary_data_size")
        if size is None:
            return None
        if type(size) is not int or size < 0 or self.data is not None:
            raise InvalidInput(
                f"input {self.name!r}: found binary_data_size {size!r} and "
                f"{'no ' if self.data is None else ''}data; expected a size in bytes, or data"
            )
        return size

    def count(self) -> int:
        """Give the number of rows by the shape, before any data is looked at."""
        shape = self.shape
        if not 1 <= len(shape) <= 2 or (len(shape) == 2 and shape[1] != 1):
            raise InvalidInput(
                f"input {self.name!r}: found shape {shape[:8]}, expected [rows] or [rows, 1]"
            )
        if not 1 <= shape[0] <= MOST_ROWS:
            raise InvalidInput(
                f"input {self.name!r}: found {shape[0]} rows, expected 1 to {MOST_ROWS}; send the "
                "others in a further request"
            )
        if self.datatype != "BYTES" and self.datatype not in _NUMPY:
            raise InvalidInput(
                f"input {self.name!r}: unknown datatype {self.datatype[:20]!r}; expected BYTES, "
                f"{', '.join(_NUMPY)}"
            )
        return shape[0]


def column(tensor: InputTensor, expected: Column, content: memoryview | None) -> list[Any]:
    """Read a tensor as the values of a column, None where one is missing.

    Args:
        tensor: With a shape that was checked.
        expected: What the endpoint takes.
        content: Its binary data, if it came so.

    Raises:
        InvalidInput: Shape and data disagree.
        SchemaMismatch: A value is not of the datatype, or the column takes another one.
    """
    if (tensor.datatype == "BYTES") != (expected.type == "str"):
        raise SchemaMismatch(
            f"input {tensor.name!r}: found datatype {tensor.datatype}, expected "
            f"{DATATYPES[expected.type]}"
        )
    if content is not None:
        return _from_bytes(tensor, content)
    values = _flat(tensor)
    if len(values) != tensor.shape[0]:
        raise InvalidInput(
            f"input {tensor.name!r}: found {len(values)} values for shape {tensor.shape}; send as "
            "many as the shape says"
        )
    _check_types(tensor, values)
    return values


def binary(datatype: str, values: Sequence[Any]) -> bytes:
    """Give values as the binary form of a tensor."""
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
    return np.array(values, np.dtype(_NUMPY[datatype])).tobytes()


def _flat(tensor: InputTensor) -> list[Any]:
    data = tensor.data
    if data is None:
        raise InvalidInput(f"input {tensor.name!r}: no data; send one value per row")
    kinds = set(map(type, data))
    if list not in kinds:
        return data
    if kinds != {list} or not all(len(row) == 1 for row in data):
        raise InvalidInput(
            f"input {tensor.name!r}: found rows of different lengths for shape {tensor.shape}; "
            "expected one value per row, as [1, 2] or [[1], [2]]"
        )
    return [row[0] for row in data]


def _check_types(tensor: InputTensor, values: list[Any]) -> None:
    datatype = tensor.datatype
    if datatype == "BYTES":
        fitting = {str, _NULL}
    elif datatype == "BOOL":
        fitting = {bool, _NULL}
    elif datatype.startswith("FP"):
        fitting = {float, int, _NULL}
    else:
        fitting = {int, _NULL}
    if not fitting.issuperset(map(type, values)):
        i = next(i for i, value in enumerate(values) if type(value) not in fitting)
        raise SchemaMismatch(
            f"input {tensor.name!r}, row {i}: found {_shown(values[i])}, expected {datatype} or "
            "null; correct the row, nothing was scored"
        )
    if fitting == {int, _NULL}:
        lowest, highest = _RANGES[datatype]
        for i, value in enumerate(values):
            if value is not None and not lowest <= value <= highest:
                raise SchemaMismatch(
                    f"input {tensor.name!r}, row {i}: {_shown(value)} does not fit {datatype}"
                )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _from_bytes(tensor: InputTensor, content: memoryview) -> list[Any]:
    count = tensor.shape[0]
    if tensor.datatype == "BYTES":
        return _texts(tensor, content, count)
    dtype = np.dtype(_NUMPY[tensor.datatype])
    if len(content) != count * dtype.itemsize:
        raise InvalidInput(
            f"input {tensor.name!r}: found {len(content)} bytes, expected {count * dtype.itemsize} "
            f"for {count} values of {tensor.datatype}"
        )
    values: list[Any] = np.frombuffer(content, dtype.newbyteorder("<")).tolist()
    if tensor.datatype.startswith("FP"):
        return [None if math.isnan(value) else value for value in values]
    return values


def _texts(tensor: InputTensor, content: memoryview, count: int) -> list[str]:
    texts, at = [], 0
    try:
        while at < len(content):
            (size,) = _LENGTH.unpack_from(content, at)
            at += _LENGTH.size
            if at + size > len(content):
                raise ValueError("a text is longer than what is left")
            texts.append(str(content[at : at + size], "utf-8"))
            at += size
        if len(texts) != count:
            raise ValueError(f"found {len(texts)} texts")
    except (struct.error, ValueError) as error:
        raise InvalidInput(
            f"input {tensor.name!r}: not {count} texts of UTF-8, each behind its length in four "
            f"bytes ({error})"
        ) from error
    return texts
