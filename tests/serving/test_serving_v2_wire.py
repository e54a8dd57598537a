"""What the V2 protocol takes, refuses and answers, row by row."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.serving.serving_process import Json, flight, tensor
from tests.serving.serving_world import (
    ROLLOUT,
    World,
    canary,
    constant,
    failing_at,
    live,
)

from mainspring.core.config import Config
from mainspring.formats.routes import Arm
from mainspring.serving.http import Request, Response
from mainspring.serving.worker import Worker

INFER = "/v2/models/delay/infer"
START_US = 1_364_776_200_000_000


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    return world


@pytest.fixture
def worker(world: World) -> Worker:
    return Worker(world.home, Config(), "w1")


def ask(
    worker: Worker, body: Json | bytes, path: str = INFER, method: str = "POST", **headers: str
) -> tuple[int, Json]:
    response = respond(worker, body, path, method, **headers)
    return response.status, json.loads(response.body)


def respond(
    worker: Worker, body: Json | bytes, path: str = INFER, method: str = "POST", **headers: str
) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return worker.app(Request(method, path, {"host": "localhost", **named}, content))


def changed(**inputs: Any) -> Json:
    """The body of one row with some inputs' fields replaced."""
    body = flight()
    for i, one in enumerate(body["inputs"]):
        body["inputs"][i] = {**one, **inputs.get(one["name"], {})}
    return body


def many(count: int, **more: Any) -> Json:
    return {
        "inputs": [
            tensor("origin", "BYTES", ["JFK"] * count),
            tensor("distance", "FP64", [1.0] * count),
            tensor("hour", "INT64", [1] * count),
        ],
        **more,
    }


def test_one_row_is_answered_with_prediction_version_and_arm(world: World, worker: Worker) -> None:
    status, answer = ask(worker, {**flight(), "id": "r1"})

    (block,) = world.blocks()
    assert status == 200
    assert answer == {
        "model_name": "delay",
        "model_version": "1",
        "id": "r1",
        "parameters": {"prediction_id": block.prediction, "version": "1", "arm": "live"},
        "outputs": [{"name": "score", "datatype": "FP64", "shape": [1], "data": [0.5]}],
    }
    assert (block.request, block.keys, block.event_times_us) == ("r1", ["f1"], [START_US])
    assert block.strings == {"origin": ["JFK"]}


def test_rows_have_their_own_keys_and_event_times(world: World, worker: Worker) -> None:
    body = many(2)
    body["inputs"] += [
        tensor("__key__", "BYTES", ["a", "b"]),
        tensor("__event_time__", "BYTES", ["2013-04-01T00:30:00Z", "2013-04-01T02:30:00.5+02:00"]),
    ]

    status, answer = ask(worker, body)

    (block,) = world.blocks()
    assert (status, answer["outputs"][0]["data"]) == (200, [0.5, 0.5])
    assert (block.keys, block.event_times_us) == (["a", "b"], [START_US, START_US + 500_000])


def test_a_row_without_key_gets_a_fresh_one_and_without_time_the_present(
    world: World, worker: Worker
) -> None:
    ask(worker, many(2))
    ask(worker, many(2, parameters={"event_time": "2013-04-01T00:30:00Z"}))

    first, second = world.blocks()
    assert len({*first.keys, *second.keys}) == 4
    assert all(first.at_us - 60_000_000 < at <= first.at_us for at in first.event_times_us)
    assert second.event_times_us == [START_US] * 2


def test_missing_numbers_and_texts_are_null(world: World, worker: Worker) -> None:
    status, _ = ask(worker, flight(origin=None, distance=None))

    (block,) = world.blocks()
    assert status == 200
    assert block.columns["origin"] == [""]
    assert str(block.columns["distance"]) == "[nan]"


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "INT8", "UINT8", "INT32", "UINT64"])
def test_numbers_come_in_any_datatype(world: World, worker: Worker, datatype: str) -> None:
    body = changed(distance={"datatype": datatype, "data": [7]})

    assert ask(worker, body)[0] == 200
    assert world.blocks()[0].columns["distance"][0] == 7


def test_data_may_be_nested_by_row(world: World, worker: Worker) -> None:
    body = many(2)
    body["inputs"][0] |= {"shape": [2, 1], "data": [["JFK"], ["LGA"]]}

    assert ask(worker, body)[0] == 200
    assert world.blocks()[0].columns["origin"] == ["JFK", "LGA"]


BAD: dict[str, tuple[Json | bytes, str]] = {
    "no json": (b"{", "not a V2 request"),
    "empty": (b"", "not a V2 request"),
    "NaN as a token": (b'{"inputs": [NaN]}', "null"),
    "not UTF-8": (b'{"inputs": [], "id": "\xff"}', "not a V2 request"),
    "deep": (b'{"inputs": [' + b"[" * 100_000, "not a V2 request"),
    "no inputs": ({"inputs": []}, "no inputs; expected origin, distance, hour, __key__"),
    "unknown input": (changed(hour={"name": "day"}), "unknown input 'day'; expected origin"),
    "twice": ({"inputs": flight()["inputs"] * 2}, "twice"),
    "missing column": ({"inputs": flight()["inputs"][:2]}, "'hour' is missing"),
    "shape too large": (changed(hour={"shape": [2]}), "different numbers of rows"),
    "fewer values": (
        {"inputs": [{**i, "shape": [3]} for i in flight()["inputs"]]},
        "found 1 values for shape",
    ),
    "more values": (changed(hour={"data": [1, 2]}), "found 2 values"),
    "rank": (changed(hour={"shape": [1, 1, 1]}), r"expected \[rows\]"),
    "wide": (changed(hour={"shape": [1, 2], "data": [[1, 2]]}), r"expected \[rows\]"),
    "negative": (changed(hour={"shape": [-1]}), "expected 1 to"),
    "huge": (changed(hour={"shape": [10**9]}), "expected 1 to"),
    "zero": (changed(hour={"shape": [0], "data": []}), "expected 1 to"),
    "ragged": (changed(hour={"data": [[1, 2]]}), "different lengths"),
    "mixed nesting": (changed(hour={"data": [[1], 1]}), "different lengths"),
    "deeper": (changed(hour={"data": [[[1]]]}), "expected INT64"),
    "no data": (changed(hour={"data": None}), "no data"),
    "datatype": (changed(hour={"datatype": "FP8"}), "unknown datatype 'FP8'"),
    "text for a number": (changed(hour={"datatype": "BYTES", "data": ["1"]}), "expected INT64"),
    "number for a text": (changed(origin={"datatype": "FP64", "data": [1]}), "expected BYTES"),
    "text in numbers": (changed(hour={"data": ["1"]}), "row 0: found '1'"),
    "fraction as int": (changed(hour={"data": [1.5]}), "row 0: found 1.5"),
    "fraction for an int": (changed(hour={"datatype": "FP64", "data": [1.5]}), "whole number"),
    "out of range": (changed(hour={"datatype": "INT8", "data": [128]}), "does not fit INT8"),
    "unsigned": (changed(hour={"datatype": "UINT8", "data": [-1]}), "does not fit UINT8"),
    "bool as int": (changed(hour={"data": [True]}), "found True"),
    "output": ({**flight(), "outputs": [{"name": "p"}]}, "unknown output 'p'"),
    "key for two": (many(2, parameters={"key": "a"}), "send __key__"),
    "key twice": (
        {**flight(), "inputs": [*flight()["inputs"], tensor("__key__", "BYTES", ["a"])]},
        "one of them",
    ),
    "key is a number": (many(1, parameters={"key": 7}), "expected a text"),
    "empty key": (many(1, parameters={"key": ""}), "expected a text"),
    "no zone": (many(1, parameters={"event_time": "2013-04-01T00:30:00"}), "RFC 3339"),
    "no time": (many(1, parameters={"event_time": "yesterday"}), "RFC 3339"),
    "long id": ({**flight(), "id": "x" * 201}, "200 at most"),
    "id is a number": ({**flight(), "id": 7}, "not a V2 request"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_input_is_told_and_scores_nothing(world: World, worker: Worker, name: str) -> None:
    body, text = BAD[name]

    response = respond(worker, body)

    assert response.status == 400
    assert list(json.loads(response.body)) == ["error"]
    with pytest.raises(ValueError, match=text):
        raise ValueError(json.loads(response.body)["error"])
    assert world.blocks() == []


def test_more_rows_than_one_request_may_hold_are_refused(worker: Worker) -> None:
    status, answer = ask(worker, many(16_385))

    assert status == 400
    assert "expected 1 to 16384" in answer["error"]


def test_only_the_outputs_asked_for_come(worker: Worker) -> None:
    wanted = [{"name": "arm"}, {"name": "version"}]

    status, answer = ask(worker, {**flight(), "outputs": wanted})

    assert status == 200
    assert [(o["name"], o["data"]) for o in answer["outputs"]] == [
        ("arm", ["live"]),
        ("version", ["1"]),
    ]


def test_rows_of_two_versions_name_theirs_and_no_version_is_claimed(world: World) -> None:
    world.publish(
        2,
        canary(world.model(constant(0.75), golden=0.75), 0.5),
        live(world.model(constant(0.5)), share=0.5),
    )
    worker = Worker(world.home, Config(), "w1")
    body = many(20, outputs=[{"name": "score"}])
    body["inputs"].append(tensor("__key__", "BYTES", [f"f{i}" for i in range(20)]))

    status, answer = ask(worker, body)

    score, version = answer["outputs"]
    assert status == 200
    assert set(version["data"]) == {"1", "2"}
    assert score["data"] == [{"1": 0.5, "2": 0.75}[one] for one in version["data"]]
    assert "model_version" not in answer
    assert list(answer["parameters"]) == ["prediction_id"]


@pytest.mark.parametrize("rollout", [None, ROLLOUT])
def test_a_version_is_asked_by_its_number(world: World, rollout: Any) -> None:
    first, second = world.model(constant(0.5)), world.model(constant(0.75), golden=0.75)
    world.publish(2, canary(second, 0.0), live(first), rollout=rollout)
    worker = Worker(world.home, Config(), "w1")

    for version, score in (("1", 0.5), ("2", 0.75)):
        status, answer = ask(worker, flight(), f"/v2/models/delay/versions/{version}/infer")
        assert (status, answer["model_version"]) == (200, version)
        assert answer["outputs"][0]["data"] == [score]
    status, answer = ask(worker, flight(), "/v2/models/delay/versions/3/infer")

    assert (status, "those that do: 2, 1" in answer["error"]) == (404, True)
    assert [block.propensity for block in world.blocks()] == [[1.0], [1.0]]
    assert [len(block.outputs) for block in world.blocks()] == [2 if rollout else 1] * 2


def test_a_pinned_version_that_fails_is_not_replaced(world: World) -> None:
    bad = world.model(failing_at("EWR"))
    world.publish(2, canary(bad, 0.5), live(world.model(constant(0.5)), share=0.5))
    worker = Worker(world.home, Config(), "w1")

    status, answer = ask(worker, flight("EWR"), "/v2/models/delay/versions/2/infer")

    assert status == 500
    assert "version 2" in answer["error"]


def test_a_fallback_is_told(world: World) -> None:
    bad, fine = world.model(failing_at("EWR")), world.model(constant(0.25), golden=0.25)
    world.publish(2, canary(bad, 1.0), live(fine, share=0.0))
    worker = Worker(world.home, Config(), "w1")

    _, good = ask(worker, flight("JFK"))
    _, answer = ask(worker, flight("EWR"))

    assert "fallback" not in good["parameters"]
    assert answer["parameters"]["fallback"] is True
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("1", [0.25])


def test_rows_that_no_version_scores_are_null_and_listed(world: World) -> None:
    world.publish(2, live(world.model(failing_at("EWR"))))
    worker = Worker(world.home, Config(), "w1")
    body = many(3)
    body["inputs"][0]["data"] = ["JFK", "EWR", "LGA"]

    status, answer = ask(worker, body)
    all_failed, error = ask(worker, flight("EWR"))

    assert status == 200
    assert answer["outputs"][0]["data"] == [0.5, None, 0.5]
    assert answer["outputs"][1]["data"] == ["1", "", "1"]
    assert answer["parameters"]["failed_rows"] == "1"
    assert "row 1: version 1" in answer["parameters"]["error"]
    assert (all_failed, list(error)) == (500, ["error"])


def test_binary_tensors_go_both_ways(world: World, worker: Worker) -> None:
    parts = [
        b"".join(struct.pack("<I", len(text)) + text for text in (b"JFK", b"LGA")),
        struct.pack("<2f", 7.0, float("nan")),
        struct.pack("<2q", 1, 2),
    ]
    body = many(2, outputs=[{"name": "score", "parameters": {"binary_data": True}}])
    body["inputs"][1]["datatype"] = "FP32"
    for one, part in zip(body["inputs"], parts, strict=True):
        del one["data"]
        one["parameters"] = {"binary_data_size": len(part)}
    text = json.dumps(body).encode()

    response = respond(
        worker, text + b"".join(parts), inference_header_content_length=str(len(text))
    )

    size = int(dict(response.headers)["Inference-Header-Content-Length"])
    (block,) = world.blocks()
    assert response.status == 200
    assert json.loads(response.body[:size])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert struct.unpack("<2d", response.body[size:]) == (0.5, 0.5)
    assert block.columns["origin"] == ["JFK", "LGA"]
    assert str(block.columns["distance"]) == "[ 7. nan]"


@pytest.mark.parametrize(
    ("size", "content", "length", "text"),
    [
        (8, b"1234567", None, "found 7 behind"),
        (7, b"1234567", None, "found 7 bytes, expected 8"),
        (-1, b"", None, "binary_data_size -1"),
        (8, b"", "99999", "says 99999"),
        (8, b"", "x", "found 'x'"),
    ],
)
def test_binary_tensors_of_a_wrong_size_are_refused(
    worker: Worker, size: int, content: bytes, length: str | None, text: str
) -> None:
    body = changed(hour={"parameters": {"binary_data_size": size}})
    del body["inputs"][2]["data"]
    head = json.dumps(body).encode()

    status, answer = ask(
        worker, head + content, inference_header_content_length=length or str(len(head))
    )

    assert status == 400
    assert text in answer["error"]


def test_other_endpoints_versions_paths_and_methods_are_not_found(worker: Worker) -> None:
    cases = [
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v2/models/delay/versions/9", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/v2/models/%ff", 404),
        ("POST", "/p/other/v2/models/delay/infer", 404),
        ("GET", "/nothing", 404),
        ("GET", "/", 404),
        ("GET", "*", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2", 405),
    ]

    for method, path, status in cases:
        found, answer = ask(worker, flight(), path, method)
        assert (method, path, found) == (method, path, status)
        assert list(answer) == ["error"]


def test_other_projects_are_served_below_their_name(world: World) -> None:
    digest = world.model(constant(0.5))
    world.home.blobs("other").parent.mkdir(parents=True)
    world.home.blobs("other").symlink_to(world.home.blobs("default").resolve())
    world.publish(2, live(digest), project="other")
    worker = Worker(world.home, Config(), "w1")

    assert ask(worker, flight(), "/p/other/v2/models/delay/infer")[0] == 200
    assert ask(worker, flight())[0] == 404


def test_an_endpoint_none_of_whose_versions_loads_is_unavailable(world: World) -> None:
    world.publish(2, live(world.model(constant(0.5), golden=0.9)))
    worker = Worker(world.home, Config(), "w1")

    status, answer = ask(worker, flight())
    ready, _ = ask(worker, b"", "/ready", "GET")

    assert (status, ready) == (503, 503)
    assert "golden row" in answer["error"]
    assert ask(worker, b"", "/v2/models/delay/ready", "GET")[0] == 503


def test_a_repeat_without_key_and_time_gets_its_first_answer(world: World, worker: Worker) -> None:
    first = ask(worker, many(2, id="r"))
    again = ask(worker, many(2, id="r"))
    status, answer = ask(worker, many(3, id="r"))

    assert first == again
    assert len(world.blocks()) == 1
    assert (status, "other rows" in answer["error"]) == (400, True)


def test_a_repeat_under_another_endpoint_is_another_request(world: World) -> None:
    digest = world.model(constant(0.5))
    world.publish(2, Arm("1", digest, "live", 1.0), endpoint="other")
    worker = Worker(world.home, Config(), "w1")

    first = ask(worker, {**flight(), "id": "r"}, "/v2/models/other/infer")[1]
    world.publish(3, Arm("1", digest, "live", 1.0))
    second = ask(worker, {**flight(), "id": "r"})[1]

    assert first["parameters"]["prediction_id"] != second["parameters"]["prediction_id"]
