"""Models that answer together become one graph that agrees with its parts, or are refused."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

import mainspring as ms
from mainspring.core.clock import SystemClock
from mainspring.core.errors import InvalidDeclaration, NotFound, Refused, Unconvertible
from mainspring.core.ids import Id
from mainspring.formats.model import read_file
from mainspring.pipelines.context import RunContext, in_run
from mainspring.store.blobs import Blobs, FolderBlobs

NAMES = ("distance", "wind", "hour")


def flights(rows: int = 1200) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    wind = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(10, 4, rows))
    hour = rng.integers(0, 24, rows).astype(float)
    late = np.nan_to_num(wind) / 10 + hour / 24 + rng.normal(0, 0.3, rows) > 1.5
    return pl.DataFrame(
        {
            "distance": rng.uniform(100, 5000, rows),
            "wind": wind,
            "hour": hour,
            "carrier": rng.choice(["AA", "UA"], rows).tolist(),
            "late": late.astype(int),
        }
    )


def trees(rows: pl.DataFrame, leaves: int) -> Any:
    made = lightgbm.LGBMClassifier(
        n_estimators=8, num_leaves=leaves, n_jobs=1, deterministic=True, verbose=-1
    )
    return made.fit(rows.select(NAMES).to_numpy(), rows["late"].to_numpy())


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def rows() -> pl.DataFrame:
    return flights()


@pytest.fixture
def logged(blobs: Blobs, rows: pl.DataFrame) -> Callable[[int], ms.LoggedModel]:
    def log(leaves: int) -> ms.LoggedModel:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return ms.log_model(trees(rows, leaves), inputs=NAMES, rows=rows, blobs=blobs)

    return log


def linear(rows: pl.DataFrame, names: tuple[str, ...], blobs: Blobs) -> ms.LoggedModel:
    model = LogisticRegression().fit(rows.select(names).to_numpy(), rows["late"].to_numpy())
    return ms.log_model(model, inputs=names, rows=rows, blobs=blobs)


def test_a_join_answers_the_weighted_mean_of_its_parts(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    small, large = logged(4), logged(16)

    whole = ms.log_model(
        ms.join(small, large, weights=[1, 3]), inputs=NAMES, rows=rows, blobs=blobs
    )

    expected = small.predict(rows) / 4 + large.predict(rows) * 3 / 4
    assert np.abs(whole.predict(rows) - expected).max() < 1e-6
    assert np.abs(small.predict(rows) - large.predict(rows)).max() > 0.01
    record = msgspec.json.decode(read_file(blobs.path, whole.files(), "graph.json"))
    assert record == {
        "join": [{"manifest": small.manifest}, {"manifest": large.manifest}],
        "weights": [1.0, 3.0],
    }


def test_a_condition_answers_each_row_with_the_part_that_it_names(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    small, large = logged(4), logged(16)
    by_number = ms.when("wind", ">=", 10.0, then=small, otherwise=large)
    by_text = ms.when("carrier", "==", "UA", then=by_number, otherwise=large)

    whole = ms.log_model(by_text, inputs=(*NAMES, "carrier"), rows=rows, blobs=blobs)

    chosen = ((rows["carrier"] == "UA") & (rows["wind"].fill_nan(-1) >= 10)).to_numpy()
    expected = np.where(chosen, small.predict(rows), large.predict(rows))
    assert 0.1 < chosen.mean() < 0.9
    assert np.abs(whole.predict(rows) - expected).max() < 1e-6


def test_a_chain_hands_what_a_part_gives_to_the_next_by_name(
    blobs: Blobs, rows: pl.DataFrame
) -> None:
    scaled = rows.with_columns(far=pl.col("distance") / 1000)
    model = linear(scaled, ("far", "hour"), blobs)
    after = scaled.with_columns(score=pl.Series(model.predict(scaled)))
    post = linear(after, ("score", "distance"), blobs)

    whole = ms.log_model(
        ms.chain(thousands("far"), model, post), inputs=("distance", "hour"), rows=rows, blobs=blobs
    )

    assert np.abs(whole.predict(rows) - post.predict(after)).max() < 1e-5
    assert [column.name for column in whole.signature().inputs] == ["distance", "hour"]


def test_a_stack_lets_a_last_part_read_the_answers_of_others(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    small, large = logged(4), logged(16)
    answers = rows.with_columns(a=pl.Series(small.predict(rows)), b=pl.Series(large.predict(rows)))
    judge = linear(answers, ("a", "b"), blobs)

    whole = ms.log_model(ms.stack(judge, a=small, b=large), inputs=NAMES, rows=rows, blobs=blobs)

    assert np.abs(whole.predict(rows) - judge.predict(answers)).max() < 1e-5


def thousands(output: str, opset: int = 17, kind: int = TensorProto.DOUBLE) -> onnx.ModelProto:
    number = np.float64 if kind == TensorProto.DOUBLE else np.float32
    node = helper.make_node("Div", ["distance", "thousand"], [output])
    graph = helper.make_graph(
        [node],
        "pre",
        [helper.make_tensor_value_info("distance", kind, ["rows"])],
        [helper.make_tensor_value_info(output, kind, ["rows"])],
        [onnx.numpy_helper.from_array(np.array(1000, number), "thousand")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_parts_of_other_operator_sets_and_number_types_are_merged(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    newer = thousands("distance_k", opset=18, kind=TensorProto.FLOAT)
    small = logged(4)

    whole = ms.log_model(ms.join(small, newer), inputs=NAMES, rows=rows, blobs=blobs)

    expected = (small.predict(rows) + rows["distance"].to_numpy() / 1000) / 2
    assert np.abs(whole.predict(rows) - expected).max() < 1e-5


def context_of(blobs: Blobs, models: Any) -> RunContext:
    def none(*_: Any) -> Any:
        raise NotFound("there are no rows")

    return RunContext(
        project="default",
        run=Id("r1"),
        name="delay",
        blobs=blobs,
        clock=SystemClock(),
        environment={},
        rows=none,
        rows_digest=none,
        models=models,
    )


def test_a_reference_is_pinned_to_the_version_it_names_now(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    small, large = logged(4), logged(16)
    known = {
        "models:/small/1": ("models:/small/1", small.manifest),
        "models:/large@champion": ("models:/large/7", large.manifest),
    }
    graph = ms.join("models:/small/1", "models:/large@champion")

    with in_run(context_of(blobs, known.__getitem__)):
        whole = ms.log_model(graph, inputs=NAMES, rows=rows)

    record = msgspec.json.decode(read_file(blobs.path, whole.files(), "graph.json"))
    assert record["join"] == [
        {"model": "models:/small/1", "manifest": small.manifest},
        {"model": "models:/large/7", "manifest": large.manifest},
    ]
    with pytest.raises(Refused, match="found no run that knows the registry"):
        ms.log_model(graph, inputs=NAMES, rows=rows, blobs=blobs)


def test_what_does_not_fit_is_refused_with_the_tensor_named(
    blobs: Blobs, rows: pl.DataFrame, logged: Callable[[int], ms.LoggedModel]
) -> None:
    small = logged(4)
    wrong = {
        "a tensor of the same name": (ms.chain(thousands("far"), small), NAMES),
        "no part reads them": (ms.join(small, small), (*NAMES, "carrier")),
        "column 'hour': graph.1 takes it": (ms.join(small, small), ("distance", "wind")),
        "log it with log_model first": (ms.join(small, object()), NAMES),
        "column 'carrier': found str": (
            ms.when("carrier", ">", 1.0, then=small, otherwise=small),
            (*NAMES, "carrier"),
        ),
    }

    for message, (graph, inputs) in wrong.items():
        with pytest.raises(Unconvertible, match=message):
            ms.log_model(graph, inputs=inputs, rows=rows, blobs=blobs)


def test_a_graph_that_says_too_little_is_refused_where_it_is_declared() -> None:
    for declare in (
        lambda: ms.chain("models:/a/1"),
        lambda: ms.join("models:/a/1", "models:/b/1", weights=[1]),
        lambda: ms.join("models:/a/1", "models:/b/1", weights=[0, 0]),
        lambda: ms.when("wind", "~", 1.0, then="models:/a/1", otherwise="models:/b/1"),
        lambda: ms.when("carrier", "<", "AA", then="models:/a/1", otherwise="models:/b/1"),
    ):
        with pytest.raises(InvalidDeclaration, match="expected"):
            declare()
