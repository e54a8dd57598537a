"""Converting a trained model to a graph that a worker can run, and proving that it agrees.

A conversion counts only if it agrees with the native model on real rows: converters are silently
wrong in known ways (`formats/traps.py`). It needs the training libraries, so it runs where the
model was trained, never in a server process.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from mainspring.core.errors import MainspringError, Unconvertible
from mainspring.formats import boosters, networks
from mainspring.formats import columns as columnwise
from mainspring.formats.columns import Frame
from mainspring.formats.graph import (
    Codes,
    Front,
    around_columns,
    around_matrix,
    without_zipmap,
)
from mainspring.formats.model import Column
from mainspring.formats.parity import check_parity, run
from mainspring.formats.traps import parts, refuse_traps

_OPSET = {"": 17, "ai.onnx.ml": 3}
_TREES = ("lightgbm.", "xgboost.", "catboost.", "sklearn.tree.", "sklearn.ensemble.")


def to_onnx(
    model: Any, columns: Sequence[Column], rows: Frame, *, output: str = "probability"
) -> bytes:
    """Convert a fitted model, and refuse if the graph disagrees with it.

    Takes LightGBM, XGBoost and CatBoost models, scikit-learn estimators and Pipelines (LightGBM
    and XGBoost as steps included), PyTorch modules of one matrix, an `onnx.ModelProto`, its
    bytes, or the path of its file.
    The graph has one one-dimensional input per column and one output per row: the probability of
    the second class, or the value of a regression. Trees get float32 inputs; before linear steps
    doubles stay doubles.

    Args:
        columns: Every column the model takes, in its order.
        rows: At least 1,000 real rows where there are so many, with missing and rare values.
            A missing string is the empty string, as in training.
        output: Name of the output.

    Raises:
        Unconvertible: The model is of an unknown kind or a known trap, or more than 0.1 % of the
            rows differ by more than 1e-3; the message names the worst.
        SchemaMismatch: The rows lack a column or hold another type.
    """
    if columnwise.count(rows) < 2:
        raise Unconvertible("conversion: found fewer than 2 rows, give at least 1,000 real ones")
    if isinstance(model, bytes | onnx.ModelProto | Path):
        return _from_onnx(model, columns, rows, output)
    _check_kind(model)
    refuse_traps(model)
    expected = _answers(model, columns, rows)
    failures: list[Exception] = []
    # Scaling in float32 loses rows at feature scales of 1e3 and more, so doubles come first.
    for double in (False,) if _only_trees(model) else (True, False):
        try:
            content: bytes = _converted(model, columns, output, double=double).SerializeToString()
            check_parity(content, columns, rows, expected)
        except ImportError as error:
            raise Unconvertible(
                f"{type(model).__name__}: {error.name or error} is not installed, which converting "
                "needs; install it with pip install 'mainspring[train]'"
            ) from error
        except Exception as error:  # converters raise whatever they like
            failures.append(error)
            continue
        return content
    raise Unconvertible(
        f"{type(model).__name__}: no conversion agrees with it; {failures[0]}"
    ) from failures[0]


def _check_kind(model: Any) -> None:
    if networks.is_network(model):
        return
    if isinstance(model, type) or not callable(getattr(model, "predict", None)):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise Unconvertible(
            f"model: found {kind} without a fitted `predict`; give a fitted model of "
            "LightGBM, XGBoost, CatBoost or scikit-learn, or an ONNX graph"
        )


def _from_onnx(
    model: bytes | onnx.ModelProto | Path, columns: Sequence[Column], rows: Frame, output: str
) -> bytes:
    try:
        ready = without_zipmap(_loaded(model))
        inputs = [value.name for value in ready.graph.input]
        if len(inputs) == 1 and (len(columns) > 1 or inputs != [columns[0].name]):
            graph = around_matrix(ready, _all(columns), output)
        else:
            graph = around_columns(ready, columns, output)
        content: bytes = graph.SerializeToString()
        expected = run(content, columns, rows)
    except MainspringError:
        raise
    except Exception as error:  # the runtime's errors share no root
        raise Unconvertible(f"graph: {error}; export it with a free batch dimension") from error
    check_parity(content, columns, rows, expected)
    return content


def _loaded(model: bytes | onnx.ModelProto | Path) -> onnx.ModelProto:
    if isinstance(model, Path):
        # Weights in a second file beside it become part of the graph.
        return onnx.load(model, load_external_data=True)
    ready = onnx.load_from_string(model) if isinstance(model, bytes) else model
    apart = [tensor.name for tensor in ready.graph.initializer if uses_external_data(tensor)]
    if apart:
        raise Unconvertible(
            f"graph: weights {', '.join(apart[:3])} lie in another file, which bytes alone do not "
            "bring; give the path of the .onnx file with its data beside it"
        )
    return ready


def _answers(model: Any, columns: Sequence[Column], rows: Frame) -> NDArray[np.float64]:
    from sklearn.exceptions import NotFittedError

    try:
        return _native(model, columns, rows)
    except NotFittedError as error:
        raise Unconvertible(f"{type(model).__name__}: {error}; fit it first") from error
    except RuntimeError as error:
        if not networks.is_network(model):
            raise
        raise Unconvertible(
            f"{type(model).__name__}: {error}; expected a module that takes one matrix of "
            f"{len(columns)} columns and any number of rows"
        ) from error


def _native(model: Any, columns: Sequence[Column], rows: Frame) -> NDArray[np.float64]:
    named = hasattr(model, "feature_names_in_")
    with warnings.catch_warnings():
        # LightGBM names the columns of bare arrays and scikit-learn then misses those names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if boosters.is_booster(model):
            raw = boosters.answers(model, columnwise.matrix(rows, columns))
        elif networks.is_network(model):
            raw = networks.answers(model, columnwise.matrix(rows, columns))
        elif hasattr(model, "predict_proba"):
            raw = model.predict_proba(columnwise.native(rows, columns, named=named))
        else:
            raw = model.predict(columnwise.native(rows, columns, named=named))
    scores = np.asarray(raw, np.float64)
    if scores.ndim == 2 and scores.shape[1] == 1:
        return scores[:, 0]
    if scores.ndim == 2 and scores.shape[1] != 2:
        raise Unconvertible(
            f"{type(model).__name__}: found {scores.shape[1]} classes, expected two or a "
            "regression; serve one model per class"
        )
    return scores[:, 1] if scores.ndim == 2 else scores


def _only_trees(model: Any) -> bool:
    return networks.is_network(model) or all(
        type(part).__module__.startswith((*_TREES, "sklearn.pipeline", "sklearn.compose"))
        or type(part).__name__ in ("OrdinalEncoder", "OneHotEncoder", "FunctionTransformer")
        for part in parts(model)
    )


def _converted(
    model: Any, columns: Sequence[Column], output: str, *, double: bool
) -> onnx.ModelProto:
    if boosters.is_booster(model):
        return around_matrix(boosters.graph(model, columns), _all(columns), output)
    if networks.is_network(model):
        return around_matrix(networks.graph(model, len(columns)), _all(columns), output)
    steps = list(getattr(model, "steps", ()))
    if steps and type(steps[0][1]).__name__ == "ColumnTransformer":
        front = _ordinal_front(steps[0][1], columns)
        if front is not None and len(steps) > 1:
            rest = steps[1][1] if len(steps) == 2 else type(model)(steps[1:])
            body = _sklearn(rest, [("matrix", len(front.picked), "float")], double=double)
            return around_matrix(body, front, output)
        inputs = [(column.name, 1, column.type) for column in columns]
        return around_columns(_sklearn(model, inputs, double=double), columns, output)
    body = _sklearn(model, [("matrix", len(columns), "float")], double=double)
    return around_matrix(body, _all(columns), output)


def _ordinal_front(transformer: Any, columns: Sequence[Column]) -> Front | None:
    """Read a ColumnTransformer of ordinal codes and untouched numbers; None if it does more."""
    types = {column.name: column.type for column in columns}
    picked: list[str] = []
    codes: dict[str, Codes] = {}
    for _, step, chosen in transformer.transformers_:
        if isinstance(step, str) and step == "drop":
            continue
        names = _names(chosen, columns)
        if names is None:
            return None
        if type(step).__name__ == "OrdinalEncoder":
            for name, categories in zip(names, step.categories_, strict=True):
                plain = all(isinstance(category, str) for category in categories)
                if types[name] != "str" or not plain or step.min_frequency or step.max_categories:
                    return None
                codes[name] = Codes(list(categories), float(step.unknown_value))
        elif not _untouched(step) or any(types[name] == "str" for name in names):
            return None
        picked += names
    return Front(columns, picked, codes) if len(set(picked)) == len(picked) else None


def _untouched(step: Any) -> bool:
    if isinstance(step, str):
        return step == "passthrough"
    return type(step).__name__ == "FunctionTransformer" and step.func is None


def _names(chosen: Any, columns: Sequence[Column]) -> list[str] | None:
    known = [column.name for column in columns]
    if not isinstance(chosen, list | tuple | np.ndarray):
        return None
    names = [known[c] if isinstance(c, int | np.integer) else c for c in chosen]
    return names if all(name in known for name in names) else None


def _sklearn(
    model: Any, inputs: Sequence[tuple[str, int, str]], *, double: bool
) -> onnx.ModelProto:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        StringTensorType,
    )

    boosters.register()
    number = DoubleTensorType if double else FloatTensorType
    types = [
        (name, (StringTensorType if kind == "str" else number)([None, width]))
        for name, width, kind in inputs
    ]
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    options = {id(last): {"zipmap": False}} if hasattr(last, "classes_") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        body: onnx.ModelProto = convert_sklearn(
            model, "model", initial_types=types, options=options, target_opset=_OPSET
        )
    return body


def _all(columns: Sequence[Column]) -> Front:
    strings = [column.name for column in columns if column.type == "str"]
    if strings:
        raise Unconvertible(
            f"columns {', '.join(strings)}: the model takes numbers only; put an encoder before "
            "it in a Pipeline"
        )
    return Front(columns, [column.name for column in columns], {})
