"""Merging the parts of an inference graph into one graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix
from onnx.version_converter import convert_version

from mainspring.core.errors import Unconvertible
from mainspring.formats.graph import without_zipmap
from mainspring.formats.model import Column
from mainspring.formats.plan import (
    COMPARISONS,
    SCORE,
    Chosen,
    InTurn,
    Leaf,
    Plan,
    Stacked,
    Weighted,
    leaves_of,
    named_outputs,
)


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    element: int


@dataclass(slots=True)
class _Merge:
    """The nodes so far, and what they need from outside."""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    domains: dict[str, int] = field(default_factory=dict)
    wanted: list[tuple[str, _Tensor, str]] = field(default_factory=list)
    """Column, the tensor that takes it, and the part that wants it."""
    made: int = 0

    def name(self, what: str) -> str:
        self.made += 1
        return f"join/{self.made}/{what}"

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = self.name(kind)
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), self.name("constant")))
        return str(self.constants[-1].name)


def merged(
    plan: Plan, columns: Sequence[Column], *, output: str = "probability"
) -> onnx.ModelProto:
    """Merge a plan into one graph with an input per column and one output, of the last part.

    Raises:
        Unconvertible: Two parts do not fit, or the columns are not those that the parts read;
            the message names the parts and the tensor.
    """
    leaves = list(leaves_of(plan))
    merge = _Merge(max([17, *(_opset(leaf.graph) for leaf in leaves)]))
    outputs = _build(plan, merge, {})
    last = _only(outputs, "the whole")
    front, inputs = _inputs(merge, columns)
    element = TensorProto.DOUBLE if last.element == TensorProto.DOUBLE else TensorProto.FLOAT
    score = helper.make_node("Cast", [last.name], [output], to=element)
    if any(value.name == output for value in inputs):
        raise Unconvertible(f"column {output!r} has the name of the output; rename the column")
    graph = helper.make_graph(
        [*front, *merge.nodes, score],
        "graph",
        inputs,
        [helper.make_tensor_value_info(output, element, ["rows"])],
        merge.constants,
    )
    domains = {**merge.domains, "": merge.opset}
    domains["ai.onnx.ml"] = max(3, domains.get("ai.onnx.ml", 0))
    imports = [helper.make_opsetid(domain, number) for domain, number in sorted(domains.items())]
    version = max([8, *(leaf.graph.ir_version for leaf in leaves)])
    model = helper.make_model(graph, opset_imports=imports, ir_version=version)
    model.functions.extend(merge.functions)
    onnx.checker.check_model(model, full_check=False)
    return model


# --- building


def _build(plan: Plan, merge: _Merge, scope: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    match plan:
        case Leaf():
            return _leaf(plan, merge, scope)
        case InTurn(steps):
            return _in_turn(steps, merge, scope)
        case Weighted(parts, weights):
            return _weighted(parts, weights, merge, scope)
        case Stacked(named, final):
            own = {}
            for name, part in named:
                own[name] = _only(_build(part, merge, scope), name)
            _check_read(final, own, "its parts")
            return _build(final, merge, {**scope, **own})
        case Chosen():
            return _chosen(plan, merge, scope)


def _leaf(leaf: Leaf, merge: _Merge, scope: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    merge.made += 1
    prefix = f"part/{merge.made}/"
    body = add_prefix(_at(leaf, merge.opset), prefix)
    known = {constant.name for constant in body.graph.initializer}
    for value in body.graph.input:
        if value.name in known:
            continue
        column = value.name.removeprefix(prefix)
        _take(column, _tensor(value, leaf.name), leaf.name, merge, scope)
    merge.nodes.extend(body.graph.node)
    merge.constants.extend(body.graph.initializer)
    merge.functions.extend(body.functions)
    for imported in body.opset_import:
        if imported.domain:
            merge.domains[imported.domain] = max(
                imported.version, merge.domains.get(imported.domain, 0)
            )
    given = {
        value.name.removeprefix(prefix): _tensor(value, leaf.name) for value in body.graph.output
    }
    return named_outputs(leaf, given)


def _take(
    column: str, into: _Tensor, part: str, merge: _Merge, scope: Mapping[str, _Tensor]
) -> None:
    source = scope.get(column)
    if source is None:
        merge.wanted.append((column, into, part))
    else:
        merge.nodes.append(_link(column, source, into, part))


def _link(column: str, source: _Tensor, into: _Tensor, part: str) -> onnx.NodeProto:
    if source.element == into.element:
        return helper.make_node("Identity", [source.name], [into.name])
    if TensorProto.STRING in (source.element, into.element):
        raise Unconvertible(
            f"tensor {column!r}: found {_kind(source.element)}, {part} expected "
            f"{_kind(into.element)}; give it the column as it takes it"
        )
    return helper.make_node("Cast", [source.name], [into.name], to=into.element)


def _inputs(
    merge: _Merge, columns: Sequence[Column]
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto]]:
    elements: dict[str, int] = {}
    for column, into, _ in merge.wanted:
        before = elements.setdefault(column, into.element)
        # Doubles become floats on the way in just as they would outside.
        if before != into.element and TensorProto.STRING not in (before, into.element):
            elements[column] = TensorProto.DOUBLE
    links = [
        _link(column, _Tensor(column, elements[column]), into, part)
        for column, into, part in merge.wanted
    ]
    _check_columns(merge, elements, columns)
    return links, [
        helper.make_tensor_value_info(column.name, elements[column.name], ["rows"])
        for column in columns
    ]


def _check_columns(merge: _Merge, elements: Mapping[str, int], columns: Sequence[Column]) -> None:
    types = {column.name: column.type for column in columns}
    for name, _, part in merge.wanted:
        if name not in types:
            raise Unconvertible(
                f"column {name!r}: {part} takes it, and no part before gives it; name it among "
                f"the inputs ({', '.join(types)})"
            )
        if (types[name] == "str") != (elements[name] == TensorProto.STRING):
            raise Unconvertible(
                f"column {name!r}: found {types[name]}, {part} expected {_kind(elements[name])}; "
                "give rows as that part was trained on"
            )
    unread = [name for name in types if name not in elements]
    if unread:
        raise Unconvertible(
            f"columns {', '.join(unread)}: no part reads them; leave them out of the inputs"
        )


def _in_turn(
    steps: tuple[Plan, ...], merge: _Merge, scope: Mapping[str, _Tensor]
) -> dict[str, _Tensor]:
    given: dict[str, _Tensor] = {}
    for i, step in enumerate(steps):
        if i:
            _check_read(step, given, "the part before it")
        scope = {**scope, **given}
        given = _build(step, merge, scope)
    return given


def _check_read(plan: Plan, given: Mapping[str, _Tensor], giver: str) -> None:
    takes = {value.name for leaf in leaves_of(plan) for value in leaf.graph.graph.input}
    if not takes & set(given):
        names = ", ".join(leaf.name for leaf in leaves_of(plan))
        raise Unconvertible(
            f"{names}: takes {', '.join(sorted(takes))}, and {giver} gives "
            f"{', '.join(sorted(given))}; expected a tensor of the same name: rename one"
        )


def _weighted(
    parts: tuple[Plan, ...],
    weights: tuple[float, ...],
    merge: _Merge,
    scope: Mapping[str, _Tensor],
) -> dict[str, _Tensor]:
    total = float(sum(weights))
    shares = []
    for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        given = _only(_build(part, merge, scope), f"part {i + 1} of the join")
        wide = merge.add("Cast", [given.name], to=TensorProto.DOUBLE)
        shares.append(merge.add("Mul", [wide, merge.constant(np.float64(weight / total))]))
    return {SCORE: _Tensor(merge.add("Sum", shares), TensorProto.DOUBLE)}


def _chosen(plan: Chosen, merge: _Merge, scope: Mapping[str, _Tensor]) -> dict[str, _Tensor]:
    text = isinstance(plan.value, str)
    column = _Tensor(merge.name("column"), TensorProto.STRING if text else TensorProto.DOUBLE)
    _take(plan.column, column, f"the condition on {plan.column!r}", merge, scope)
    yes = _text_equals(merge, column.name, str(plan.value)) if text else ""
    if not text:
        operator = COMPARISONS[plan.comparison][0]
        yes = merge.add(operator, [column.name, merge.constant(np.float64(plan.value))])
    branches = [
        merge.add(
            "Cast",
            [_only(_build(branch, merge, scope), "a branch").name],
            to=TensorProto.DOUBLE,
        )
        for branch in (plan.then, plan.otherwise)
    ]
    return {SCORE: _Tensor(merge.add("Where", [yes, *branches]), TensorProto.DOUBLE)}


def _text_equals(merge: _Merge, column: str, text: str) -> str:
    # Equal takes texts from operator set 19 on only; the encoder of texts takes them in all.
    found = merge.add(
        "LabelEncoder",
        [column],
        domain="ai.onnx.ml",
        keys_strings=[text],
        values_floats=[1.0],
        default_float=0.0,
    )
    return merge.add("Cast", [found], to=TensorProto.BOOL)


def _at(leaf: Leaf, opset: int) -> onnx.ModelProto:
    body = without_zipmap(leaf.graph)
    if _opset(body) == opset:
        return body
    try:
        return convert_version(body, opset)
    except Exception as error:  # its errors share no root
        raise Unconvertible(
            f"{leaf.name}: has operators of set {_opset(body)} that set {opset} of the other parts "
            f"does not know ({error}); export all parts with the same set"
        ) from error


def _opset(model: onnx.ModelProto) -> int:
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 17)


def _tensor(value: onnx.ValueInfoProto, part: str) -> _Tensor:
    kind = value.type.tensor_type
    if len(kind.shape.dim) != 1 or kind.shape.dim[0].dim_value:
        shape = [d.dim_param or d.dim_value or "?" for d in kind.shape.dim]
        raise Unconvertible(
            f"{part}: tensor {value.name.rpartition('/')[2]!r} has shape {shape}, expected one "
            "value per row; convert the part with to_onnx first"
        )
    return _Tensor(value.name, kind.elem_type)


def _only(outputs: Mapping[str, _Tensor], who: str) -> _Tensor:
    if len(outputs) != 1 or next(iter(outputs.values())).element == TensorProto.STRING:
        raise Unconvertible(
            f"{who}: gives {', '.join(outputs)}, expected one number per row; give a part with "
            "one output there"
        )
    return next(iter(outputs.values()))


def _kind(element: int) -> str:
    return str(TensorProto.DataType.Name(element)).lower()
