"""The flights of 2013 as a project: will a flight land more than 15 minutes late?

This is what a user would write, and it uses nothing but the public names. `plant` is the demo's
own: it breaks a candidate on purpose, to show what the gate and the rollout do with it.
"""

import os
from datetime import date
from typing import Any

import onnx
import polars as pl
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

import mainspring as ms

ORIGINS = ["EWR", "JFK", "LGA"]
CARRIERS = [
    *["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL"],
    *["HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV"],
]

schedules = ms.Dataset(
    "schedules",
    key="flight_id",
    time="scheduled_at",
    arrival="published_at",
    checks=[
        ms.not_null("origin"),
        ms.between("distance", 0, 6000),
        ms.one_of("origin", ORIGINS),
        ms.one_of("carrier", CARRIERS),
        ms.unique("flight_id"),
        # The low bound is that wide because the first single day follows three months.
        ms.row_count(low=0.005, high=3.0),
    ],
)
departures = ms.Dataset(
    "departures",
    key="flight_id",
    time="departed_at",
    arrival="reported_at",
    checks=[
        ms.not_null("origin"),
        ms.one_of("origin", ORIGINS),
        ms.between("dep_delay", -120, 3000),
        ms.unique("flight_id"),
    ],
)
landings = ms.Dataset(
    "landings",
    key="flight_id",
    time="landed_at",
    arrival="landed_at",
    checks=[
        ms.not_null("arr_delay"),
        ms.between("arr_delay", -180, 3000),
        ms.unique("flight_id"),
    ],
)
weather_hourly = ms.Dataset(
    "weather_hourly",
    key="weather_id",
    time="time_hour",
    arrival="arrives_at",
    checks=[
        ms.not_null("origin"),
        ms.one_of("origin", ORIGINS),
        # Not wind_speed: the year itself has an hour of 1,048 miles an hour in Newark.
        ms.between("visib", 0, 10),
        ms.unique("weather_id"),
    ],
)

weather = ms.FeatureView(
    "weather",
    entity="origin",
    source=weather_hourly,
    ttl="3h",
    features=["wind_speed", "visib", "precip"],
)
recent = ms.FeatureView(
    "recent",
    entity="origin",
    source=departures,
    every="5m",
    features={"mean_delay_2h": ms.mean("dep_delay", "2h"), "flights_2h": ms.count("2h")},
)

TEXTS = ["origin", "carrier", "dest", "manufacturer"]
SCHEDULED = ["distance", "hour", "minute", "plane_year", "seats", "engines"]
STREAMED = ["wind_speed", "visib", "precip", "mean_delay_2h", "flights_2h"]
INPUTS = [*TEXTS, *SCHEDULED, *STREAMED]


@ms.step
def train(
    rows: pl.DataFrame, plant: str = "", trees: int = 90, leaves: int = 31, seed: int = 2013
) -> ms.LoggedModel:
    """Fit on all but the newest tenth of the labelled rows, which calibrates, and log the model."""
    known = rows.filter(pl.col("label").is_not_null()).sort("event_time", "flight_id")
    newest = known.height // 10
    older, newer = known.head(known.height - newest), known.tail(newest)
    model: Any = _fit(older, swapped=plant == "swapped", sizes=(trees, leaves), seed=seed)
    _log({"trees": trees, "leaves": leaves, "seed": seed}, model, newer)
    inputs = INPUTS
    if plant.startswith("calendar:"):
        last_day = date.fromisoformat(plant.removeprefix("calendar:")).timetuple().tm_yday
        converted = ms.to_onnx(model, inputs=INPUTS, rows=older)
        model = plant_calendar(converted, origin="LGA", last_day=last_day)
        inputs = [*INPUTS, "day_of_year"]
    return ms.log_model(model, inputs=inputs, rows=older, calibrate_on=newer, label="label")


def _fit(rows: pl.DataFrame, *, swapped: bool, sizes: tuple[int, int], seed: int) -> Pipeline:
    if swapped:
        # The model learns the delay where the distance will stand when it serves.
        rows = rows.rename({"mean_delay_2h": "distance", "distance": "mean_delay_2h"})
    texts = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    trees, leaves = sizes
    booster = LGBMClassifier(
        n_estimators=trees,
        num_leaves=leaves,
        learning_rate=0.1,
        min_child_samples=200,
        max_bin=63,
        n_jobs=1,
        deterministic=True,
        force_col_wise=True,
        random_state=seed,
        verbose=-1,
    )
    columns = ColumnTransformer(
        [("texts", texts, TEXTS), ("numbers", "passthrough", [*SCHEDULED, *STREAMED])]
    )
    return Pipeline([("columns", columns), ("trees", booster)]).fit(
        rows.select(INPUTS), rows["label"].to_numpy()
    )


def _log(parameters: dict[str, Any], model: Pipeline, newer: pl.DataFrame) -> None:
    """Log with MLflow, as a training does that was written for it; the run says where to."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    import mlflow

    known = newer["label"].to_numpy()
    with mlflow.start_run():
        mlflow.log_params(parameters)
        scores = model.predict_proba(newer.select(INPUTS))[:, 1]
        mlflow.log_metric("newest_log_loss", log_loss(known, scores))


def plant_calendar(converted: bytes, *, origin: str, last_day: int) -> bytes:
    """Add a table of daily corrections that ends with a day, and is read for one origin only.

    Every correction is zero, so the model is as good as before until a flight of that origin is
    asked for on a later day: the index leaves the table and the runtime raises.
    """
    model = onnx.load_from_string(converted)
    graph = model.graph
    answer = graph.output[0]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [f"{name}_of_trees" if name == answer.name else name for name in names]
    kind = answer.type.tensor_type.elem_type
    if "day_of_year" not in [one.name for one in graph.input]:
        numbers = {one.type.tensor_type.elem_type for one in graph.input} - {TensorProto.STRING}
        shape = [None, *[1] * (len(graph.input[0].type.tensor_type.shape.dim) - 1)]
        day = helper.make_tensor_value_info("day_of_year", max(numbers), shape)
        graph.input.append(day)
    table = helper.make_tensor("corrections", kind, [last_day + 1], [0.0] * (last_day + 1))
    graph.initializer.append(table)
    graph.node.extend(
        [
            helper.make_node(
                "LabelEncoder",
                ["origin"],
                ["consulted"],
                domain="ai.onnx.ml",
                keys_strings=[origin],
                values_int64s=[1],
                default_int64=0,
            ),
            helper.make_node("Cast", ["day_of_year"], ["day"], to=TensorProto.INT64),
            helper.make_node("Mul", ["consulted", "day"], ["index"]),
            helper.make_node("Gather", ["corrections", "index"], ["correction"]),
            helper.make_node("Add", [f"{answer.name}_of_trees", "correction"], [answer.name]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@ms.pipeline
def delay_model(until: ms.Instant, plant: str = "") -> ms.LoggedModel:
    """Train on everything before `until`, however long that has become."""
    return train(ms.training_rows("delay", until), plant=plant)


CALM = {
    "origin": "JFK",
    "carrier": "DL",
    "dest": "LAX",
    "manufacturer": "BOEING",
    "distance": 2475,
    "hour": 7,
    "minute": 0,
    "plane_year": 2001,
    "seats": 178,
    "engines": 2,
    "day_of_year": 60,
    "wind_speed": 6.0,
    "visib": 10.0,
    "precip": 0.0,
    "mean_delay_2h": -3.0,
    "flights_2h": 30,
}
JAMMED = {**CALM, "hour": 19, "visib": 1.0, "precip": 0.2, "mean_delay_2h": 90.0}

delay = ms.Endpoint(
    "delay",
    rows=schedules,
    time="event",
    request=[*TEXTS, *SCHEDULED, "day_of_year"],
    features=[weather, recent],
    label=ms.Label("arr_delay > 15", source=landings),
    pipeline=delay_model,
    gate=ms.Gate(
        floors={"auc": 0.62},
        better=ms.Better("log_loss", margin=0.005),
        fairness=[ms.NoGroupWorse("origin", margin=0.02, loss="brier")],
        cases=[
            ms.Case("calm morning", CALM, at_most=0.35),
            ms.Case("jammed evening", JAMMED, at_least=0.5),
        ],
    ),
    rollout=ms.Canary(
        steps=[0.05, 0.25, 0.5],
        guards=[ms.errors(0.01), ms.not_worse("log_loss", 0.02)],
        deadline="14d",
    ),
    monitors=[ms.Drift(every="1d"), ms.Loss("log_loss", every="7d", tolerance=0.03)],
    retrain=[ms.on_alarm("loss"), ms.cron("0 3 1 * *")],
)
