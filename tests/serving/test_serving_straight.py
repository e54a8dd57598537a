"""Plain rows are answered straight through, with the outcome of the long way."""

import json
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.serving_process import Json, tensor
from tests.serving.serving_world import ROLLOUT, World, canary, live, passing_on

from mainspring.core.config import Config
from mainspring.formats.frame import frames
from mainspring.formats.model import Column
from mainspring.formats.routes import Arm, RouteTable, publish
from mainspring.formats.segment import ArmOutput, Block, decode_block, encode_block, segments
from mainspring.serving.http import Request
from mainspring.serving.worker import Worker

COLUMNS = (Column("distance", "float"), Column("hour", "float"))
LONG_WAY = {"outputs": [{"name": "score"}]}
KINDS = ("live", "canary", "rollout", "pinned", "shadow")


@st.composite
def bodies(draw: st.DrawFn) -> Json:
    """One row of numbers, mostly as it should be."""
    number = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)
    odd = st.sampled_from([None, 1e39, 2**70, "x", True])
    values = [draw(number if draw(st.integers(0, 9)) else odd) for _ in COLUMNS]
    inputs = [
        tensor(column.name, "FP64", [value]) for column, value in zip(COLUMNS, values, strict=True)
    ]
    if not draw(st.integers(0, 3)):
        inputs.reverse()
    body: Json = {"inputs": inputs, "parameters": {"key": draw(st.text("abcé", min_size=1))}}
    if draw(st.booleans()):
        body["parameters"]["event_time"] = "2013-04-01T00:30:00Z"
    return body


def served(root: Path, kind: str) -> World:
    world = World(root)
    first = world.model(passing_on("distance"), golden=1.0)
    second = world.model(passing_on("hour"), golden=1.0)
    arms = [live(first, share=0.5)] if kind not in ("live", "shadow") else [live(first)]
    if kind == "shadow":
        arms.insert(0, Arm("2", second, "shadow", 0.0))
    elif kind != "live":
        arms.insert(0, canary(second, 0.5))
    rollout = ROLLOUT if kind == "rollout" else None
    route = msgspec.structs.replace(world.route(*arms, rollout=rollout), request=COLUMNS)
    publish(world.home.routes, RouteTable(1, (route,)))
    return world


def asked(kind: str, body: Json) -> Request:
    version = "/versions/1" if kind == "pinned" else ""
    path = f"/v2/models/delay{version}/infer"
    return Request("POST", path, {"host": "localhost"}, json.dumps(body).encode())


def untimed(block: Block) -> str:
    outputs = {
        version: ArmOutput(o.values, o.failed, o.error, 0, o.timed_out)
        for version, o in block.outputs.items()
    }
    times = [0 if at == block.at_us else at for at in block.event_times_us]
    same = msgspec.structs.replace(
        block, prediction="", at_us=0, queue_us=0, features_us=0, compute_us=0, outputs=outputs,
        event_times_us=[0 if abs(at - block.at_us) < 10**9 else at for at in times],
    )  # fmt: skip
    return repr(same)


def outcome(worker: Worker, world: World, requests: Sequence[Request]) -> Any:
    answers = []
    # There is no event loop here to ask the shadows later.
    worker._shadows_asked = True
    responses = worker.app.answer(requests)
    worker.engine.score_shadows()
    for response in responses:
        body = json.loads(response.body)
        body.get("parameters", {}).pop("prediction_id", None)
        answers.append((response.status, body))
    blocks = sorted(untimed(block) for block in world.blocks())
    versions = {name: (t.rows, t.requests) for name, t in worker.engine.tally.by_version.items()}
    state = worker.state()
    latencies = {name: sum(latency.counts) for name, latency in state.latency.items()}
    return answers, blocks, versions, (state.requests, state.rows, state.refused), latencies


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=st.sampled_from(KINDS), turn=st.lists(bodies(), min_size=1, max_size=8))
def test_rows_get_the_same_straight_and_the_long_way(
    tmp_path_factory: pytest.TempPathFactory, kind: str, turn: list[Json]
) -> None:
    found = []
    for more in ({}, LONG_WAY):
        world = served(tmp_path_factory.mktemp("home"), kind)
        worker = Worker(world.home, Config(), "w1")
        requests = [asked(kind, {**body, **more}) for body in turn]
        found.append(outcome(worker, world, requests))
        worker.engine.close()
    assert found[0] == found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_made_straight_has_the_bytes_of_its_block(tmp_path: Path, kind: str) -> None:
    world = served(tmp_path, kind)
    worker = Worker(world.home, Config(), "w1")
    inputs = [tensor("distance", "FP64", [1.5]), tensor("hour", "FP64", [3])]
    worker._shadows_asked = True
    keys = ["a", "b" * 40, "é" * 300, "d"]
    turn = [asked(kind, {"inputs": inputs, "parameters": {"key": key}}) for key in keys]
    assert [response.status for response in worker.app.answer(turn)] == [200] * 4
    worker.engine.close()
    payloads = [
        bytes(payload)
        for file in segments(world.home.segments)
        for payload, _ in frames(file.path.read_bytes())
    ]
    assert [encode_block(decode_block(one)) for one in payloads] == payloads
    shadows: list[list[str]] = [[]] * 4 if kind == "shadow" else []
    assert [decode_block(one).keys for one in payloads] == [[key] for key in keys] + shadows


def test_rows_that_the_disk_refuses_are_counted_by_the_next_record(
    tmp_path: Path,
) -> None:
    world = served(tmp_path, "live")
    worker = Worker(world.home, Config(), "w1")
    inputs = [tensor("distance", "FP64", [1.5]), tensor("hour", "FP64", [3])]
    turn = [asked("live", {"inputs": inputs})] * 3
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    worker.app.answer(turn)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # A limit of the file's size refuses as a full disk does.
        (segment,) = segments(world.home.segments)
        resource.setrlimit(resource.RLIMIT_FSIZE, (segment.path.stat().st_size, limit[1]))
        assert [response.status for response in worker.app.answer(turn)] == [200] * 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert worker.engine.status().rows_missing == 3
    worker.app.answer(turn)
    worker.engine.close()
    assert [block.missing_before for block in world.blocks()] == [0, 0, 0, 3, 0, 0]
    assert np.all([block.columns["hour"] == [3.0] for block in world.blocks()])


def test_what_waited_longer_than_its_caller_does_is_not_scored(tmp_path: Path) -> None:
    world = served(tmp_path, "live")
    worker = Worker(world.home, Config(), "w1")
    inputs = [tensor("distance", "FP64", [1.5]), tensor("hour", "FP64", [3])]

    def status(timeout: object, header: str | None, waited_s: float) -> int:
        body = {"inputs": inputs, "parameters": {"timeout": timeout}}
        request = asked("live", body)
        headers = {
            **request.headers,
            **({} if header is None else {"x-request-timeout-us": header}),
        }
        came_s = time.monotonic() - waited_s
        late = msgspec.structs.replace(request, headers=headers, came_s=came_s)
        return worker.app(late).status

    assert status(2_000_000, None, 1.0) == status(None, "2000000", 1.0) == 200
    assert status(900_000, None, 1.0) == status(None, "900000", 1.0) == 504
    assert status(9_000_000, "900000", 1.0) == status(900_000, "9000000", 1.0) == 504
    assert status(-1, None, 0.0) == status("1", None, 0.0) == status(True, None, 0.0) == 400
    assert status(None, "soon", 0.0) == 400
    worker.engine.close()
    assert len(world.blocks()) == 2
