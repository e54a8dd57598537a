"""The V2 protocol over gRPC: clients that we did not write, and peers that break the rules."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as rest
from ngh2 import Connection, ResponseReceived, Role
from tests.serving.serving_process import Workers
from tests.serving.serving_world import World, canary, constant, failing_at, live
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from mainspring.formats.model import Column

AT = "2013-04-01T00:30:00Z"
SERVICE = "/inference.GRPCInferenceService/"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("home"))
    first, second = world.model(failing_at("EWR")), world.model(constant(0.25), golden=0.25)
    world.publish(1, canary(second, share=0.5), live(first, share=0.5))
    return world


@pytest.fixture(scope="module")
def workers(world: World) -> Iterator[Workers]:
    found = Workers(world.home)
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture
def client(workers: Workers) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{workers.grpc_port}") as found:
        yield found


def columns(*origins: str, keys: tuple[str, ...] = ()) -> dict[str, np.ndarray[Any, Any]]:
    count = len(origins)
    found: dict[str, np.ndarray[Any, Any]] = {
        "origin": np.array(origins, object),
        "distance": np.linspace(1.0, 2.0, count),
        "hour": np.arange(count, dtype=np.int64),
    }
    if keys:
        found["__key__"] = np.array(keys, object)
        found["__event_time__"] = np.array([AT] * count, object)
    return found


def inputs_of(kind: Any, values: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
    inputs = []
    for name, array in values.items():
        one = kind.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        one.set_data_from_numpy(array)
        inputs.append(one)
    return inputs


def test_tritonclient_asks_how_the_server_and_its_models_are(
    client: triton.InferenceServerClient,
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("delay")
    assert client.is_model_ready("delay", "2")
    assert client.get_server_metadata().name == "mainspring"
    found = client.get_model_metadata("delay")
    assert list(found.versions) == ["2", "1"]
    assert {one.name: one.datatype for one in found.inputs}["distance"] == "FP64"
    index = client.get_model_repository_index().models
    assert {(one.name, one.version, one.state) for one in index} == {
        ("delay", "1", "READY"),
        ("delay", "2", "READY"),
    }
    client.load_model("delay")
    with pytest.raises(InferenceServerException, match="decided by its routes"):
        client.unload_model("delay")


def test_every_answer_is_that_of_rest(
    client: triton.InferenceServerClient, workers: Workers
) -> None:
    keys = tuple(f"f{i}" for i in range(30))
    values = columns(*["JFK"] * 30, keys=keys)
    names = ["score", "version", "arm"]

    called = client.infer(
        "delay",
        inputs_of(triton, values),
        request_id="one",
        outputs=[triton.InferRequestedOutput(name) for name in names],
    )
    with rest.InferenceServerClient(f"127.0.0.1:{workers.port}") as other:
        asked = other.infer(
            "delay",
            inputs_of(rest, values),
            outputs=[rest.InferRequestedOutput(name) for name in names],
        )

    for name in names:
        assert called.as_numpy(name).tolist() == asked.as_numpy(name).tolist()
    assert set(called.as_numpy("version").tolist()) == {b"1", b"2"}
    assert called.get_response().id == "one"


def test_one_row_names_prediction_version_and_arm_in_both_forms(
    client: triton.InferenceServerClient, workers: Workers
) -> None:
    answer = client.infer("delay", inputs_of(triton, columns("JFK")), model_version="2")
    told = answer.get_response()

    request = service_pb2.ModelInferRequest(model_name="delay", model_version="1", id="typed")
    request.parameters["key"].string_param = "f1"
    request.parameters["event_time"].string_param = AT
    for name, datatype, place, value in (
        ("origin", "BYTES", "bytes_contents", b"JFK"),
        ("distance", "FP32", "fp32_contents", float("nan")),
        ("hour", "INT32", "int_contents", 3),
    ):
        one = request.inputs.add(name=name, datatype=datatype, shape=[1, 1])
        getattr(one.contents, place).append(value)
    with grpc.insecure_channel(f"127.0.0.1:{workers.grpc_port}") as channel:
        typed = plain(channel)(request)

    assert answer.as_numpy("score").tolist() == [0.25]
    assert told.parameters["version"].string_param == "2"
    assert told.parameters["arm"].string_param == "canary"
    assert len(told.parameters["prediction_id"].string_param) == 32
    assert (typed.id, typed.model_version) == ("typed", "1")
    assert list(typed.outputs[0].contents.fp64_contents) == [0.5]
    assert not typed.raw_output_contents


def plain(channel: grpc.Channel, method: str = "ModelInfer") -> Any:
    return channel.unary_unary(
        SERVICE + method,
        request_serializer=lambda one: one if isinstance(one, bytes) else one.SerializeToString(),
        response_deserializer=getattr(service_pb2, f"{method}Response").FromString,
    )


def test_rows_of_numbers_alone_go_the_short_way_with_the_same_answer(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))), request=(Column("hour", "float"),))
    found = Workers(world.home)
    try:
        found.start()
        with triton.InferenceServerClient(f"127.0.0.1:{found.grpc_port}") as client:
            answers = [
                client.infer("delay", inputs_of(triton, {"hour": np.array([value])}))
                for value in (1.0, 2.0)
            ]
            with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT"):
                client.infer("delay", inputs_of(triton, {"hour": np.array([float("inf")])}))
            stats = client.get_inference_statistics("delay").model_stats
    finally:
        found.close()

    blocks = world.blocks()
    told = [one.get_response().parameters["prediction_id"].string_param for one in answers]
    assert [one.prediction for one in blocks] == told
    assert [one.as_numpy("score").tolist() for one in answers] == [[0.5], [0.5]]
    assert stats[0].inference_count == 2


WRONG = [
    ("none", columns("JFK"), "", "StatusCode.NOT_FOUND", "none"),
    ("delay", columns("JFK"), "9", "StatusCode.NOT_FOUND", "version '9'"),
    ("delay", {"origin": np.array(["JFK"], object)}, "", "INVALID_ARGUMENT", "missing"),
    ("delay", {**columns("JFK"), "tail": np.array([1.0])}, "", "INVALID_ARGUMENT", "'tail'"),
    ("delay", {**columns("JFK"), "hour": np.array([1, 2])}, "", "INVALID_ARGUMENT", "rows"),
    ("delay", {**columns("JFK"), "origin": np.array([1.0])}, "", "INVALID_ARGUMENT", "datatype"),
    ("delay", columns("EWR"), "1", "StatusCode.INTERNAL", "no version could score it"),
]


@pytest.mark.parametrize(("model", "values", "version", "code", "told"), WRONG)
def test_what_is_wrong_is_told_with_its_code(
    client: triton.InferenceServerClient,
    model: str,
    values: dict[str, Any],
    version: str,
    code: str,
    told: str,
) -> None:
    with pytest.raises(InferenceServerException, match=told) as raised:
        client.infer(model, inputs_of(triton, values), model_version=version)

    assert code in str(raised.value.status())


def test_a_row_that_fails_leaves_its_neighbours_their_answers(
    client: triton.InferenceServerClient,
) -> None:
    answer = client.infer(
        "delay", inputs_of(triton, columns("JFK", "EWR", "LGA")), model_version="1"
    )

    assert np.isnan(answer.as_numpy("score")).tolist() == [False, True, False]
    assert answer.get_response().parameters["failed_rows"].string_param == "1"


def test_a_thousand_calls_at_once_are_each_answered(workers: Workers) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{workers.grpc_port}") as channel:
        call = plain(channel)
        requests = []
        for number in range(1000):
            request = service_pb2.ModelInferRequest(model_name="delay", id=f"r{number}")
            for one in inputs_of(triton, columns("JFK")):
                request.inputs.append(one._get_tensor())
                request.raw_input_contents.append(one._get_content())
            requests.append(request)
        futures = [call.future(request) for request in requests]
        answers = [future.result(timeout=30) for future in futures]

    assert [one.id for one in answers] == [f"r{number}" for number in range(1000)]
    ids = {one.parameters["prediction_id"].string_param for one in answers}
    assert len(ids) == 1000


def test_a_repeat_gets_its_first_answer(client: triton.InferenceServerClient) -> None:
    values = columns("JFK", keys=("again",))
    first, second = (
        client.infer("delay", inputs_of(triton, values), request_id="same").get_response()
        for _ in range(2)
    )

    assert first.parameters["prediction_id"] == second.parameters["prediction_id"]


def head(authority: bytes = b"localhost") -> list[tuple[bytes, bytes]]:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", SERVICE.encode() + b"ModelInfer"),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
    ]


def trailers(
    workers: Workers, *more: tuple[bytes, bytes], authority: bytes = b"localhost"
) -> dict[bytes, bytes]:
    """Call with an empty message and give what the head of the answer says."""
    http = Connection(Role.CLIENT)
    http.initiate_connection()
    stream = http.send_request([*head(authority), *more])
    http.send_data(stream, bytes(5), end_stream=True)
    with socket.create_connection(("127.0.0.1", workers.grpc_port), timeout=10) as peer:
        while True:
            peer.sendall(http.data_to_send())
            http.receive_data(peer.recv(1 << 16))
            for event in http.events():
                if isinstance(event, ResponseReceived):
                    return dict(event.headers)


def test_the_door_is_that_of_rest(workers: Workers) -> None:
    elsewhere = trailers(workers, authority=b"elsewhere.example")
    page = trailers(workers, (b"origin", b"http://elsewhere.example"))
    token = trailers(workers, (b"authorization", b"Bearer nobody's"))

    assert [one[b"grpc-status"] for one in (elsewhere, page, token)] == [b"7", b"7", b"16"]


def test_calls_that_are_cancelled_or_too_late_are_no_trouble(workers: Workers) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{workers.grpc_port}") as channel:
        call = plain(channel)
        request = service_pb2.ModelInferRequest(model_name="delay")
        for one in inputs_of(triton, columns("JFK")):
            request.inputs.append(one._get_tensor())
            request.raw_input_contents.append(one._get_content())
        for _ in range(50):
            call.future(request).cancel()
        assert call(request, timeout=10).model_name == "delay"
    told = trailers(workers, (b"grpc-timeout", b"1n"))

    assert told[b"grpc-status"] == b"4"


def test_messages_are_compressed_and_bounded(workers: Workers) -> None:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{workers.grpc_port}", options) as channel:
        call = plain(channel)
        request = service_pb2.ModelInferRequest(model_name="delay")
        for one in inputs_of(triton, columns(*["JFK"] * 2000)):
            request.inputs.append(one._get_tensor())
            request.raw_input_contents.append(one._get_content())
        assert call(request, compression=grpc.Compression.Gzip).model_name == "delay"
        with pytest.raises(grpc.RpcError) as deflated:
            call(request, compression=grpc.Compression.Deflate)
        with pytest.raises(grpc.RpcError) as large:
            call(b"\0" * (65 << 20))
        with pytest.raises(grpc.RpcError) as garbage:
            call(b"\xff\xff\xff")
        with pytest.raises(grpc.RpcError) as unknown:
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"")

    assert deflated.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert large.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert garbage.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED


BROKEN = [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + b"\x00" * 4,
    os.urandom(500),
    b"",
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_who_does_not_speak_it_is_let_go_and_others_go_on(
    workers: Workers, client: triton.InferenceServerClient, content: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", workers.grpc_port), timeout=10) as peer:
        peer.sendall(content)
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 16):
            pass

    assert client.is_server_live()


def test_streams_opened_and_reset_without_end_cost_little(workers: Workers) -> None:
    http = Connection(Role.CLIENT)
    http.initiate_connection()
    with socket.create_connection(("127.0.0.1", workers.grpc_port), timeout=10) as peer:
        for _ in range(3000):
            stream = http.send_request(head())
            http.reset_stream(stream)
        with suppress(OSError):  # such a peer may be let go at any time
            peer.sendall(http.data_to_send())
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(1 << 16):
                pass

    with triton.InferenceServerClient(f"127.0.0.1:{workers.grpc_port}") as client:
        assert client.is_server_live()


def test_a_drain_ends_what_is_begun_and_takes_nothing_new(world: World) -> None:
    found = Workers(world.home)
    try:
        child = found.start("w9")
        stopping = threading.Event()
        done: list[str] = []
        failed: list[grpc.StatusCode] = []

        def ask() -> None:
            with grpc.insecure_channel(f"127.0.0.1:{found.grpc_port}") as channel:
                call = plain(channel)
                request = service_pb2.ModelInferRequest(model_name="delay")
                for one in inputs_of(triton, columns("JFK")):
                    request.inputs.append(one._get_tensor())
                    request.raw_input_contents.append(one._get_content())
                while not stopping.is_set():
                    try:
                        done.append(call(request, timeout=2).model_name)
                    except grpc.RpcError as error:
                        failed.append(error.code())
                        return

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            while len(done) < 50:
                time.sleep(0.01)
            code = child.drain()
            stopping.set()
            for one in asking:
                one.result(timeout=20)
    finally:
        found.close()

    assert code == 0
    # What was not begun finds nobody else here, so it waits; nothing that was begun fails.
    assert set(failed) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
