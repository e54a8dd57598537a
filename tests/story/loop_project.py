"""A small project for the story and kill tests: does a part fail within the day?"""

from typing import Any

import onnx
import polars as pl
from onnx import TensorProto, helper
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import mainspring as ms

parts = ms.Dataset(
    "parts",
    key="part_id",
    time="used_at",
    arrival="known_at",
    checks=[ms.not_null("machine"), ms.between("load", -9, 9), ms.unique("part_id")],
)
shocks = ms.Dataset("shocks", key="shock_id", time="felt_at", arrival="told_at")
failures = ms.Dataset("failures", key="part_id", time="used_at", arrival="seen_at")

recent = ms.FeatureView(
    "recent",
    entity="machine",
    source=shocks,
    every="1h",
    features={"shocks_6h": ms.count("6h"), "force_6h": ms.mean("force", "6h")},
)
INPUTS = ["load", "shocks_6h"]


@ms.step
def train(rows: pl.DataFrame, days: int = 4, last_day: int = 0) -> ms.LoggedModel:
    """Fit on the last days; with `last_day` the graph raises for machine m2 on later ones."""
    known = rows.filter(pl.col("label").is_not_null()).sort("event_time", "part_id")
    last: Any = known["event_time"].max()
    known = known.filter(pl.col("event_time") > last - pl.duration(days=days))
    older, newer = known.head(known.height * 3 // 4), known.tail(known.height // 4)
    model = make_pipeline(SimpleImputer(), LogisticRegression())
    model.fit(older.select(INPUTS).to_numpy(), older["label"].to_numpy())
    logged: Any = model
    inputs = INPUTS
    if last_day:
        inputs = [*INPUTS, "machine", "day"]
        logged = ends_on(ms.to_onnx(model, inputs=INPUTS, rows=older), last_day)
    return ms.log_model(logged, inputs=inputs, rows=older, calibrate_on=newer, label="label")


def ends_on(converted: bytes, last_day: int) -> bytes:
    """Add a table of zero corrections that ends with a day and is read for machine m2 only."""
    model = onnx.load_from_string(converted)
    graph, answer = model.graph, model.graph.output[0]
    for node in graph.node:
        node.output[:] = ["scored" if name == answer.name else name for name in node.output]
    kind = graph.input[0].type.tensor_type.elem_type
    graph.input.append(helper.make_tensor_value_info("machine", TensorProto.STRING, [None]))
    graph.input.append(helper.make_tensor_value_info("day", kind, [None]))
    answered = answer.type.tensor_type.elem_type
    graph.initializer.append(
        helper.make_tensor("corrections", answered, [last_day + 1], [0.0] * (last_day + 1))
    )
    for used in model.opset_import:
        if used.domain == "ai.onnx.ml":
            used.version = 3
    chosen: Any = {"keys_strings": ["m2"], "values_int64s": [1], "default_int64": 0}
    graph.node.extend(
        [
            helper.make_node("LabelEncoder", ["machine"], ["read"], domain="ai.onnx.ml", **chosen),
            helper.make_node("Cast", ["day"], ["whole_day"], to=TensorProto.INT64),
            helper.make_node("Mul", ["read", "whole_day"], ["place"]),
            helper.make_node("Gather", ["corrections", "place"], ["correction"]),
            helper.make_node("Add", ["scored", "correction"], [answer.name]),
        ]
    )
    return bytes(model.SerializeToString())


@ms.pipeline
def failure_model(until: ms.Instant, days: int = 4, last_day: int = 0) -> ms.LoggedModel:
    return train(ms.training_rows("failure", until), days=days, last_day=last_day)


failure = ms.Endpoint(
    "failure",
    rows=parts,
    time="event",
    request=["machine", "load", "day"],
    features=[recent],
    label=ms.Label("failed > 0", source=failures, wait="12h"),
    pipeline=failure_model,
    gate=ms.Gate(
        floors={"auc": 0.6},
        better=ms.Better("log_loss", margin=0.1, sd=0.6),
        min_rows=300,
        block="6h",
    ),
    rollout=ms.Canary(
        steps=[0.2, 0.5],
        guards=[ms.errors(0.05), ms.not_worse("log_loss", 0.1)],
        deadline="20d",
    ),
    monitors=[
        ms.Loss("log_loss", every="2d", tolerance=0.05, labels_per_month=10),
        ms.Drift(every="1d"),
    ],
    retrain=[ms.on_alarm("loss", retry="4d")],
)
