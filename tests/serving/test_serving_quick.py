"""The quick way of reading a request finds what the long way finds, or leaves it to it."""

import json
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.serving.serving_process import Json, tensor

from mainspring.core.clock import SystemClock
from mainspring.core.errors import MainspringError
from mainspring.core.ids import Digest, IdSource
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import Column, Signature
from mainspring.formats.routes import Arm, EndpointRoute
from mainspring.serving.asking import parse, understood
from mainspring.serving.packing import packed
from mainspring.serving.quick import QuickReader
from mainspring.serving.runtime import OnnxModel
from mainspring.serving.sent import Sent, sent_rows

CLOCK = SystemClock()
IDS = IdSource(CLOCK)
MIXED = (
    Column("origin", "str"),
    Column("distance", "float"),
    Column("hour", "int"),
    Column("night", "bool"),
)
NUMBERS = (Column("a", "float"), Column("b", "float"), Column("c", "float"))


def route(columns: tuple[Column, ...]) -> EndpointRoute:
    arm = Arm("1", Digest("a" * 64), "live", 1.0)
    return EndpointRoute("default", "delay", "salt", (arm,), columns, (), 1.0, None)


def the_long_way(content: bytes, columns: tuple[Column, ...]) -> Sent | None:
    try:
        body, behind = parse(content, None)
        asked = understood(body, behind, route(columns), clock=CLOCK, ids=IDS)
        return sent_rows(asked.rows, columns, subject="endpoint 'delay'", request_id=asked.id)
    except MainspringError:
        return None


_values = st.one_of(
    st.floats(),
    st.integers(-10, 10),
    st.sampled_from([None, "x", "", True, False, 2**63, 2**63 - 1, -(2**63), 2**64, 10**400]),
    st.just([1.0]),
)
_datatypes = st.sampled_from(["FP64", "FP32", "FP16", "INT64", "INT8", "BOOL", "BYTES", "X"])
_shapes = st.sampled_from([[1], [1], [1], [1, 1], [2], []])


@st.composite
def bodies(draw: st.DrawFn, columns: tuple[Column, ...], rows: int) -> bytes:
    """A request that is nearly right."""
    usual: dict[str, tuple[str, Any]] = {
        "float": ("FP64", 1.5),
        "int": ("INT64", 3),
        "bool": ("BOOL", True),
        "str": ("BYTES", "JFK"),
    }
    inputs = [
        tensor(column.name, usual[column.type][0], [usual[column.type][1]] * rows)
        for column in columns
    ]
    if rows > 1:
        inputs.append(tensor("__key__", "BYTES", ["k"] * rows))
    if draw(st.booleans()):
        inputs.append(tensor("__event_time__", "BYTES", ["2013-04-01T00:30:00Z"] * rows))
    for _ in range(draw(st.integers(0, 2))):
        change: Json = draw(
            st.one_of(
                st.builds(lambda value: {"data": [value] * rows}, _values),
                st.builds(lambda kind: {"datatype": kind}, _datatypes),
                st.builds(lambda shape: {"shape": shape}, _shapes),
                st.sampled_from(
                    [
                        {"name": "more"},
                        {"name": columns[0].name},
                        {"parameters": {}},
                        {"parameters": {"binary_data_size": 8}},
                        {"data": None},
                        {"data": [1, 2]},
                    ]
                ),
            )
        )
        inputs[draw(st.integers(0, len(inputs) - 1))].update(change)
    parameters: Json = {}
    if rows == 1:
        parameters["key"] = "k"
    if "__event_time__" not in [one["name"] for one in inputs]:
        parameters["event_time"] = "2013-04-01T02:30:00.25+02:00"
    more: Json = draw(
        st.sampled_from(
            [
                {},
                {"id": "r"},
                {"id": ""},
                {"id": "x" * 201},
                {"outputs": [{"name": "arm"}]},
                {"parameters": {**parameters, "key": ""}},
                {"parameters": {**parameters, "event_time": "2013-04-01T00:30:00"}},
                {"parameters": {**parameters, "binary_data_output": True}},
                {"parameters": {**parameters, "other": 1}},
                {"parameters": None},
            ]
        )
    )
    body = {"parameters": parameters, "inputs": draw(st.permutations(inputs)), **more}
    return json.dumps(body, allow_nan=True).encode()


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("columns", [MIXED, NUMBERS])
def test_the_quick_way_finds_what_the_long_way_finds(
    columns: tuple[Column, ...], rows: int
) -> None:
    taken = list[bool]()

    @settings(deadline=None, max_examples=400)
    @given(content=bodies(columns, rows))
    def check(content: bytes) -> None:
        quick = QuickReader(columns, None).read(content, now_us=0, ids=IDS)
        taken.append(quick is not None)

        if quick is not None:
            assert quick == the_long_way(content, columns)

    check()
    assert any(taken)
    assert not all(taken)


def test_what_came_without_key_and_time_gets_them() -> None:
    body = {"inputs": [tensor(name, "FP64", [1.0]) for name in "abc"], "id": "r"}

    sent = QuickReader(NUMBERS, None).read(json.dumps(body).encode(), now_us=7, ids=IDS)

    long = the_long_way(json.dumps(body).encode(), NUMBERS)
    assert sent is not None
    assert long is not None
    assert (len(sent.keys[0]), list(sent.times_us), sent.asked) == (32, [7], long.asked)


def trees(columns: tuple[Column, ...]) -> bytes:
    """A graph of ours: it begins by joining its columns."""
    from lightgbm import LGBMClassifier

    table = np.random.default_rng(0).normal(size=(400, len(columns)))
    model = LGBMClassifier(n_estimators=5, num_leaves=4, verbose=-1, n_jobs=1)
    model.fit(table, table[:, 0] + table[:, 1] > 0)
    frame = {column.name: table[:, i].tolist() for i, column in enumerate(columns)}
    return to_onnx(model, columns, frame)


@pytest.fixture(scope="module")
def graph() -> bytes:
    return trees(NUMBERS)


def test_a_graph_with_a_matrix_scores_as_the_one_with_columns(
    graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = Signature(NUMBERS, "probability")
    rows = np.random.default_rng(1).normal(size=(50, 3))
    # In another order than the graph joins them, and with one that is missing.
    rows[3, 1] = np.nan
    columns = {name: rows[:, i].tolist() for i, name in reversed(list(enumerate("abc")))}
    matrix = OnnxModel(Digest("a" * 64), signature, graph)
    monkeypatch.setattr("mainspring.serving.runtime.packed", lambda _: None)
    plain = OnnxModel(Digest("a" * 64), signature, graph)

    assert matrix._packed is not None
    assert plain._packed is None
    np.testing.assert_array_equal(matrix.score(columns), plain.score(columns))
    one = {name: values[:1] for name, values in columns.items()}
    assert matrix.score(one) == plain.score(one)


def test_graphs_of_another_form_are_left_as_they_are(graph: bytes) -> None:
    def changed(change: Any) -> bytes:
        model = onnx.load_from_string(graph)
        change(model.graph)
        content: bytes = model.SerializeToString()
        return content

    def used_twice(graph: Any) -> None:
        graph.node.append(helper.make_node("Identity", ["a"], ["again"]))

    def another_shape(graph: Any) -> None:
        (shape,) = [one for one in graph.initializer if one.name == "front/shape"]
        shape.raw_data = np.array([1, -1]).tobytes()

    def doubles(graph: Any) -> None:
        graph.input[0].type.tensor_type.elem_type = 11

    def joined_otherwise(graph: Any) -> None:
        next(node for node in graph.node if node.op_type == "Concat").input[0] = "b"

    found = packed(changed(lambda _: None))
    assert found is not None
    assert found.columns == ("a", "b", "c")
    for change in (used_twice, another_shape, doubles, joined_otherwise):
        assert packed(changed(change)) is None


@settings(deadline=None, max_examples=200)
@given(cut=st.integers(0, 3000), byte=st.binary(max_size=4))
def test_bytes_that_are_no_graph_are_left_as_they_are(graph: bytes, cut: int, byte: bytes) -> None:
    packed(graph[:cut] + byte + graph[cut + len(byte) :])
    assert packed(graph[: cut % (len(graph) // 2)]) is None
