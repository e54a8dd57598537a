"""A small project for the story and kill tests: does a part fail within the day?"""

from typing import Any

import polars as pl
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
def train(rows: pl.DataFrame, days: int = 4) -> ms.LoggedModel:
    known = rows.filter(pl.col("label").is_not_null()).sort("event_time", "part_id")
    last: Any = known["event_time"].max()
    known = known.filter(pl.col("event_time") > last - pl.duration(days=days))
    older, newer = known.head(known.height * 3 // 4), known.tail(known.height // 4)
    model = make_pipeline(SimpleImputer(), LogisticRegression())
    model.fit(older.select(INPUTS).to_numpy(), older["label"].to_numpy())
    return ms.log_model(model, inputs=INPUTS, rows=older, calibrate_on=newer, label="label")


@ms.pipeline
def failure_model(until: ms.Instant, days: int = 4) -> ms.LoggedModel:
    return train(ms.training_rows("failure", until), days=days)


failure = ms.Endpoint(
    "failure",
    rows=parts,
    time="event",
    request=["machine", "load"],
    features=[recent],
    label=ms.Label("failed > 0", source=failures, wait="12h"),
    pipeline=failure_model,
    gate=ms.Gate(
        floors={"auc": 0.6}, better=ms.Better("log_loss", margin=0.1, sd=0.6), min_rows=300, block="6h"
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
