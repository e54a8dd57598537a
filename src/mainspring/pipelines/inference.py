"""Inference graphs: models that answer together, declared as plain values and merged into one.

A part is a registered version (`models:/fare/3`, `models:/fare@champion`), a model logged in the
same run, or an ONNX graph. The merged graph is logged as any model is, so that gate, canary and
monitors know nothing of its parts; the folder's `graph.json` names each part's version.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from mainspring.core.errors import InvalidDeclaration, InvalidInput, Refused, Unconvertible
from mainspring.core.ids import Digest, digest_bytes
from mainspring.formats import plan as plans
from mainspring.formats.model import ONNX, read_file, read_manifest
from mainspring.pipelines.context import current_run
from mainspring.pipelines.logged_model import LoggedModel

Part = Any
"""A `LoggedModel`, a reference `models:/name/version`, an ONNX graph, or a graph of parts."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts one after the other; made by `chain`."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """The weighted mean of parts; made by `join`."""

    parts: tuple[Part, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Parts whose answers a last one reads; made by `stack`."""

    final: Part
    parts: tuple[tuple[str, Part], ...]


@dataclass(frozen=True, slots=True)
class When:
    """One part or another by a column of the row; made by `when`."""

    column: str
    comparison: str
    value: float | str
    then: Part
    otherwise: Part


PARTS = "graph.json"
"""File of the folder that names the parts."""

InferenceGraph = Chain | Join | Stack | When


def chain(*parts: Part) -> Chain:
    """Let parts work one after the other: each reads the row and what the one before gave.

    What a part gives is a column named as its output; of a logged model, a join or a
    condition that is `score`.

    >>> chain("models:/prepare/1", "models:/delay@champion").parts
    ('models:/prepare/1', 'models:/delay@champion')
    """
    _enough("chain", parts)
    return Chain(parts)


def join(*parts: Part, weights: Sequence[float] | None = None) -> Join:
    """Take the mean of what parts answer to the same row, weighted if weights are given."""
    _enough("join", parts)
    given = tuple(float(weight) for weight in weights or [1.0] * len(parts))
    if len(given) != len(parts) or not all(0 <= w < float("inf") for w in given) or not sum(given):
        raise InvalidDeclaration(
            f"join: found weights {list(given)} for {len(parts)} parts, expected one finite number "
            "of at least 0 for each, not all 0"
        )
    return Join(parts, given)


def stack(final: Part, **parts: Part) -> Stack:
    """Let a last part read the answers of others as columns with the names given here.

    >>> both = stack("models:/judge/1", trees="models:/a/1", line="models:/b/1")
    >>> [name for name, _ in both.parts]
    ['trees', 'line']
    """
    _enough("stack", (final, *parts.values()))
    return Stack(final, tuple(parts.items()))


def when(column: str, comparison: str, value: float | str, *, then: Part, otherwise: Part) -> When:
    """Answer a row with one part where a column compares as said, with another where not.

    A missing number compares as false. Both parts are computed for every row.

    Args:
        comparison: `<`, `<=`, `>`, `>=` or `==`; a text takes `==` only.
    """
    known = ["=="] if isinstance(value, str) else list(plans.COMPARISONS)
    if comparison not in known:
        raise InvalidDeclaration(
            f"when {column!r}: found comparison {comparison!r} with {value!r}, expected one of "
            f"{', '.join(known)}"
        )
    return When(column, comparison, value, then, otherwise)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A plan of graphs, and what its parts are for the record."""

    plan: plans.Plan
    record: dict[str, Any]


def resolved(graph: Part, *, name: str = "graph") -> Resolved:
    """Find every part, references pinned to the version that they name now.

    Raises:
        Refused: There is a reference, and no run that could look it up.
        NotFound: There is no such version.
        Unconvertible: A part has no ONNX graph.
    """
    match graph:
        case Chain(parts):
            found = _all(parts, name)
            plan: plans.Plan = plans.InTurn(tuple(part.plan for part in found))
            return Resolved(plan, {"chain": [part.record for part in found]})
        case Join(parts, weights):
            found = _all(parts, name)
            plan = plans.Weighted(tuple(part.plan for part in found), weights)
            records = [part.record for part in found]
            return Resolved(plan, {"join": records, "weights": list(weights)})
        case Stack(final, named):
            return _stacked(final, named, name)
        case When():
            return _chosen(graph, name)
    return _leaf(graph, name)


def _all(parts: Sequence[Part], name: str) -> list[Resolved]:
    return [resolved(part, name=f"{name}.{i + 1}") for i, part in enumerate(parts)]


def _stacked(final: Part, named: Sequence[tuple[str, Part]], name: str) -> Resolved:
    parts = {key: resolved(part, name=f"{name}.{key}") for key, part in named}
    last = resolved(final, name=f"{name}.final")
    plan = plans.Stacked(tuple((key, part.plan) for key, part in parts.items()), last.plan)
    record = {"stack": {key: part.record for key, part in parts.items()}, "final": last.record}
    return Resolved(plan, record)


def _chosen(graph: When, name: str) -> Resolved:
    then = resolved(graph.then, name=f"{name}.then")
    otherwise = resolved(graph.otherwise, name=f"{name}.otherwise")
    plan = plans.Chosen(graph.column, graph.comparison, graph.value, then.plan, otherwise.plan)
    condition = [graph.column, graph.comparison, graph.value]
    record = {"when": condition, "then": then.record, "otherwise": otherwise.record}
    return Resolved(plan, record)


def _leaf(part: Part, name: str) -> Resolved:
    if isinstance(part, str):
        context = current_run()
        if context is None or context.models is None:
            raise Refused(
                f"part {part!r}: found no run that knows the registry, expected one; log the graph "
                "in a run, or give the part itself"
            )
        pinned, manifest = context.models(part)
        content = _of_folder(pinned, manifest, context.blobs.path)
        record = {"model": pinned, "manifest": manifest}
        return Resolved(plans.Leaf(pinned, content, scores=True), record)
    if isinstance(part, LoggedModel):
        content = _of_folder(name, part.manifest, part.blobs.path)
        return Resolved(plans.Leaf(name, content, scores=True), {"manifest": part.manifest})
    if isinstance(part, bytes | onnx.ModelProto | Path):
        content = _given(part, name)
        digest = digest_bytes(content.SerializeToString(deterministic=True))
        return Resolved(plans.Leaf(name, content), {"graph": digest})
    raise Unconvertible(
        f"{name}: found {type(part).__name__}, expected a logged model, `models:/name/version` or "
        "an ONNX graph; log it with log_model first and give what that returns"
    )


def _of_folder(name: str, manifest: Digest, blob: Callable[[Digest], Path]) -> onnx.ModelProto:
    folder = read_manifest(blob, manifest)
    if folder.kind == "opaque" or ONNX not in folder.files:
        raise Unconvertible(
            f"{name}: has no ONNX graph, and only graphs can be merged; convert the model first"
        )
    return onnx.load_from_string(read_file(blob, folder, ONNX))


def _given(part: bytes | onnx.ModelProto | Path, name: str) -> onnx.ModelProto:
    if isinstance(part, onnx.ModelProto):
        return part
    try:
        return onnx.load_from_string(part) if isinstance(part, bytes) else onnx.load(part)
    except Exception as error:  # protobuf's errors share no root
        raise InvalidInput(f"{name}: is no ONNX graph ({error}); give one") from error


def _enough(kind: str, parts: Sequence[Part] | Mapping[str, Part]) -> None:
    if len(parts) < 2:
        raise InvalidDeclaration(f"{kind}: found {len(parts)} part, expected at least two")
