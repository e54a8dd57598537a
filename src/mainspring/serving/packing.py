"""One matrix in place of an input per column, in the bytes of a graph.

Graphs of ours take a one-dimensional input per column and begin by joining them (`formats/
graph.py`), as mlflow's clients want it. At one row, feeding dozens of inputs costs several times
the model, so a worker takes the joining out and feeds the joined matrix. It has no ONNX library:
what is changed is a few fields of the protobuf message.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_FLOAT = 1
_FRONT = (("Concat", "front/flat"), ("Reshape", "front/turned"))
_SHAPE = b"front/shape"


@dataclass(frozen=True, slots=True)
class Packed:
    """A graph that takes a matrix."""

    content: bytes
    matrix: str
    """Name of the input of shape (rows, columns), float32."""
    columns: tuple[str, ...]


def packed(content: bytes) -> Packed | None:
    """Give the graph with a matrix for its columns of numbers; None if it is of another form.

    The caller replays the goldens on it, as on every graph.
    """
    try:
        return _packed(content)
    except (ValueError, IndexError, UnicodeDecodeError):
        return None


def _packed(content: bytes) -> Packed | None:
    ((graph_at, graph_end, graph),) = [
        (begin, end, value) for number, begin, end, value in _fields(content) if number == 7
    ]
    fields = list(_fields(graph))
    nodes = [(i, _node(value)) for i, (number, _, _, value) in enumerate(fields) if number == 1]
    front = [(i, n) for i, n in nodes if any(out.startswith("front/") for out in n.outputs)]
    turning = [(i, n) for i, n in nodes if n.inputs == ["front/turned"]]
    made = tuple((n.kind, n.outputs[0]) for _, n in front)
    if made != _FRONT or len(turning) != 1 or turning[0][1].kind != "Transpose":
        return None
    (_, joining), (_, reshaping) = front
    (matrix,) = turning[0][1].outputs
    columns = joining.inputs
    taken_out = {i for i, _ in [*front, *turning]}
    elsewhere = {name for i, n in nodes if i not in taken_out for name in n.inputs}
    inputs = {_name(f[3], 1): i for i, f in enumerate(fields) if f[0] == 11}
    shape = struct.pack("<qq", len(columns), -1)
    shaped = [f[3] for f in fields if f[0] == 5 and _name(f[3], 8) == _SHAPE.decode()]
    if (
        reshaping.inputs != ["front/flat", _SHAPE.decode()]
        or len(set(columns)) < len(columns)
        or not set(columns) <= set(inputs)
        or elsewhere & {*columns, "front/flat", "front/turned"}
        or any(_element(fields[inputs[name]][3]) != _FLOAT for name in columns)
        or [shape in one for one in shaped] != [True]
    ):
        return None
    taken_out |= {inputs[name] for name in columns}
    kept = [graph[b:e] for i, (_, b, e, _) in enumerate(fields) if i not in taken_out]
    kept.append(_field(11, _matrix(matrix, len(columns))))
    whole = content[:graph_at] + _field(7, b"".join(kept)) + content[graph_end:]
    return Packed(whole, matrix, tuple(columns))


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: list[str]
    outputs: list[str]


def _node(content: bytes) -> _Node:
    found: dict[int, list[str]] = {1: [], 2: [], 4: []}
    for number, _, _, value in _fields(content):
        if number in found:
            found[number].append(value.decode())
    return _Node("".join(found[4]), found[1], found[2])


def _name(content: bytes, at: int) -> str:
    return "".join(value.decode() for number, _, _, value in _fields(content) if number == at)


def _element(value_info: bytes) -> int:
    """Give the type of an input's elements: ValueInfo.type.tensor_type.elem_type."""
    (kind,) = [value for number, _, _, value in _fields(value_info) if number == 2]
    (tensor,) = [value for number, _, _, value in _fields(kind) if number == 1]
    (element,) = [value for number, _, _, value in _fields(tensor) if number == 1]
    return element[0]


def _matrix(name: str, columns: int) -> bytes:
    rows = _field(1, _field(2, b"rows"))
    width = _field(1, b"\x08" + _varint(columns))
    tensor = b"\x08" + _varint(_FLOAT) + _field(2, rows + width)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _fields(content: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Give each field's number, where it begins and ends, and its value."""
    at = 0
    while at < len(content):
        begin = at
        tag, at = _read_varint(content, at)
        kind = tag & 7
        if kind == 0:
            value_at = at
            _, at = _read_varint(content, at)
        elif kind == 2:
            size, value_at = _read_varint(content, at)
            at = value_at + size
        elif kind in (1, 5):
            value_at, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError(f"found wire type {kind}")
        if at > len(content):
            raise ValueError("a field is longer than its message")
        yield tag >> 3, begin, at, content[value_at:at]


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
