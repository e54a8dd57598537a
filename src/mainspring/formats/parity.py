"""Whether a converted graph gives what its model gives, on real rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mainspring.core.errors import Unconvertible
from mainspring.formats import columns as columnwise
from mainspring.formats.columns import Frame
from mainspring.formats.model import Column

LARGEST_DIFFERENCE = 1e-3
LARGEST_SHARE = 0.001
_NAMED_ROWS = 3


def run(content: bytes, columns: Sequence[Column], rows: Frame) -> NDArray[np.float64]:
    """Score rows with a graph that has an input per column."""
    return _run(_session(content), columnwise.values(rows, columns))


def ask(graph: onnx.ModelProto, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Run a graph on columns and give every output by its name."""
    session = _session(graph.SerializeToString())
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, _feed(session, arrays)), strict=True))


def check_parity(
    content: bytes, columns: Sequence[Column], rows: Frame, expected: NDArray[np.float64]
) -> None:
    """Compare a graph with the outputs of its model, as a batch and row by row.

    Raises:
        Unconvertible: More than 0.1 % of the rows differ by more than 1e-3, an output is not
            finite, or a row alone gives something else than in the batch.
    """
    session, arrays = _session(content), columnwise.values(rows, columns)
    found = _run(session, arrays)
    if found.shape != expected.shape:
        raise Unconvertible(
            f"parity: found outputs of shape {found.shape} for {len(expected)} rows; free the "
            "batch dimension of the graph"
        )
    # Written so that a NaN on either side counts as a difference.
    differs = ~(np.abs(found - expected) <= LARGEST_DIFFERENCE)
    if differs.mean() > LARGEST_SHARE:
        raise Unconvertible(_disagreement(found, expected, differs, arrays))
    for i in (0, len(found) - 1):
        alone = _run(session, {name: array[i : i + 1] for name, array in arrays.items()})
        if alone.shape != (1,) or not abs(float(alone[0] - found[i])) <= LARGEST_DIFFERENCE:
            raise Unconvertible(
                f"parity: row {i} alone gives {alone}, in the batch {found[i]:.6f}; free the "
                "batch dimension of the graph"
            )


def _disagreement(
    found: NDArray[np.float64],
    expected: NDArray[np.float64],
    differs: NDArray[np.bool_],
    arrays: dict[str, NDArray[Any]],
) -> str:
    size = np.nan_to_num(np.abs(found - expected), nan=np.inf)
    worst = np.argsort(-size, kind="stable")[:_NAMED_ROWS]
    named = "; ".join(f"row {i}: graph {found[i]:.6g}, model {expected[i]:.6g}" for i in worst)
    return (
        f"parity: {int(differs.sum())} of {len(found)} rows differ by more than "
        f"{LARGEST_DIFFERENCE} ({named}; {_suspects(arrays, worst)}); expected at most "
        f"{LARGEST_SHARE:.1%}; change the model or scale the columns before training"
    )


def _suspects(arrays: dict[str, NDArray[Any]], worst: NDArray[np.int64]) -> str:
    lost: dict[str, float] = {}
    for name, array in arrays.items():
        if array.dtype != object and (spread := float(np.nanstd(array))) > 0:
            narrow = array.astype(np.float32).astype(np.float64)
            lost[name] = float(np.nanmax(np.abs(narrow - array))) / spread
    losing = [n for n in sorted(lost, key=lambda n: -lost[n]) if lost[n] > 1e-6][:_NAMED_ROWS]
    if losing:
        return f"columns that float32 cannot carry: {', '.join(losing)}"
    odd = [n for n, a in arrays.items() if any(a[i] == "" or a[i] != a[i] for i in worst)]
    return f"columns missing in these rows: {', '.join(odd) or 'none'}"


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _run(session: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.asarray(session.run(None, _feed(session, arrays))[0], np.float64)


def _feed(session: Any, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    return {
        value.name: arrays[value.name]
        if value.type == "tensor(string)"
        else arrays[value.name].astype(kinds[value.type])
        for value in session.get_inputs()
    }
