"""A converted model agrees with its model, or is refused by name."""

import os
import subprocess
import sys
import warnings
from importlib.metadata import requires
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import polars as pl
import pytest
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from mainspring.core.errors import SchemaMismatch, Unconvertible
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import Column
from mainspring.formats.parity import run

STRINGS = ("origin", "carrier")
FLOATS = ("distance", "wind", "hour")
COLUMNS = tuple([Column(n, "str") for n in STRINGS] + [Column(n, "float") for n in FLOATS])
NUMBERS = COLUMNS[2:]
FAST: dict[str, Any] = {
    "n_estimators": 20,
    "num_leaves": 8,
    "n_jobs": 1,
    "deterministic": True,
    "verbose": -1,
}


def flights(rows: int = 1200, seed: int = 1) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {
        "origin": rng.choice(["JFK", "LGA", "EWR", ""], rows).astype(object),
        "carrier": rng.choice(["AA", "UA", "rare"], rows, p=[0.6, 0.39, 0.01]).astype(object),
        "distance": rng.uniform(100, 5000, rows),
        "wind": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(10, 4, rows)),
        "hour": rng.integers(0, 24, rows).astype(float),
    }
    score = np.nan_to_num(columns["wind"]) / 10 + columns["hour"] / 24
    late = (score + (columns["origin"] == "EWR") + rng.normal(0, 0.5, rows) > 1.7).astype(int)
    return columns, late


def pipeline(strings: Any = STRINGS, floats: Any = FLOATS) -> Pipeline:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [("text", encoder, list(strings)), ("numbers", "passthrough", list(floats))]
    )
    return Pipeline([("columns", columns), ("trees", lightgbm.LGBMClassifier(**FAST))])


def probability(model: Any, rows: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        return model.predict_proba(rows)[:, 1]


def frame(kind: str, columns: dict[str, Any]) -> Any:
    if kind == "pandas":
        return pd.DataFrame(columns)
    if kind == "polars":
        return pl.DataFrame({n: v.tolist() for n, v in columns.items()})
    return np.column_stack([columns[c.name] for c in COLUMNS])


@pytest.mark.parametrize("kind", ["pandas", "polars", "numpy"])
def test_a_pipeline_of_strings_and_trees_agrees_for_each_kind_of_frame(kind: str) -> None:
    columns, late = flights()
    rows = frame(kind, columns)
    model = pipeline() if kind != "numpy" else pipeline((0, 1), (2, 3, 4))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        model.fit(rows, late)

    graph = to_onnx(model, COLUMNS, rows)

    unseen, _ = flights(seed=2)
    unseen["origin"][:50] = "unseen"
    expected = probability(model, frame(kind, unseen))
    assert np.abs(run(graph, COLUMNS, unseen) - expected).max() < 1e-5
    assert expected.std() > 0.05


def test_the_graph_has_one_flat_input_per_column_and_a_free_batch() -> None:
    columns, late = flights()
    model = pipeline().fit(pd.DataFrame(columns), late)

    session = onnxruntime.InferenceSession(to_onnx(model, COLUMNS, columns))

    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("origin", "tensor(string)", ["rows"]),
        ("carrier", "tensor(string)", ["rows"]),
        *[(n, "tensor(float)", ["rows"]) for n in FLOATS],
    ]
    assert [(o.name, o.shape) for o in session.get_outputs()] == [("probability", ["rows"])]


@pytest.mark.parametrize("bare", [False, True])
def test_lightgbm_agrees_as_classifier_and_as_booster(bare: bool) -> None:
    columns, late = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model: Any = lightgbm.LGBMClassifier(**FAST).fit(numbers, late)
    model = model.booster_ if bare else model

    graph = to_onnx(model, NUMBERS, columns)

    expected = getattr(model, "booster_", model).predict(numbers)
    assert np.abs(run(graph, NUMBERS, columns) - expected).max() < 1e-5


def test_one_hot_and_scaler_agree_at_large_scales_because_doubles_stay_doubles() -> None:
    columns, late = flights()
    columns["distance"] = columns["distance"] + 1e9
    columns["wind"] = np.nan_to_num(columns["wind"])
    numbers = StandardScaler()
    text = OneHotEncoder(handle_unknown="ignore")
    model = Pipeline(
        [
            ("c", ColumnTransformer([("t", text, list(STRINGS)), ("n", numbers, list(FLOATS))])),
            ("linear", LogisticRegression()),
        ]
    ).fit(pd.DataFrame(columns), late)

    graph = to_onnx(model, COLUMNS, pd.DataFrame(columns))

    expected = model.predict_proba(pd.DataFrame(columns))[:, 1]
    assert np.abs(run(graph, COLUMNS, columns) - expected).max() < 1e-5
    kinds = {i.name: i.type for i in onnxruntime.InferenceSession(graph).get_inputs()}
    assert kinds["distance"] == "tensor(double)"


def test_what_the_runtime_cannot_do_in_doubles_is_done_in_floats_if_that_agrees() -> None:
    columns, late = flights()
    numbers = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    table = ColumnTransformer([("n", numbers, list(FLOATS))])
    model = Pipeline([("c", table), ("linear", LogisticRegression())])
    model.fit(pd.DataFrame(columns), late)

    graph = to_onnx(model, NUMBERS, pd.DataFrame(columns))

    expected = model.predict_proba(pd.DataFrame(columns))[:, 1]
    assert np.abs(run(graph, NUMBERS, columns) - expected).max() < 1e-4


def test_trees_on_unix_seconds_are_refused_naming_rows_and_the_column() -> None:
    columns, _ = flights()
    columns["distance"] = 1.7e9 + np.arange(1200.0)
    late = (np.arange(1200) // 7 % 2).astype(int)
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model = lightgbm.LGBMClassifier(**{**FAST, "n_estimators": 100}).fit(numbers, late)

    with pytest.raises(Unconvertible, match=r"row \d+: graph .* float32 cannot carry: distance"):
        to_onnx(model, NUMBERS, columns)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"zero_as_missing": True}, "zero_as_missing"),
        ({"linear_tree": True}, "linear_tree"),
        ({"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1}, "boosting=rf"),
        ({"objective": "multiclassova", "num_class": 3}, "multiclassova"),
    ],
)
def test_silent_traps_of_lightgbm_are_refused_by_name(
    parameters: dict[str, Any], named: str
) -> None:
    columns, late = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    late = np.arange(len(late)) % parameters.get("num_class", 2)
    model = lightgbm.LGBMClassifier(**FAST, **parameters).fit(numbers, late)

    with pytest.raises(Unconvertible, match=named):
        to_onnx(model, NUMBERS, columns)


def test_categorical_hist_gradient_boosting_is_refused_by_name() -> None:
    columns, late = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[2]).fit(numbers, late)

    with pytest.raises(Unconvertible, match="categorical_features"):
        to_onnx(model, NUMBERS, columns)


def test_plain_hist_gradient_boosting_agrees_with_the_protobuf_that_converts_it() -> None:
    columns, late = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model = HistGradientBoostingClassifier(max_iter=5).fit(numbers, late)

    graph = to_onnx(model, NUMBERS, columns)

    expected = model.predict_proba(numbers)[:, 1]
    assert np.abs(run(graph, NUMBERS, columns) - expected).max() < 1e-5
    # Its converter fails with protobuf 7.
    assert any("protobuf<7" in wanted for wanted in requires("mainspring") or ())


@pytest.mark.parametrize("objective", ["regression", "poisson"])
def test_regressions_of_lightgbm_agree(objective: str) -> None:
    columns, late = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model = lightgbm.LGBMRegressor(objective=objective, **FAST).fit(numbers, late * 9.0)

    graph = to_onnx(model, NUMBERS, columns)

    assert np.abs(run(graph, NUMBERS, columns) - model.booster_.predict(numbers)).max() < 1e-4


def test_an_encoder_that_raises_on_unknown_is_refused_by_name() -> None:
    columns, late = flights()
    model = pipeline()
    model.set_params(columns__text=OrdinalEncoder())
    model.fit(pd.DataFrame(columns), late)

    with pytest.raises(Unconvertible, match="use_encoded_value"):
        to_onnx(model, COLUMNS, columns)


def test_three_classes_are_refused() -> None:
    columns, _ = flights()
    numbers = np.column_stack([columns[n] for n in FLOATS])
    model = lightgbm.LGBMClassifier(**FAST).fit(numbers, np.arange(1200) % 3)

    with pytest.raises(Unconvertible, match="3 classes"):
        to_onnx(model, NUMBERS, columns)


def test_a_row_that_lacks_a_column_is_named() -> None:
    columns, late = flights()
    model = pipeline().fit(pd.DataFrame(columns), late)
    del columns["wind"]

    with pytest.raises(SchemaMismatch, match="'wind'"):
        to_onnx(model, COLUMNS, columns)


def sum_graph(rows: str | int) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["X", "shape"], ["Z"]),
            helper.make_node("ReduceSum", ["Z", "axes"], ["y"], keepdims=1),
        ],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 1])],
        [
            onnx.numpy_helper.from_array(np.array([1]), "axes"),
            onnx.numpy_helper.from_array(np.array([-1 if rows == "n" else 1, 3]), "shape"),
        ],
    )
    imports = [helper.make_opsetid("", 17)]
    content: bytes = helper.make_model(
        graph, opset_imports=imports, ir_version=8
    ).SerializeToString()
    return content


def test_a_ready_graph_with_a_matrix_gets_an_input_per_column() -> None:
    columns = {n: np.array([1.0, 2.0, 4.0]) for n in FLOATS}

    graph = to_onnx(sum_graph("n"), NUMBERS, columns)

    assert run(graph, NUMBERS, columns).tolist() == [3.0, 6.0, 12.0]


def test_a_ready_graph_with_a_fixed_batch_is_refused() -> None:
    columns = {n: np.array([1.0, 2.0, 4.0]) for n in FLOATS}

    with pytest.raises(Unconvertible, match="batch dimension"):
        to_onnx(sum_graph(1), NUMBERS, columns)


def test_equal_models_give_equal_bytes() -> None:
    columns, late = flights()
    rows = pd.DataFrame(columns)

    first, second = (to_onnx(pipeline().fit(rows, late), COLUMNS, rows) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("model", [object(), None, "model.onnx", LogisticRegression, {"a": 1}])
def test_what_is_no_model_is_refused_by_its_type(model: object) -> None:
    rows, _ = flights(20)

    with pytest.raises(Unconvertible, match=r"model: found .*give a fitted"):
        to_onnx(model, NUMBERS, rows)


def test_a_model_that_was_never_fitted_is_refused() -> None:
    rows, _ = flights(20)

    with pytest.raises(Unconvertible, match=r"LogisticRegression.*fit it first"):
        to_onnx(LogisticRegression(), NUMBERS, rows)


SEEDED = """
import hashlib, sys
import numpy as np, polars as pl
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import Column

chance = np.random.default_rng(1)
rows = pl.DataFrame({
    "place": chance.choice(["a", "b", "c"], 400), "sort": chance.choice(["x", "y"], 400),
    "size": chance.normal(0, 1, 400), "age": chance.normal(5, 2, 400),
})
truth = (rows["size"].to_numpy() > 0).astype(int)
encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
trees = LGBMClassifier(n_estimators=5, n_jobs=1, deterministic=True, verbose=-1)
linear = LogisticRegression()
for encoder, model, numbers in (
    (encode, trees, "passthrough"),
    (OneHotEncoder(handle_unknown="ignore"), linear, Pipeline([
        ("fill", SimpleImputer()), ("scale", StandardScaler())])),
):
    made = ColumnTransformer([("t", encoder, ["place", "sort"]), ("n", numbers, ["size", "age"])])
    fitted = Pipeline([("columns", made), ("model", model)]).fit(rows.to_pandas(), truth)
    columns = [Column("place", "str"), Column("sort", "str"),
               Column("size", "float"), Column("age", "float")]
    print(hashlib.sha256(to_onnx(fitted, columns, rows.to_pandas())).hexdigest())
"""


def test_another_process_makes_the_same_bytes_of_the_same_model() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SEEDED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }

    assert len(made) == 1
    assert len(made.pop().split()) == 2
