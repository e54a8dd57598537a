"""ONNX graphs around a converted model: one input per column in front, one number per row behind.

Inputs and output are one-dimensional, because mlflow's clients feed a frame's columns so. The
columns are joined in one step and turned (`Concat`, `Reshape`, `Transpose`), because at one row
every node counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix

from mainspring.core.errors import Unconvertible
from mainspring.formats.model import Column

_OPSET = 17
_IR = 4


@dataclass(frozen=True, slots=True)
class Codes:
    """An ordinal encoding of one string column."""

    categories: Sequence[str]
    unknown: float


@dataclass(frozen=True, slots=True)
class Front:
    """Which columns make the matrix that the body takes, in order; strings with their codes."""

    columns: Sequence[Column]
    picked: Sequence[str]
    codes: Mapping[str, Codes]


def around_matrix(body: onnx.ModelProto, front: Front, output: str) -> onnx.ModelProto:
    """Put the columns in front of a body with one matrix input (rows, columns)."""
    body = add_prefix(without_zipmap(body), "body/")
    source = body.graph.input[0]
    element = source.type.tensor_type.elem_type
    nodes, pieces = [], []
    for name in front.picked:
        if (codes := front.codes.get(name)) is None:
            pieces.append(name)
            continue
        pieces.append(f"front/{name}")
        nodes.append(_encode(name, pieces[-1], codes))
        if element == TensorProto.DOUBLE:
            nodes.append(helper.make_node("Cast", [pieces[-1]], [f"wide/{name}"], to=element))
            pieces[-1] = f"wide/{name}"
    nodes += [
        helper.make_node("Concat", pieces, ["front/flat"], axis=0),
        helper.make_node("Reshape", ["front/flat", "front/shape"], ["front/turned"]),
        helper.make_node("Transpose", ["front/turned"], [source.name], perm=[1, 0]),
    ]
    shape = numpy_helper.from_array(np.array([len(pieces), -1]), "front/shape")
    elements = {c.name: TensorProto.STRING if c.type == "str" else element for c in front.columns}
    return _assembled(body, nodes, [shape], elements, output)


def around_columns(
    body: onnx.ModelProto, columns: Sequence[Column], output: str
) -> onnx.ModelProto:
    """Put one-dimensional inputs in front of a body with an input (rows, 1) per column."""
    body = add_prefix(without_zipmap(body), "body/")
    elements = {
        value.name.removeprefix("body/"): value.type.tensor_type.elem_type
        for value in body.graph.input
    }
    known = {column.name for column in columns}
    if not set(elements) <= known:
        raise Unconvertible(
            f"graph: takes {', '.join(sorted(set(elements) - known))}, which is no column of the "
            f"signature ({', '.join(sorted(known))}); name its inputs by columns"
        )
    nodes = []
    for value in body.graph.input:
        name, rank = value.name.removeprefix("body/"), len(value.type.tensor_type.shape.dim)
        shape = "front/column" if rank == 2 else "front/flat"
        nodes.append(helper.make_node("Reshape", [name, shape], [value.name]))
    shapes = [
        numpy_helper.from_array(np.array([-1, 1]), "front/column"),
        numpy_helper.from_array(np.array([-1]), "front/flat"),
    ]
    for column in columns:
        elements.setdefault(
            column.name, TensorProto.STRING if column.type == "str" else TensorProto.FLOAT
        )
    return _assembled(body, nodes, shapes, {c.name: elements[c.name] for c in columns}, output)


def without_zipmap(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the graph with its class probabilities as a tensor instead of a list of maps."""
    zipped = {n.output[0]: n for n in model.graph.node if n.op_type == "ZipMap"}
    if not zipped:
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes = [node for node in model.graph.node if node.op_type != "ZipMap"]
    outputs = [
        helper.make_tensor_value_info(
            zipped[o.name].input[0], TensorProto.FLOAT, [None, _classes(zipped[o.name])]
        )
        if o.name in zipped
        else o
        for o in model.graph.output
    ]
    del plain.graph.node[:], plain.graph.output[:]
    plain.graph.node.extend(nodes)
    plain.graph.output.extend(outputs)
    return plain


def _classes(zipmap: onnx.NodeProto) -> int:
    labels = {attribute.name: attribute for attribute in zipmap.attribute}
    return max(
        len(labels[name].ints or labels[name].strings)
        for name in ("classlabels_int64s", "classlabels_strings")
        if name in labels
    )


def _encode(name: str, coded: str, codes: Codes) -> onnx.NodeProto:
    return helper.make_node(
        "LabelEncoder",
        [name],
        [coded],
        domain="ai.onnx.ml",
        keys_strings=list(codes.categories),
        values_floats=[float(i) for i in range(len(codes.categories))],
        default_float=codes.unknown,
    )


def _assembled(
    body: onnx.ModelProto,
    front: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    elements: Mapping[str, int],
    output: str,
) -> onnx.ModelProto:
    if output in elements:
        raise Unconvertible(f"column {output!r} has the name of the output; rename the column")
    scores = _scores(body)
    # Converters declare float where a graph of doubles gives doubles, so the end is cast.
    wide = TensorProto.DOUBLE in elements.values()
    element = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    nodes = [*front, *body.graph.node, *_one_per_row(scores, output, element)]
    named = {
        "back/flat": numpy_helper.from_array(np.array([-1]), "back/flat"),
        "back/second": numpy_helper.from_array(np.array(1), "back/second"),
        **{constant.name: constant for constant in constants},
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(name, kind, ["rows"]) for name, kind in elements.items()],
        [helper.make_tensor_value_info(output, element, ["rows"])],
        [*(c for name, c in named.items() if name in used), *body.graph.initializer],
    )
    domains = {o.domain: o.version for o in body.opset_import}
    domains.setdefault("ai.onnx.ml", 3)
    domains.setdefault("", _OPSET)  # A converter of trees alone imports no other operators.
    # Sorted: the converters list them in the order of a set, which differs by process.
    imports = [helper.make_opsetid(domain, number) for domain, number in sorted(domains.items())]
    # From 4 on, constants need not be inputs as well.
    version = max(body.ir_version, _IR)
    model = helper.make_model(graph, opset_imports=imports, ir_version=version)
    model.functions.extend(body.functions)
    _forget_origin(model)
    onnx.checker.check_model(model)
    return model


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop where in the author's files a node comes from: it differs by machine."""
    nodes = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    for part in (*nodes, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("data_location")


def _scores(body: onnx.ModelProto) -> Any:
    floats = [
        o
        for o in body.graph.output
        if o.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
    ]
    if not floats:
        names = ", ".join(o.name.removeprefix("body/") for o in body.graph.output)
        raise Unconvertible(f"graph: no output of floats among {names}; give one per row")
    return floats[-1]


def _one_per_row(scores: Any, output: str, element: int) -> list[onnx.NodeProto]:
    dims = scores.type.tensor_type.shape.dim
    classes = dims[1].dim_value if len(dims) == 2 else 1
    if classes == 2:
        picked = helper.make_node("Gather", [scores.name, "back/second"], ["back/one"], axis=1)
        return [picked, helper.make_node("Cast", ["back/one"], [output], to=element)]
    if len(dims) in (1, 2) and classes == 1:
        picked = helper.make_node("Reshape", [scores.name, "back/flat"], ["back/one"])
        return [picked, helper.make_node("Cast", ["back/one"], [output], to=element)]
    found = f"{classes} columns" if len(dims) == 2 and classes else f"{len(dims)} dimensions"
    raise Unconvertible(
        f"graph: output {scores.name.removeprefix('body/')!r} has {found}; expected one value per "
        "row or the probabilities of two classes, with that number in its shape"
    )
