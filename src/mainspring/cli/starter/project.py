"""Will a machine stop within the day? A small loop to change into your own."""

import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mainspring as ms

INPUTS = ["temperature", "vibration", "load", "age"]

readings = ms.Dataset(
    "readings",
    key="reading_id",
    time="measured_at",
    arrival="received_at",
    checks=[ms.not_null("machine"), ms.between("load", 0, 1), ms.unique("reading_id")],
)
stops = ms.Dataset("stops", key="reading_id", time="measured_at", arrival="known_at")


@ms.step
def train(rows: pl.DataFrame, strength: float = 1.0) -> ms.LoggedModel:
    known = rows.filter(pl.col("label").is_not_null()).sort("event_time")
    older, newer = known.head(known.height * 4 // 5), known.tail(known.height // 5)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength))
    model.fit(older.select(INPUTS).to_numpy(), older["label"].to_numpy())
    return ms.log_model(model, inputs=INPUTS, rows=older, calibrate_on=newer, label="label")


@ms.pipeline
def stop_model(until: ms.Instant, strength: float = 1.0) -> ms.LoggedModel:
    return train(ms.training_rows("stop", until), strength=strength)


stop = ms.Endpoint(
    "stop",
    rows=readings,
    time="event",
    request=INPUTS,
    label=ms.Label("stopped > 0", source=stops, wait="1d"),
    pipeline=stop_model,
    gate=ms.Gate(floors={"auc": 0.7}, better=ms.Better("log_loss", margin=0.02), min_rows=500),
    rollout=ms.Canary(
        steps=[0.1, 0.5],
        guards=[ms.errors(0.02), ms.not_worse("log_loss", 0.05)],
        deadline="30d",
    ),
    monitors=[ms.Loss("log_loss", every="7d"), ms.Drift(every="1d")],
    retrain=[ms.on_alarm("loss"), ms.cron("0 3 1 * *")],
)
