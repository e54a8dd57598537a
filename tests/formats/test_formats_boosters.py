"""Boosters of XGBoost and CatBoost agree as graphs, or are refused with the column named."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from mainspring.core.errors import Unconvertible
from mainspring.formats.convert import to_onnx
from mainspring.formats.model import Column
from mainspring.formats.parity import run

NAMES = ("distance", "wind", "hour")
COLUMNS = tuple(Column(name, "float") for name in NAMES)
FAST: dict[str, Any] = {"n_estimators": 20, "max_depth": 3, "n_jobs": 1}


def flights(rows: int = 1200) -> tuple[pd.DataFrame, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "distance": rng.uniform(100, 5000, rows),
            "wind": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(10, 4, rows)),
            "hour": rng.integers(0, 24, rows).astype(float),
        }
    )
    late = frame["wind"].fillna(0) / 10 + frame["hour"] / 24 + rng.normal(0, 0.5, rows) > 1.5
    return frame, late.to_numpy().astype(int)


def names_of(named: bool, frame: pd.DataFrame) -> Any:
    return frame if named else frame.to_numpy()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("bare", [True, False])
def test_xgboost_agrees_with_names_and_without_as_estimator_and_as_booster(
    named: bool, bare: bool
) -> None:
    frame, late = flights()
    model = xgboost.XGBClassifier(**FAST).fit(names_of(named, frame), late)

    graph = to_onnx(model.get_booster() if bare else model, COLUMNS, frame)

    expected = model.predict_proba(names_of(named, frame))[:, 1]
    assert np.abs(run(graph, COLUMNS, frame) - expected).max() < 1e-5
    assert expected.std() > 0.05
    assert model.get_booster().feature_names == (list(NAMES) if named else None)


@pytest.mark.parametrize("objective", ["reg:squarederror", "count:poisson"])
def test_xgboost_agrees_as_a_regression(objective: str) -> None:
    frame, late = flights()
    model = xgboost.XGBRegressor(objective=objective, **FAST).fit(frame, late * 30.0)

    graph = to_onnx(model, COLUMNS, frame)

    assert np.abs(run(graph, COLUMNS, frame) - model.predict(frame)).max() < 1e-3


def test_xgboost_stopped_early_answers_with_the_trees_up_to_its_best_round() -> None:
    frame, late = flights()
    model = xgboost.XGBClassifier(
        n_estimators=60, learning_rate=0.9, early_stopping_rounds=5, n_jobs=1
    ).fit(frame[:800], late[:800], eval_set=[(frame[800:], late[800:])], verbose=False)

    graph = to_onnx(model, COLUMNS, frame)

    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    expected = model.predict_proba(frame)[:, 1]
    assert np.abs(run(graph, COLUMNS, frame) - expected).max() < 1e-5


@pytest.mark.parametrize("encoder", ["ordinal", "one-hot"])
def test_xgboost_agrees_as_a_step_behind_an_encoder(encoder: str) -> None:
    frame, late = flights()
    frame["origin"] = np.random.default_rng(2).choice(["JFK", "LGA", ""], len(frame)).astype(object)
    encode = (
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        if encoder == "ordinal"
        else OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    table = ColumnTransformer([("t", encode, ["origin"]), ("n", "passthrough", list(NAMES))])
    model = Pipeline([("c", table), ("trees", xgboost.XGBClassifier(**FAST))]).fit(frame, late)
    columns = (*COLUMNS, Column("origin", "str"))

    graph = to_onnx(model, columns, frame)

    frame.loc[:50, "origin"] = "unseen"
    expected = model.predict_proba(frame)[:, 1]
    assert np.abs(run(graph, columns, frame) - expected).max() < 1e-5


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_xgboost_of_another_kind_than_trees_is_refused_by_name(booster: str) -> None:
    frame, late = flights()
    model = xgboost.XGBClassifier(booster=booster, n_estimators=5, n_jobs=1)
    model.fit(frame.fillna(0), late)

    with pytest.raises(Unconvertible, match=f"booster={booster}"):
        to_onnx(model, COLUMNS, frame)


def test_categories_of_xgboost_are_refused_with_the_column_named() -> None:
    frame, late = flights()
    coded = frame.assign(hour=pd.Categorical(frame["hour"].astype(int)))
    model = xgboost.XGBClassifier(enable_categorical=True, **FAST).fit(coded, late)

    with pytest.raises(Unconvertible, match="categorical columns hour"):
        to_onnx(model, COLUMNS, frame)


def test_a_number_that_means_missing_is_refused_by_name() -> None:
    frame, late = flights()
    model = xgboost.XGBClassifier(missing=0.0, **FAST).fit(frame.fillna(0), late)

    with pytest.raises(Unconvertible, match=r"missing=0\.0"):
        to_onnx(model, COLUMNS, frame)


def test_columns_in_another_order_than_the_model_takes_are_refused() -> None:
    frame, late = flights()
    model = xgboost.XGBClassifier(**FAST).fit(frame, late)

    with pytest.raises(Unconvertible, match="'wind' where the model takes 'distance'"):
        to_onnx(model, (COLUMNS[1], COLUMNS[0], COLUMNS[2]), frame)


def test_three_classes_of_xgboost_are_refused() -> None:
    frame, _ = flights()
    model = xgboost.XGBClassifier(**FAST).fit(frame, np.arange(1200) % 3)

    with pytest.raises(Unconvertible, match="3 classes"):
        to_onnx(model, COLUMNS, frame)


def catboost() -> Any:
    return pytest.importorskip("catboost", reason="catboost is not installed")


SMALL: dict[str, Any] = {
    "iterations": 20,
    "verbose": 0,
    "thread_count": 1,
    "allow_writing_files": False,
}


def test_catboost_agrees_as_classifier_and_as_regression() -> None:
    library, (frame, late) = catboost(), flights()
    classes = library.CatBoostClassifier(**SMALL).fit(frame, late)
    values = library.CatBoostRegressor(**SMALL).fit(frame, late * 3.0)

    found = [run(to_onnx(model, COLUMNS, frame), COLUMNS, frame) for model in (classes, values)]

    assert np.abs(found[0] - classes.predict_proba(frame)[:, 1]).max() < 1e-5
    assert np.abs(found[1] - values.predict(frame)).max() < 1e-4


def test_categories_of_catboost_are_refused_with_the_column_named() -> None:
    library, (frame, late) = catboost(), flights()
    coded = frame.assign(hour=frame["hour"].astype(int).astype(str))
    model = library.CatBoostClassifier(**SMALL).fit(coded, late, cat_features=["hour"])

    with pytest.raises(Unconvertible, match="text columns hour"):
        to_onnx(model, COLUMNS, frame)
