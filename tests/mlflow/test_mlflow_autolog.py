"""What users call instead of logging: autolog, system metrics, models of every kind and tables."""

import time

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow import MlflowClient
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Starting with pandas"),
]

ROWS = pd.DataFrame({"a": np.linspace(0, 1, 60), "b": np.linspace(3, 1, 60) ** 2})
LABELS = (ROWS["a"] > 0.5).astype(int)


def test_sklearn_autolog_leaves_parameters_metrics_and_a_model_that_loads(
    client: MlflowClient,
) -> None:
    mlflow.sklearn.autolog(log_input_examples=True, silent=True, serialization_format="skops")
    try:
        with mlflow.start_run() as run:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(ROWS, LABELS)
            model.score(ROWS, LABELS)
    finally:
        mlflow.sklearn.autolog(disable=True)

    found = client.get_run(run.info.run_id)
    assert found.data.params["logisticregression__C"] == "0.5"
    assert found.data.metrics["training_score"] == model.score(ROWS, LABELS)
    assert found.data.tags["estimator_name"] == "Pipeline"
    assert found.inputs is not None
    assert found.inputs.dataset_inputs
    assert found.outputs is not None
    [output] = found.outputs.model_outputs
    loaded = mlflow.sklearn.load_model(f"models:/{output.model_id}")
    assert loaded.predict(ROWS).tolist() == model.predict(ROWS).tolist()


def test_lightgbm_autolog_leaves_the_curve_the_importance_and_the_model(
    client: MlflowClient,
) -> None:
    mlflow.lightgbm.autolog(silent=True)
    rows = lightgbm.Dataset(ROWS, LABELS)
    try:
        with mlflow.start_run() as run:
            model = lightgbm.train(
                {"objective": "binary", "verbose": -1, "min_data_in_leaf": 5, "seed": 1},
                rows,
                num_boost_round=7,
                valid_sets=[rows],
                valid_names=["train"],
            )
    finally:
        mlflow.lightgbm.autolog(disable=True)

    found = client.get_run(run.info.run_id)
    assert found.data.params["objective"] == "binary"
    history = client.get_metric_history(run.info.run_id, "train-binary_logloss")
    assert [point.step for point in history] == list(range(7))
    assert history[-1].value < history[0].value
    assert found.outputs is not None
    [output] = found.outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert np.allclose(loaded.predict(ROWS), model.predict(ROWS))


def test_xgboost_autolog_leaves_the_curve_and_the_model(client: MlflowClient) -> None:
    mlflow.xgboost.autolog(silent=True)
    rows = xgboost.DMatrix(ROWS, LABELS)
    try:
        with mlflow.start_run() as run:
            model = xgboost.train(
                {"objective": "binary:logistic", "max_depth": 2, "seed": 1, "nthread": 1},
                rows,
                num_boost_round=5,
                evals=[(rows, "train")],
                verbose_eval=False,
            )
    finally:
        mlflow.xgboost.autolog(disable=True)

    found = client.get_run(run.info.run_id)
    assert found.data.params["max_depth"] == "2"
    history = client.get_metric_history(run.info.run_id, "train-logloss")
    assert [point.step for point in history] == list(range(5))
    assert found.outputs is not None
    [output] = found.outputs.model_outputs
    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    assert np.allclose(loaded.predict(ROWS), model.predict(rows))


def test_what_is_logged_as_a_file_comes_back() -> None:
    with mlflow.start_run() as run:
        mlflow.log_dict({"a": [1, None, "ü"]}, "deep/told.json")
        mlflow.log_text("word", "told.txt")
        mlflow.log_image(np.full((4, 4, 3), 9, dtype=np.uint8), "told.png")

    uri = f"runs:/{run.info.run_id}"
    assert mlflow.artifacts.load_dict(f"{uri}/deep/told.json") == {"a": [1, None, "ü"]}
    assert mlflow.artifacts.load_text(f"{uri}/told.txt") == "word"
    assert mlflow.artifacts.load_image(f"{uri}/told.png").getpixel((0, 0)) == (9, 9, 9)


def test_a_model_with_signature_and_example_comes_back_as_a_pyfunc() -> None:
    model = LogisticRegression().fit(ROWS, LABELS)
    signature = infer_signature(ROWS, model.predict(ROWS))

    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model,
            name="wear",
            signature=signature,
            input_example=ROWS.head(2),
            serialization_format="skops",
            registered_model_name="wear",
            pip_requirements=["scikit-learn"],
        )

    loaded = mlflow.pyfunc.load_model("models:/wear/1")
    assert loaded.metadata.signature == signature
    assert loaded.predict(ROWS).tolist() == model.predict(ROWS).tolist()
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        loaded.predict(ROWS[["a"]])
    example = mlflow.models.Model.load(info.model_uri).load_input_example()
    assert isinstance(example, pd.DataFrame)
    assert example.to_dict() == ROWS.head(2).to_dict()


def test_system_metrics_of_a_run_are_its_metrics(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1")
    with mlflow.start_run(log_system_metrics=True) as run:
        ends = time.monotonic() + 20
        found: dict[str, float] = {}
        while "system/cpu_utilization_percentage" not in found and time.monotonic() < ends:
            time.sleep(0.1)
            found = client.get_run(run.info.run_id).data.metrics

    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert found["system/system_memory_usage_megabytes"] > 0


def test_a_table_grows_by_what_is_logged_to_it() -> None:
    with mlflow.start_run() as run:
        for part in ({"x": [1], "y": ["a"]}, {"x": [2], "y": ["ü"]}):
            mlflow.log_table(part, "tables/eval.json")

    found = mlflow.load_table("tables/eval.json", run_ids=[run.info.run_id])
    assert found.to_dict("list") == {"x": [1, 2], "y": ["a", "ü"]}


def test_a_run_is_resumed_where_it_stopped(client: MlflowClient) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=0)
    assert client.get_run(run.info.run_id).info.status == "FINISHED"

    with mlflow.start_run(run_id=run.info.run_id) as again:
        assert client.get_run(again.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("loss", 0.5, step=1)

    found = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in found] == [(0, 1.0), (1, 0.5)]
    ended = client.get_run(run.info.run_id).info
    assert (ended.status, ended.start_time) == ("FINISHED", run.info.start_time)
