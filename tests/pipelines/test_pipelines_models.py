"""Logging a model: the whole folder, proven, and the same when it is made again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as Chain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from mainspring.core.errors import InvalidInput, Refused, SchemaMismatch, Unconvertible
from mainspring.core.events import RunClosed
from mainspring.core.ids import Id
from mainspring.formats.model import (
    read_environment,
    read_goldens,
    read_manifest,
)
from mainspring.pipelines.builtin import training_rows
from mainspring.pipelines.logged_model import LoggedModel
from mainspring.pipelines.models import log_model
from mainspring.pipelines.pipeline import pipeline
from mainspring.pipelines.step import step
from mainspring.registry.folders import ModelFolders
from mainspring.stats.categories import CategoryProfile
from mainspring.stats.profile import NumericProfile
from mainspring.store.blobs import FolderBlobs

if TYPE_CHECKING:
    from tests.pipelines.conftest import Workshop

START = datetime(2013, 4, 1, tzinfo=UTC)
INPUTS = ["origin", "distance", "wind", "seats"]


def flights(rows: int = 2000, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    wind = rng.gamma(2.0, 5.0, rows)
    origin = rng.choice(["EWR", "JFK", "LGA"], rows)
    late = rng.random(rows) < 1 / (1 + np.exp(2.5 - wind / 6 - (origin == "EWR")))
    frame = pl.DataFrame(
        {
            "origin": origin,
            "distance": rng.integers(100, 3000, rows),
            "wind": wind,
            "seats": rng.integers(50, 400, rows),
            "label": late,
        }
    )
    hole = pl.int_range(pl.len())
    return frame.with_columns(
        pl.when(hole % 17 == 0).then(None).otherwise(pl.col("wind")).alias("wind"),
        pl.when(hole % 23 == 0).then(None).otherwise(pl.col("seats")).alias("seats"),
        pl.when(hole % 29 == 0).then(pl.lit("")).otherwise(pl.col("origin")).alias("origin"),
    )


def fitted(rows: pl.DataFrame, *, trees: int = 20) -> Chain:
    texts = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [("texts", texts, ["origin"]), ("numbers", "passthrough", ["distance", "wind", "seats"])]
    )
    booster = LGBMClassifier(
        n_estimators=trees,
        num_leaves=7,
        n_jobs=1,
        deterministic=True,
        force_col_wise=True,
        random_state=7,
        verbose=-1,
    )
    return Chain([("columns", columns), ("trees", booster)]).fit(
        rows.select(INPUTS), rows["label"].to_numpy()
    )


@step
def train(rows: pl.DataFrame, trees: int = 20) -> Any:
    held = rows.tail(500)
    model = fitted(rows.head(1500), trees=trees)
    return log_model(model, rows=rows.head(1500), inputs=INPUTS, label="label", calibrate_on=held)


@step
def score(model: LoggedModel, rows: pl.DataFrame) -> float:
    return float(model.predict(rows).mean())


@pipeline
def delay_model(trees: int = 20) -> Any:
    model = train(training_rows("delay", START), trees)
    score(model, training_rows("delay", START))
    return model


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


def test_a_pipeline_trained_twice_gives_one_manifest(workshop: "Workshop", tmp_path: Path) -> None:
    import runpy

    conftest = str(Path(__file__).with_name("conftest.py"))
    made = []
    (tmp_path / "other").mkdir()
    with runpy.run_path(conftest)["opened_workshop"](tmp_path / "other") as other:
        for place in (workshop, other):
            place.rows = lambda _endpoint, _until: flights()
            lease = place.begin()
            closed = place.runner(lease).execute(delay_model, {})
            assert closed.version == "1", place.runs.get(Id(lease.name)).message
            made.append(place.registry.get("delay", "1").manifest)

    assert made[0] == made[1]


def test_a_run_registers_the_model_it_returns(workshop: "Workshop") -> None:
    workshop.rows = lambda _endpoint, _until: flights()
    lease = workshop.begin()

    closed = workshop.runner(lease).execute(delay_model, {})

    event = closed.facts[-1].event
    assert isinstance(event, RunClosed)
    assert (event.outcome, event.version) == ("finished", "1")
    version = workshop.registry.deployable("delay", "1")
    tracked = workshop.tracking.get(Id(lease.name))
    files = read_manifest(workshop.blobs.path, version.manifest).files
    assert {f"model/{path}": digest for path, digest in files.items()} == {
        path: file.digest for path, file in tracked.artifacts.items() if path.startswith("model/")
    }
    again = workshop.begin()
    assert workshop.runner(again).execute(delay_model, {}).version == "2"
    assert workshop.registry.get("delay", "2").manifest == version.manifest
    third = workshop.runner(workshop.begin()).execute(delay_model, {"trees": 21})
    assert third.version == "3"
    assert workshop.registry.get("delay", "3").manifest != version.manifest


def test_the_folder_holds_all_that_serving_and_monitoring_need(workshop: "Workshop") -> None:
    rows, blobs = flights(), workshop.blobs

    logged = log_model(
        fitted(rows.head(1500)), inputs=INPUTS, rows=rows, label="label", holdout=1500, blobs=blobs
    )

    manifest = logged.files()
    assert [(c.name, c.type) for c in logged.signature().inputs] == [
        ("origin", "str"),
        ("distance", "int"),
        ("wind", "float"),
        ("seats", "int"),
    ]
    goldens = read_goldens(blobs.path, manifest)
    assert len(goldens.outputs) >= 32
    assert all(None in goldens.columns[name] for name in ("wind", "seats"))
    assert "" in goldens.columns["origin"]
    assert max(goldens.outputs) - min(goldens.outputs) > 0.5
    assert "numpy" in read_environment(blobs.path, manifest)["packages"]


def test_monitoring_reads_what_the_run_kept_of_its_rows(workshop: "Workshop") -> None:
    rows, folders = flights(), ModelFolders(workshop.registry)
    model = fitted(rows.head(1500))
    for holdout in (1500, None):
        logged = log_model(
            model, inputs=INPUTS, rows=rows, label="label", holdout=holdout, blobs=workshop.blobs
        )
        workshop.registry.register(model="delay", manifest=logged.manifest, actor="ann")

    profiles = folders.profiles("delay", "1")
    wind, origin = profiles["wind"], profiles["origin"]
    assert isinstance(wind, NumericProfile)
    assert isinstance(origin, CategoryProfile)
    assert set(profiles) == set(INPUTS)
    assert (wind.rows, wind.n_missing) == (1500, len(range(0, 1500, 17)))
    assert origin.missing == len(range(0, 1500, 29))
    scores = [folders.score("delay", version) for version in ("1", "2")]
    assert [score.rows for score in scores if score] == [500, 2000]
    calibration = folders.calibration("delay", "1")
    assert calibration is not None
    assert calibration.rows == 500
    assert folders.calibration("delay", "2") is None


def test_a_logged_model_predicts_as_the_native_one(blobs: FolderBlobs) -> None:
    rows = flights()
    model = fitted(rows)

    logged = log_model(model, inputs=INPUTS, rows=rows, blobs=blobs)

    native = model.predict_proba(rows.select(INPUTS))[:, 1]
    np.testing.assert_allclose(logged.predict(rows), native, atol=1e-5)


def test_a_linear_model_is_logged_too(blobs: FolderBlobs) -> None:
    rows = flights().drop_nulls()
    numbers = ["distance", "seats"]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(rows.select(numbers).to_numpy(), rows["label"].to_numpy())

    logged = log_model(model, inputs=numbers, rows=rows, blobs=blobs)

    native = model.predict_proba(rows.select(numbers).to_numpy())[:, 1]
    np.testing.assert_allclose(logged.predict(rows), native, atol=1e-5)


def test_outside_a_run_blobs_must_be_given() -> None:
    with pytest.raises(Refused, match=r"found no run around the call and no blobs"):
        log_model(object(), inputs=["a"], rows=pl.DataFrame({"a": [1.0]}))


def test_mistakes_in_the_call_are_named(blobs: FolderBlobs) -> None:
    rows = flights(200)
    model = fitted(rows)

    with pytest.raises(SchemaMismatch, match=r"no columns \['speed'\]"):
        log_model(model, inputs=["speed"], rows=rows, blobs=blobs)
    times = rows.with_columns(pl.lit(START).alias("wind"))
    with pytest.raises(SchemaMismatch, match=r"input 'wind'.*Datetime"):
        log_model(model, inputs=INPUTS, rows=times, blobs=blobs)
    with pytest.raises(InvalidInput, match="found no rows"):
        log_model(model, inputs=INPUTS, rows=rows.clear(), blobs=blobs)
    with pytest.raises(InvalidInput, match="holdout: found 200 of 200 rows"):
        log_model(model, inputs=INPUTS, rows=rows, holdout=200, blobs=blobs)
    with pytest.raises(InvalidInput, match="label column None"):
        log_model(model, inputs=INPUTS, rows=rows, holdout=100, blobs=blobs)
    blank = rows.with_columns(pl.lit(None, pl.Boolean).alias("label"))
    with pytest.raises(InvalidInput, match="no labelled row among 100"):
        log_model(model, inputs=INPUTS, rows=blank, label="label", holdout=100, blobs=blobs)
    with pytest.raises(Unconvertible):
        log_model(b"no graph", inputs=INPUTS, rows=rows, blobs=blobs)


def test_two_models_and_none_returned_is_refused(workshop: "Workshop") -> None:
    workshop.rows = lambda _endpoint, _until: flights()

    @pipeline
    def torn() -> Any:
        rows = training_rows("delay", START)
        train(rows, 5)
        train(rows, 6)

    lease = workshop.begin()
    workshop.runner(lease).execute(torn, {})

    row = workshop.runs.get(Id(lease.name))
    assert row.state == "failed"
    assert "found 2 logged models and none returned" in row.message


def test_a_damaged_model_folder_trains_again(workshop: "Workshop") -> None:
    workshop.rows = lambda _endpoint, _until: flights()
    first = workshop.runner().run(delay_model, {"trees": 20})
    assert first.model is not None
    files = read_manifest(workshop.blobs.path, first.model.manifest).files
    workshop.blobs.delete(files["model.onnx"])

    second = workshop.runner().run(delay_model, {"trees": 20})

    assert [s.name for s in second.steps if s.executed] == ["train"]
    assert second.model == first.model
    workshop.blobs.get(files["model.onnx"])
