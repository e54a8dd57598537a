"""Predictions by the protocols that send rows: TF Serving, KServe V1, MLflow's scoring."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.serving.serving_process import Json
from tests.serving.serving_world import World, canary, constant, failing_at, live

from mainspring.core.config import Config
from mainspring.formats.routes import RouteTable, publish
from mainspring.serving.http import Request, Response
from mainspring.serving.worker import Worker

ROW = {"origin": "JFK", "distance": 100.0, "hour": 1}
AS_LIST = ["JFK", 100.0, 1]
START_US = 1_364_776_200_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    return world


@pytest.fixture
def worker(world: World) -> Worker:
    return Worker(world.home, Config(), "w1")


def respond(
    worker: Worker, path: str, body: Any = None, method: str = "POST", **headers: str
) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return worker.app(Request(method, path, {"host": "localhost", **named}, content))


def ask(
    worker: Worker, path: str, body: Any = None, method: str = "POST", **headers: str
) -> tuple[int, Json]:
    response = respond(worker, path, body, method, **headers)
    return response.status, json.loads(response.body)


def rows_of(world: World) -> list[Json]:
    """What was scored, as the log has it."""
    (block,) = world.blocks()
    columns = {
        name: list(values) if isinstance(values, list) else values.tolist()
        for name, values in block.columns.items()
    }
    return [dict(zip(columns, one, strict=True)) for one in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [ROW, {**ROW, "hour": 2}]},
        {"instances": [AS_LIST, ["JFK", 100, 2]], "signature_name": "serving_default"},
        {"inputs": {"origin": ["JFK", "JFK"], "distance": [100, 100], "hour": [1, 2]}},
        {"inputs": {"origin": [["JFK"], ["JFK"]], "distance": [[100], [100]], "hour": [[1], [2]]}},
        {"instances": [{**ROW, "origin": {"b64": "SkZL"}}, {**ROW, "hour": 2}]},
    ],
)
def test_rows_come_in_every_form_of_v1(world: World, worker: Worker, body: Json) -> None:
    status, answer = ask(worker, "/v1/models/delay:predict", body)

    (block,) = world.blocks()
    assert status == 200
    field = "outputs" if "inputs" in body else "predictions"
    assert answer[field] == [0.5, 0.5]
    assert answer["mainspring"] == {
        "prediction_id": block.prediction,
        "versions": "1",
        "arms": "live",
    }
    assert rows_of(world) == [
        {"origin": "JFK", "distance": 100.0, "hour": 1.0},
        {"origin": "JFK", "distance": 100.0, "hour": 2.0},
    ]


def frame() -> pd.DataFrame:
    return pd.DataFrame({**{k: [v, v] for k, v in ROW.items()}, "hour": [1, 2]})


def scoring_bodies() -> list[tuple[bytes, str]]:
    rows = frame()
    plain = "application/json"
    split = {"dataframe_split": rows.to_dict(orient="split")}
    # As mlflow's own client of scoring servers writes it: without the index.
    split["dataframe_split"].pop("index")
    records = {"dataframe_records": rows.to_dict(orient="records")}
    inputs = {"inputs": rows.to_dict(orient="list")}
    instances = {"instances": np.array(rows.to_numpy(object)).tolist(), "params": {}}
    found = [(json.dumps(one).encode(), plain) for one in (split, records, inputs, instances)]
    text = rows.to_csv(index=False)
    return [*found, (text.encode(), "text/csv"), (text.encode(), "text/csv; charset=utf-8")]


@pytest.mark.parametrize(("body", "kind"), scoring_bodies())
def test_rows_come_in_every_form_of_mlflow(
    world: World, worker: Worker, body: bytes, kind: str
) -> None:
    status, answer = ask(worker, "/invocations", body, content_type=kind)

    assert (status, answer["predictions"]) == (200, [0.5, 0.5])
    assert [row["hour"] for row in rows_of(world)] == [1.0, 2.0]
    assert ask(worker, "/endpoints/delay/invocations", body, content_type=kind)[0] == 200


def test_rows_carry_key_and_event_time(world: World, worker: Worker) -> None:
    at = "2013-04-01T00:30:00Z"
    row = {**ROW, "__key__": "f1", "__event_time__": at}

    ask(worker, "/v1/models/delay:predict", {"instances": [row]})
    text = f"origin,distance,hour,__key__,__event_time__\nJFK,100,1,f1,{at}\n"
    ask(worker, "/invocations", text.encode(), content_type="text/csv")

    for block in world.blocks():
        assert (block.keys, block.event_times_us) == (["f1"], [START_US])


def test_what_is_empty_or_left_out_is_missing(world: World, worker: Worker) -> None:
    text = b"origin,distance,hour\n,,1\n"

    ask(worker, "/invocations", text, content_type="text/csv")
    ask(worker, "/v1/models/delay:predict", {"instances": [ROW, {"hour": 2}]})

    first, second = world.blocks()
    assert str(first.columns["distance"][0]) == "nan"
    assert first.columns["origin"][0] == ""
    assert str(second.columns["distance"][1]) == "nan"


def test_a_bare_nan_is_missing_and_an_infinity_is_refused(world: World, worker: Worker) -> None:
    body = b'{"instances": [["JFK", NaN, 1]]}'

    assert ask(worker, "/v1/models/delay:predict", body)[0] == 200
    assert ask(worker, "/v1/models/delay:predict", body.replace(b"NaN", b"Infinity"))[0] == 400
    (block,) = world.blocks()
    assert str(block.columns["distance"][0]) == "nan"


def test_a_version_or_a_label_is_asked_for_alone(world: World, worker: Worker) -> None:
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(2, canary(second, share=0.5), live(first, share=0.5))
    body = {"instances": [ROW]}
    path = "/v1/models/delay"

    assert ask(worker, f"{path}/versions/2:predict", body)[1]["predictions"] == [0.25]
    assert ask(worker, f"{path}/labels/canary:predict", body)[1]["predictions"] == [0.25]
    assert ask(worker, f"{path}/labels/live:predict", body)[1]["predictions"] == [0.5]
    assert ask(worker, f"{path}/labels/stable:predict", body)[0] == 404
    assert ask(worker, f"{path}/versions/9:predict", body)[0] == 404
    states = ask(worker, path, method="GET")[1]["model_version_status"]
    assert {one["version"]: one["state"] for one in states} == {"1": "AVAILABLE", "2": "AVAILABLE"}
    (alone,) = ask(worker, f"{path}/labels/canary", method="GET")[1]["model_version_status"]
    assert alone["version"] == "2"


def test_what_is_served_is_listed_and_described(worker: Worker) -> None:
    assert ask(worker, "/v1/models", method="GET") == (200, {"models": ["delay"]})
    assert ask(worker, "/v1/models/delay", method="GET")[1]["ready"] is True
    found = ask(worker, "/v1/models/delay/metadata", method="GET")[1]
    inputs = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
    assert {name: one["dtype"] for name, one in inputs.items()} == {
        "origin": "DT_STRING",
        "distance": "DT_DOUBLE",
        "hour": "DT_INT64",
    }
    assert respond(worker, "/ping", method="GET").status == 200
    assert respond(worker, "/version", method="GET").body.startswith(b"0.")


WRONG: list[tuple[Any, str]] = [
    (b"{", "no JSON"),
    ([1], "found none of these"),
    ({}, "found none of these"),
    ({"instances": [ROW], "inputs": {}}, "instances, inputs"),
    ({"instances": [ROW], "extra": 1}, "unknown field 'extra'"),
    ({"instances": []}, "no rows"),
    ({"instances": "x"}, "expected a list of rows"),
    ({"instances": [["JFK", 1]]}, "found 2 values, expected 3"),
    ({"instances": [ROW, 5]}, "list of mappings"),
    ({"instances": [{**ROW, "tail": 1}]}, "unknown column 'tail'"),
    ({"instances": [{**ROW, "distance": "far"}]}, "distance"),
    ({"instances": [{**ROW, "origin": {"b64": "!"}}]}, "b64"),
    ({"inputs": {"origin": ["JFK"], "distance": [1, 2], "hour": [1]}}, "differ in length"),
    ({"inputs": {"origin": ["JFK"], "hour": [1]}}, "'distance' is missing"),
    ({"instances": [{**ROW, "__event_time__": "yesterday"}]}, "event time"),
    ({"instances": [{**ROW, "__key__": ""}]}, "key of row 0"),
]


@pytest.mark.parametrize(("body", "told"), WRONG, ids=lambda one: str(one)[:40])
def test_wrong_bodies_are_refused_by_name(
    world: World, worker: Worker, body: Any, told: str
) -> None:
    status, answer = ask(worker, "/v1/models/delay:predict", body)
    scored, said = ask(worker, "/invocations", body)

    assert (status, scored) == (400, 400)
    assert told in answer["error"]
    assert said["error_code"] == "BAD_REQUEST"
    assert world.blocks() == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"origin,distance,hour\n", "at least one row"),
        (b"origin,distance,hour\nJFK,far,1\n", "column 'distance': found 'far'"),
        (b"origin,distance,hour\nJFK,1\n", "row 0: found 2 values"),
        (b"origin,origin,hour\nJFK,1,1\n", "twice"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_wrong_csv_is_refused(worker: Worker, body: bytes, told: str) -> None:
    status, said = ask(worker, "/invocations", body, content_type="text/csv")

    assert status == 400
    assert told in said["message"]


def test_what_is_not_there_is_404_and_what_is_meant_must_be_said(
    world: World, worker: Worker
) -> None:
    body = {"instances": [ROW]}
    assert ask(worker, "/v1/models/none:predict", body)[0] == 404
    assert ask(worker, "/v1/models/delay:classify", body)[0] == 404
    assert ask(worker, "/invocations", body, content_type="application/xml")[0] == 400
    assert ask(worker, "/invocations", {**body, "params": {"k": 1}})[0] == 400
    arm = live(world.model(constant(0.5)))
    routes = tuple(world.route(arm, endpoint=name) for name in ("delay", "other"))
    publish(world.home.routes, RouteTable(2, routes))

    status, said = ask(worker, "/invocations", body)

    assert (status, said["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert ask(worker, "/invocations?endpoint=other", body)[0] == 200
    assert ask(worker, "/invocations", body, x_mainspring_endpoint="delay")[0] == 200


def test_a_row_that_cannot_be_scored_is_null_and_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(1, live(world.model(failing_at("EWR"))))
    worker = Worker(world.home, Config(), "w1")
    path = "/v1/models/delay:predict"

    status, answer = ask(worker, path, {"instances": [ROW, {**ROW, "origin": "EWR"}]})
    nothing = ask(worker, path, {"instances": [{**ROW, "origin": "EWR"}]})

    assert (status, answer["predictions"]) == (200, [0.5, None])
    assert list(answer["mainspring"]["failed_rows"]) == ["1"]
    assert nothing[0] == 500


def test_rows_of_several_arms_say_which_answered_each(world: World, worker: Worker) -> None:
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(2, canary(second, share=0.5), live(first, share=0.5))
    rows = [{**ROW, "__key__": f"f{i}"} for i in range(40)]

    answer = ask(worker, "/v1/models/delay:predict", {"instances": rows})[1]

    versions, arms = answer["mainspring"]["versions"], answer["mainspring"]["arms"]
    assert set(versions) == {"1", "2"}
    assert set(zip(versions, arms, strict=True)) == {("1", "live"), ("2", "canary")}
    assert answer["predictions"] == [{"1": 0.5, "2": 0.25}[one] for one in versions]
