"""LightGBM, XGBoost and CatBoost: their own answers, and the graph of their trees."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from mainspring.core.errors import Unconvertible
from mainspring.formats.model import Column

_OPSET = 15


def is_lightgbm(model: Any) -> bool:
    """Tell a LightGBM booster or estimator, without loading LightGBM."""
    return type(model).__module__.startswith("lightgbm.")


def is_xgboost(model: Any) -> bool:
    """Tell an XGBoost booster or estimator, without loading XGBoost."""
    return type(model).__module__.startswith("xgboost.")


def is_catboost(model: Any) -> bool:
    """Tell a CatBoost model, without loading CatBoost."""
    return type(model).__module__.startswith("catboost.")


def is_booster(model: Any) -> bool:
    """Tell a model of one of the three libraries."""
    return is_lightgbm(model) or is_xgboost(model) or is_catboost(model)


def answers(model: Any, matrix: NDArray[np.float64]) -> Any:
    """Ask the model itself: its probabilities, or its values."""
    if is_lightgbm(model):
        return getattr(model, "booster_", model).predict(matrix)
    if is_catboost(model):
        ask = getattr(model, "predict_proba", model.predict)
        return ask(matrix, thread_count=1)
    import xgboost

    booster = _trimmed(model)
    return booster.predict(xgboost.DMatrix(matrix, nthread=1))


def graph(model: Any, columns: Sequence[Column]) -> onnx.ModelProto:
    """Convert to a graph of one float32 matrix (rows, columns).

    Raises:
        Unconvertible: The model takes other columns, or takes them in another order.
    """
    _check_columns(model, [column.name for column in columns])
    if is_catboost(model):
        return _catboost(model)
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("matrix", FloatTensorType([None, len(columns)]))]
    if is_lightgbm(model):
        from onnxmltools import convert_lightgbm

        booster = getattr(model, "booster_", model)
        converted: onnx.ModelProto = convert_lightgbm(
            booster, "model", initial_types=types, zipmap=False, target_opset=_OPSET
        )
    else:
        from onnxmltools import convert_xgboost

        trees = _trimmed(model)
        converted = convert_xgboost(trees, "model", initial_types=types, target_opset=_OPSET)
    return converted


def register() -> None:
    """Teach scikit-learn's converter the estimators that are installed, as steps of a Pipeline."""
    _register_lightgbm()
    _register_xgboost()


def _names(model: Any) -> tuple[int, list[str]]:
    if is_lightgbm(model):
        booster = getattr(model, "booster_", model)
        return booster.num_feature(), list(booster.feature_name())
    if is_xgboost(model):
        booster = _booster(model)
        return booster.num_features(), list(booster.feature_names or ())
    names = [str(name) for name in model.feature_names_ or ()]
    return model.n_features_in_, names


def _check_columns(model: Any, columns: list[str]) -> None:
    width, names = _names(model)
    kind = type(model).__module__.partition(".")[0]
    if width != len(columns):
        raise Unconvertible(
            f"{kind}: the model takes {width} columns, the signature names {len(columns)}; name "
            "exactly its columns, in order"
        )
    # Matrices carry no names, so columns in another order would be mixed up without a word.
    moved = [(a, b) for a, b in zip(names, columns, strict=False) if a != b]
    if moved and sorted(names) == sorted(columns):
        raise Unconvertible(
            f"{kind}: found column {moved[0][1]!r} where the model takes {moved[0][0]!r}; name its "
            f"columns in its order: {', '.join(names)}"
        )


def _booster(model: Any) -> Any:
    return model.get_booster() if hasattr(model, "get_booster") else model


def _trimmed(model: Any) -> Any:
    """Copy the trees that answer, without names: the converter takes f0, f1, ... only."""
    import xgboost

    booster = _booster(model)
    copy = xgboost.Booster(params={"nthread": 1})
    copy.load_model(bytearray(booster.save_raw("ubj")))
    # An estimator answers with the trees up to its best round, a bare booster with all.
    best = copy.attr("best_iteration") if booster is not model else None
    copy.set_attr(best_iteration=None, best_score=None)
    copy.feature_names = copy.feature_types = None
    return copy if best is None else copy[: int(best) + 1]


def _catboost(model: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        model.save_model(str(path), format="onnx")
        return onnx.load(path)


def _register_lightgbm() -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    try:
        from lightgbm import LGBMClassifier, LGBMRegressor
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import (
            convert_lightgbm,
        )
    except ImportError:
        return
    update_registered_converter(
        LGBMClassifier,
        "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes,
        convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        LGBMRegressor,
        "LightGbmLGBMRegressor",
        calculate_linear_regressor_output_shapes,
        convert_lightgbm,
        options={"split": None},
    )


def _register_xgboost() -> None:
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    try:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import (
            convert_xgboost,
        )
        from xgboost import XGBClassifier, XGBRegressor
    except ImportError:
        return
    update_registered_converter(
        XGBClassifier,
        "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes,
        convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        XGBRegressor,
        "XGBoostXGBRegressor",
        calculate_linear_regressor_output_shapes,
        convert_xgboost,
    )
