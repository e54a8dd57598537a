"""Requests of one turn are answered together, with the outcome of one by one."""

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.serving_process import Json, tensor
from tests.serving.serving_world import (
    HOUR,
    ROLLOUT,
    World,
    canary,
    constant,
    failing_at,
    live,
    passing_on,
)

from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.core.ids import Digest
from mainspring.formats.routes import Arm, RouteTable, ViewRef, publish
from mainspring.formats.segment import ArmOutput, Block
from mainspring.serving.connection import Connection
from mainspring.serving.http import Request, Response
from mainspring.serving.worker import Worker

MODELS = {
    "fine": (constant(0.5), 0.5),
    "fails at EWR": (failing_at("EWR", 0.25), 0.25),
    "NaN for NaN": (passing_on("distance"), 1.0),
}
START = "2013-04-01T00:30:00Z"
WEATHER = ViewRef("weather", "origin", 3 * 3600.0, ("wind",))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Digest]]:
    """A home with the models, from which each example takes its own."""
    world = World(tmp_path_factory.mktemp("stored"))
    found = {name: world.model(graph, golden=out) for name, (graph, out) in MODELS.items()}
    writer = world.online("weather", ["wind"])
    at = np.array([1_364_776_200_000_000 - HOUR])
    writer.write(["JFK"], at, at, np.array([[7.0]]))
    writer.close()
    return world, found


_origins = st.sampled_from(["JFK", "EWR", "LGA", None])
_values: dict[str, st.SearchStrategy[Any]] = {
    "good": st.floats(-1e6, 1e6) | st.integers(-1000, 1000) | st.none(),
    "odd": st.sampled_from([None, "x", True, 1e300, 2**70, [1.0]]),
}


@st.composite
def bodies(draw: st.DrawFn) -> Json:
    """One infer request, in four of five cases as it should be."""
    rows = draw(st.sampled_from([1, 1, 1, 1, 2, 5]))
    distances = _values["good"] if draw(st.integers(0, 4)) else _values["odd"]
    inputs = [
        tensor("origin", "BYTES", draw(st.lists(_origins, min_size=rows, max_size=rows))),
        tensor("distance", "FP64", draw(st.lists(distances, min_size=rows, max_size=rows))),
        tensor("hour", draw(st.sampled_from(["INT64", "INT64", "FP64", "INT8"])), [3] * rows),
    ]
    if not draw(st.integers(0, 3)):
        inputs = list(draw(st.permutations(inputs)))
    parameters: Json = {"event_time": START}
    if not draw(st.integers(0, 14)):
        inputs.append(tensor("more", "FP64", [1.0] * rows))
    keys = draw(st.lists(st.text("abc", min_size=1, max_size=3), min_size=rows, max_size=rows))
    if rows == 1:
        parameters["key"] = keys[0]
    else:
        inputs.append(tensor("__key__", "BYTES", keys))
    body: Json = {"parameters": parameters, "inputs": inputs}
    if not draw(st.integers(0, 2)):
        body["id"] = draw(st.sampled_from(["r1", "r2", ""]))
    if not draw(st.integers(0, 4)):
        body["outputs"] = [{"name": "arm"}, {"name": "score"}]
    return body


_paths = st.sampled_from(
    ["/v2/models/delay/infer"] * 6
    + ["/v2/models/other/infer"] * 2
    + [f"/v2/models/delay/versions/{version}/infer" for version in ("1", "2", "9")]
    + ["/v2/models/none/infer", "/v2/models/delay", "/nowhere"]
)


def asked(path: str, body: Json) -> Request:
    method = "POST" if path.endswith("/infer") else "GET"
    return Request(method, path, {"host": "localhost"}, json.dumps(body).encode())


def served(
    stored: tuple[World, dict[str, Digest]], root: Path, canary_is: str, rollout: bool
) -> tuple[World, Worker]:
    source, models = stored
    world = World(root)
    # What both only read is shared.
    world.home.blobs("default").parent.mkdir(parents=True)
    for folder in (Home.blobs, Home.online):
        folder(world.home, "default").symlink_to(folder(source.home, "default").resolve())
    arms = (canary(models[canary_is], 0.5), live(models["fine"], share=0.5))
    shadow = Arm("7", models["fine"], "shadow", 0.0)
    first = world.route(*arms, rollout=ROLLOUT if rollout else None, views=(WEATHER,))
    second = world.route(shadow, live(models["fails at EWR"]), endpoint="other")
    publish(world.home.routes, RouteTable(1, (first, second)))
    return world, Worker(world.home, Config(), "w1")


def plain(response: Response) -> Any:
    """An answer without what differs between two askings."""
    body = json.loads(response.body)
    if "parameters" in body:
        body["parameters"].pop("prediction_id", None)
    return response.status, response.type, response.headers, body


def untimed(block: Block) -> str:
    """A record without ids and times."""
    outputs = {
        version: ArmOutput(o.values, o.failed, o.error, 0, o.timed_out)
        for version, o in block.outputs.items()
    }
    same = msgspec.structs.replace(
        block, prediction="", at_us=0, queue_us=0, features_us=0, compute_us=0, outputs=outputs
    )
    return repr(same)


def counted(worker: Worker) -> Any:
    state = worker.state()
    versions = worker.engine.tally.by_version
    return (
        (state.requests, state.rows, state.failures, state.refused, state.fallbacks),
        (state.failed_rows, state.by_version, state.problems),
        {name: tally.requests for name, tally in versions.items()},
        {name: sum(latency.counts) for name, latency in state.latency.items()},
    )


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    requests=st.lists(st.builds(asked, _paths, bodies()), min_size=1, max_size=12),
    canary_is=st.sampled_from(sorted(MODELS)),
    rollout=st.booleans(),
)
def test_a_turn_has_the_answers_records_and_counts_of_its_requests_one_by_one(
    stored: tuple[World, dict[str, Digest]],
    tmp_path_factory: pytest.TempPathFactory,
    requests: list[Request],
    canary_is: str,
    rollout: bool,
) -> None:
    root = tmp_path_factory.mktemp("turn")
    one_world, one = served(stored, root / "one", canary_is, rollout)
    all_world, all_ = served(stored, root / "all", canary_is, rollout)

    async def answered() -> tuple[list[Response], list[Response]]:
        return [one.app(request) for request in requests], all_.app.answer(requests)

    apart, together = uvloop.run(answered())
    one.engine.score_shadows()
    all_.engine.score_shadows()

    assert [plain(answer) for answer in together] == [plain(answer) for answer in apart]
    assert sorted(map(untimed, all_world.blocks())) == sorted(map(untimed, one_world.blocks()))
    assert counted(all_) == counted(one)
    for worker in (one, all_):
        worker.engine.close()
    shutil.rmtree(root)


class Sink:
    """The other end of a connection; looks at the log whenever an answer is sent."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.answers: list[Json] = []
        self.recorded: set[str] = set()

    def write(self, content: bytes) -> None:
        self.answers.append(json.loads(content.partition(b"\r\n\r\n")[2]))
        self.recorded = {block.prediction for block in self.world.blocks()}

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, **_: int) -> None:
        pass


def sent(worker: Worker, world: World, requests: Sequence[Request]) -> list[Sink]:
    """Have requests come in one turn, each on its connection."""

    async def turn() -> list[Sink]:
        sinks = [Sink(world) for _ in requests]
        for sink, request in zip(sinks, requests, strict=True):
            connection = Connection(worker._door)
            connection.connection_made(cast(asyncio.Transport, sink))
            head = f"POST {request.target} HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Content-Length: {len(request.body)}\r\n\r\n"
            connection.data_received(head.encode() + request.body)
            assert not sink.answers
        await asyncio.sleep(0)
        return sinks

    return uvloop.run(turn())


def good(key: str, origin: str = "JFK") -> Request:
    inputs = [tensor("origin", "BYTES", [origin]), tensor("distance", "FP64", [1.5])]
    inputs.append(tensor("hour", "INT64", [1]))
    body = {"parameters": {"key": key, "event_time": START}, "inputs": inputs}
    return asked("/v2/models/delay/infer", body)


@pytest.fixture
def one_model(tmp_path: Path) -> Iterator[tuple[World, Worker]]:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    worker = Worker(world.home, Config(), "w1")
    yield world, worker
    worker.engine.close()


def test_each_record_is_in_the_log_before_the_first_answer_of_the_turn_is_sent(
    one_model: tuple[World, Worker],
) -> None:
    world, worker = one_model

    sinks = sent(worker, world, [good(f"k{i}") for i in range(8)])

    answered = {sink.answers[0]["parameters"]["prediction_id"] for sink in sinks}
    assert len(answered) == 8
    assert [sink.recorded for sink in sinks] == [answered] * 8


def test_the_requests_of_a_turn_run_the_graph_once_and_write_the_log_once(
    one_model: tuple[World, Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, worker = one_model
    sent(worker, world, [good("first")])
    model = next(iter(worker.engine._shelf.models.values()))
    writer = worker.engine._log._writer
    assert writer is not None
    runs, writes = list[int](), list[int]()
    run, append_all = model.run, writer.append_all

    def counting_run(vectors: Any, rows: Any = None) -> Any:
        runs.append(vectors.count)
        return run(vectors, rows)

    def counting_append(blocks: Any) -> int:
        writes.append(len(blocks))
        return append_all(blocks)

    monkeypatch.setattr(model, "run", counting_run)
    monkeypatch.setattr(writer, "append_all", counting_append)

    sent(worker, world, [good(f"k{i}") for i in range(20)])

    assert (runs, writes) == ([20], [20])


def test_a_table_published_before_a_turn_answers_all_of_it(
    one_model: tuple[World, Worker],
) -> None:
    world, worker = one_model
    sent(worker, world, [good("a")])
    world.publish(2, live(world.model(constant(0.75), golden=0.75), version="2"))

    sinks = sent(worker, world, [good(f"k{i}") for i in range(5)])

    assert [sink.answers[0]["model_version"] for sink in sinks] == ["2"] * 5
    assert {block.routes for block in world.blocks()[1:]} == {2}


def test_a_repeat_in_the_same_turn_gets_the_answer_of_the_first(
    one_model: tuple[World, Worker],
) -> None:
    world, worker = one_model
    body = {**json.loads(good("k").body), "id": "again"}
    other = {**json.loads(good("k", "LGA").body), "id": "again"}
    path = "/v2/models/delay/infer"

    first, again, wrong = worker.app.answer([asked(path, one) for one in (body, body, other)])

    assert first == again
    assert wrong.status == 400
    assert len(world.blocks()) == 1


def test_a_late_batch_is_late_for_each_of_its_requests(
    one_model: tuple[World, Worker],
) -> None:
    world, worker = one_model
    world.publish(2, live(world.model(constant(0.5))), arm_timeout_s=1e-9)

    answers = worker.app.answer([good(f"k{i}") for i in range(3)])

    assert [answer.status for answer in answers] == [200] * 3
    assert [block.outputs["1"].failed for block in world.blocks()] == [[0]] * 3
    assert all(block.outputs["1"].timed_out for block in world.blocks())


def test_an_id_belongs_to_whoever_used_it_first_on_whatever_path(
    stored: tuple[World, dict[str, Digest]], tmp_path: Path
) -> None:
    _, worker = served(stored, tmp_path / "home", "fine", rollout=False)

    def one(distance: float, *, pinned: bool, name: str | None) -> Request:
        path = f"/v2/models/delay{'/versions/1' if pinned else ''}/infer"
        inputs = [
            tensor("origin", "BYTES", ["JFK"]),
            tensor("distance", "FP64", [distance]),
            tensor("hour", "INT64", [3]),
        ]
        parameters = {"event_time": START, "key": "a"}
        return asked(path, {"parameters": parameters, "inputs": inputs, "id": name})

    first, second, third = worker.app.answer(
        [
            one(1.0, pinned=True, name=None),
            one(2.0, pinned=False, name="r1"),
            one(3.0, pinned=True, name="r1"),
        ]
    )

    assert [one.status for one in (first, second, third)] == [200, 200, 400]
    worker.engine.close()
