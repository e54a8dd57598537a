"""Plans of inference graphs, and answering with their parts one by one.

A plan is a tree: parts at its leaves, how they work together above. What a part gives is a column
for the parts behind it, by name; every column that no part gives is an input of the whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

_T = TypeVar("_T")

SCORE = "score"
"""Column that parts behind a model, a join or a condition read its answer from."""

COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "<": ("Less", np.less),
    "<=": ("LessOrEqual", np.less_equal),
    ">": ("Greater", np.greater),
    ">=": ("GreaterOrEqual", np.greater_equal),
    "==": ("Equal", np.equal),
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part: a graph whose inputs and outputs are columns."""

    name: str
    graph: onnx.ModelProto
    scores: bool = False
    """Its one output is a model's answer, which other parts know as `score`."""


@dataclass(frozen=True, slots=True)
class InTurn:
    """Parts one after the other: each may read what those before it gave."""

    steps: tuple["Plan", ...]


@dataclass(frozen=True, slots=True)
class Weighted:
    """The weighted mean of what parts give."""

    parts: tuple["Plan", ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stacked:
    """Parts side by side under names, and a last one that reads these."""

    parts: tuple[tuple[str, "Plan"], ...]
    final: "Plan"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Row by row, what one part gives where a column compares as said, else what the other does."""

    column: str
    comparison: str
    value: float | str
    then: "Plan"
    otherwise: "Plan"


Plan = Leaf | InTurn | Weighted | Stacked | Chosen


def leaves_of(plan: Plan) -> list[Leaf]:
    """List the parts from left to right."""
    match plan:
        case Leaf():
            return [plan]
        case InTurn(steps):
            below: tuple[Plan, ...] = steps
        case Weighted(parts, _):
            below = parts
        case Stacked(named, final):
            below = (*(part for _, part in named), final)
        case Chosen():
            below = (plan.then, plan.otherwise)
    return [leaf for part in below for leaf in leaves_of(part)]


def one_by_one(
    plan: Plan,
    columns: Mapping[str, NDArray[Any]],
    ask: Callable[[onnx.ModelProto, Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]],
) -> dict[str, NDArray[Any]]:
    """Answer with each part by itself, and with plain arithmetic between them."""
    match plan:
        case Leaf():
            return named_outputs(plan, ask(plan.graph, columns))
        case InTurn(steps):
            scope, given = dict(columns), {}
            for step in steps:
                given = one_by_one(step, scope, ask)
                scope |= given
            return given
        case Weighted(parts, weights):
            answers = [_first(one_by_one(part, columns, ask)) for part in parts]
            return {SCORE: np.average(np.stack(answers), axis=0, weights=weights)}
        case Stacked(named, final):
            own = {name: _first(one_by_one(part, columns, ask)) for name, part in named}
            return one_by_one(final, {**columns, **own}, ask)
        case Chosen():
            yes = COMPARISONS[plan.comparison][1](columns[plan.column], plan.value).astype(bool)
            then = _first(one_by_one(plan.then, columns, ask))
            return {SCORE: np.where(yes, then, _first(one_by_one(plan.otherwise, columns, ask)))}


def named_outputs(leaf: Leaf, outputs: dict[str, _T]) -> dict[str, _T]:
    """Give a part's outputs as the parts behind it know them."""
    return {SCORE: next(iter(outputs.values()))} if leaf.scores else outputs


def _first(outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.asarray(next(iter(outputs.values())), np.float64)
