"""Small requests go a quick way; what they are answered is what the long way answers."""

import http.client
import json
import re
import socket
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow_face import Face, Served

from mainspring.access.permissions import Role

PATH = "/api/2.0/mlflow/runs/"


def new_run(face: Face) -> str:
    made = face.post("runs/create", {"experiment_id": "0", "start_time": 1}).json
    return str(made["run"]["info"]["run_id"])


def metric(run: str, step: int = 0, **more: Any) -> dict[str, Any]:
    return {"run_id": run, "key": "loss", "value": 0.5, "timestamp": 1, "step": step, **more}


def wired(face: Face, path: str, body: bytes, *, chunked: bool = False, head: str = "") -> bytes:
    """Write a request; a body in chunks goes the long way."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    if chunked:
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    lines = f"POST {face.prefix}{PATH}{path} HTTP/1.1\r\n{head or 'Host: localhost'}\r\n{framing}"
    return lines.encode() + b"\r\n\r\n" + body


def answers(face: Face, content: bytes, count: int, *, split: int = 0) -> list[tuple[int, bytes]]:
    """Send bytes, in two pieces where asked, and read so many answers."""
    found = []
    with socket.create_connection(("127.0.0.1", face.port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if split:
            connection.sendall(content[:split])
            time.sleep(0.002)
        connection.sendall(content[split:])
        stream = connection.makefile("rb")
        for _ in range(count):
            head = b"".join(iter(stream.readline, b"\r\n"))
            size = re.search(rb"content-length: (\d+)", head)
            assert size is not None, head
            found.append((int(head.split()[1]), stream.read(int(size[1]))))
    return found


BODIES: list[tuple[str, bytes]] = [
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": 1, "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": NaN, "timestamp": "1"}'),
    ("log-metric", b'{"runId": "RUN", "key": "m", "value": "Infinity", "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": "x", "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "", "value": 1, "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": 1, "timestamp": -1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": 1, "timestamp": 1, "step": 1.5}'),
    ("log-metric", b'{"run_id": "RUN", "key": "../m", "value": 1, "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "LONG", "value": 1, "timestamp": 1}'),
    ("log-metric", b'{"run_id": "RUN", "key": "m", "value": 1, "timestamp": 9223372036854775808}'),
    ("log-metric", b'{"run_id": "absent", "key": "m", "value": 1, "timestamp": 1}'),
    ("log-metric", b'{"key": "m", "value": 1, "timestamp": 1}'),
    ("log-metric", b"[1]"),
    ("log-metric", b'{"run_id": "RUN", '),
    ("log-metric", b"\xff\xfe"),
    ("log-metric", b""),
    ("log-parameter", b'{"run_id": "RUN", "key": "p", "value": "1"}'),
    ("log-parameter", b'{"run_id": "RUN", "key": "p", "value": "2"}'),
    ("log-parameter", b'{"run_id": "RUN", "key": "LONG", "value": "2"}'),
    ("set-tag", b'{"run_id": "RUN", "key": "t", "value": "x"}'),
    ("set-tag", b'{"run_id": "RUN", "key": "a/../b", "value": "x"}'),
    ("log-batch", b'{"run_id": "RUN", "metrics": [{"key": "m", "value": 1, "timestamp": -2}]}'),
    ("log-batch", b'{"run_id": "RUN", "params": [{"key": "q", "value": "1"}, {"key": "q"}]}'),
    ("log-batch", b'{"run_id": "RUN", "params": [{"key": "p", "value": "9"}], "metrics": [M]}'),
    ("log-batch", b'{"run_id": "RUN"}'),
]


@pytest.mark.parametrize(("path", "body"), BODIES, ids=lambda one: str(one)[:60])
def test_both_ways_answer_the_same(face: Face, path: str, body: bytes) -> None:
    run = new_run(face)
    face.post("runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})
    point = b'{"key": "m", "value": 1, "timestamp": 1}'
    for short, meant in ((b"RUN", run.encode()), (b"LONG", b"k" * 10_000), (b"M]", point + b"]")):
        body = body.replace(short, meant)

    (quick,) = answers(face, wired(face, path, body), 1)
    (long,) = answers(face, wired(face, path, body, chunked=True), 1)

    assert quick == long


CREATES = [
    b'{"experiment_id": "0", "start_time": 5, "run_name": "one", "user_id": "u"}',
    b'{"experiment_id": "0", "start_time": 5, "tags": [{"key": "mlflow.runName", "value": "two"}]}',
    b'{"experiment_id": "0", "start_time": "5", "run_name": "a", "tags": [{"key": "mlflow.runName",'
    b' "value": "b"}]}',
    b'{"start_time": 5, "runName": "three", "tags": [{"key": "z", "value": "1"}, {"key": "a"}]}',
    b'{"experiment_id": "99", "start_time": 5}',
    b'{"experiment_id": "GONE", "start_time": 5, "run_name": "four"}',
    b'{"experiment_id": "0", "start_time": -5, "run_name": "five"}',
    b'{"experiment_id": "0", "run_name": "six", "start_time": 5, "tags": [{"key": ""}]}',
    b'{"experiment_id": 7, "start_time": "x"}',
    b"[]",
]


@pytest.mark.parametrize("body", CREATES, ids=lambda one: str(one)[:60])
def test_both_ways_begin_the_same_run(face: Face, body: bytes) -> None:
    gone = face.post("experiments/create", {"name": "gone"}).json["experiment_id"]
    face.post("experiments/delete", {"experiment_id": gone})
    body = body.replace(b"GONE", gone.encode())

    found = []
    for chunked in (False, True):
        ((status, told),) = answers(face, wired(face, "create", body, chunked=chunked), 1)
        run = json.loads(told).get("run")
        if run is not None:
            identity = run["info"]["run_id"]
            assert face.get("runs/get", run_id=identity).json["run"] == run
            told = told.replace(identity.encode(), b"RUN")
        found.append((status, told))

    assert found[0] == found[1]


@pytest.mark.parametrize(
    "head",
    [
        "Host: elsewhere.example",
        "Host: localhost\r\nHost: localhost",
        "Host: localhost\r\nOrigin: http://elsewhere.example",
        "Host: localhost\r\nAuthorization: Bearer nobody's",
        "Host: localhost\r\nAuthorization: Negotiate x",
        "Host: localhost\r\nX-Forwarded-For: 10.0.0.1",
    ],
)
def test_the_door_is_the_same_for_both_ways(face: Face, head: str) -> None:
    body = json.dumps(metric(new_run(face))).encode()

    (quick,) = answers(face, wired(face, "log-metric", body, head=head), 1)
    (long,) = answers(face, wired(face, "log-metric", body, head=head, chunked=True), 1)

    assert quick == long
    assert quick[0] != 200


def test_a_refused_batch_has_written_nothing(face: Face) -> None:
    run = new_run(face)
    face.post("runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})

    answered = face.post(
        "runs/log-batch",
        {
            "run_id": run,
            "metrics": [{"key": "m", "value": 1, "timestamp": 1}],
            "params": [{"key": "fresh", "value": "1"}, {"key": "p", "value": "2"}],
            "tags": [{"key": "t", "value": "1"}],
        },
    )

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    data = face.get("runs/get", run_id=run).json["run"]["data"]
    assert "metrics" not in data
    assert data["params"] == [{"key": "p", "value": "1"}]
    assert "t" not in {tag["key"] for tag in data["tags"]}


def test_requests_sent_ahead_are_answered_in_their_order(face: Face) -> None:
    run = new_run(face)
    wrong = json.dumps(metric("absent")).encode()
    content = b""
    for step in range(20):
        body = json.dumps(metric(run, step)).encode()
        content += wired(face, "log-metric", body, chunked=step % 3 == 1)
        content += wired(face, "log-metric", wrong, chunked=step % 3 == 2)

    found = answers(face, content, 40)

    assert [status for status, _ in found] == [200, 404] * 20
    points = face.get("metrics/get-history", run_id=run, metric_key="loss").json["metrics"]
    assert [point.get("step", 0) for point in points] == list(range(20))


def test_a_request_may_come_in_any_two_pieces(face: Face) -> None:
    run = new_run(face)
    content = wired(face, "log-metric", json.dumps(metric(run)).encode())

    for split in range(1, len(content), 7):
        assert answers(face, content, 1, split=split) == [(200, b"{}")]


def test_a_body_that_takes_its_time_is_waited_for(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainspring.server.quick.BODY_PATIENCE_S", 0.05)
    content = wired(face, "log-metric", json.dumps(metric(new_run(face))).encode())

    with socket.create_connection(("127.0.0.1", face.port), timeout=20) as connection:
        for piece in (content[:-20], content[-20:-10], content[-10:]):
            connection.sendall(piece)
            time.sleep(0.15)
        answered = connection.recv(1 << 16)

    assert answered.startswith(b"HTTP/1.1 200 ")


def test_a_caller_who_goes_away_is_no_trouble(face: Face) -> None:
    run = new_run(face)
    content = wired(face, "log-metric", json.dumps(metric(run)).encode())

    for cut in (len(content), len(content) - 5):
        with socket.create_connection(("127.0.0.1", face.port), timeout=20) as connection:
            connection.sendall(content[:cut])

    assert face.post("runs/log-metric", metric(run, 1)).status == 200


def test_a_connection_that_is_to_end_ends(face: Face) -> None:
    body = json.dumps(metric(new_run(face))).encode()
    content = wired(face, "log-metric", body, head="Host: localhost\r\nConnection: close")

    with socket.create_connection(("127.0.0.1", face.port), timeout=20) as connection:
        connection.sendall(content)
        answered = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert b"\r\nconnection: close\r\n" in answered
    assert answered.endswith(b"\r\n\r\n{}")


def test_a_token_that_is_taken_away_is_refused_on_a_connection_that_used_it(
    tmp_path: Path,
) -> None:
    own = Served(tmp_path / "home")
    with closing(own):
        face = Face(own, "default")
        body = json.dumps(metric(new_run(face))).encode()
        access = face.project.access
        roles: dict[str, Role] = {"boss": "admin", "writer": "editor"}
        secrets = []
        for name, role in roles.items():
            access.grant(name, role, actor="local")
            secrets.append(access.issue(name, actor="local").secret)
        headers = {"Authorization": f"Bearer {secrets[1]}"}

        with closing(http.client.HTTPConnection("127.0.0.1", own.port, timeout=20)) as connection:
            statuses = []
            for turn in range(3):
                if turn == 2:
                    access.revoke("writer", actor="boss")
                connection.request("POST", f"{PATH}log-metric", body, headers)
                answered = connection.getresponse()
                answered.read()
                statuses.append(answered.status)

    assert statuses == [200, 200, 401]


def test_many_writers_at_once_are_each_answered_for_what_they_sent(face: Face) -> None:
    runs = [new_run(face) for _ in range(4)]
    refused: list[int] = []

    def write(writer: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", face.port, timeout=60)) as connection:
            for step in range(25):
                wrong = step % 5 == 4
                body = metric("absent" if wrong else runs[writer % 4], writer * 100 + step)
                connection.request(
                    "POST", f"{face.prefix}{PATH}log-metric", json.dumps(body).encode()
                )
                answered = connection.getresponse()
                answered.read()
                if answered.status != (404 if wrong else 200):
                    refused.append(answered.status)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not refused
    for place, run in enumerate(runs):
        found = face.get("metrics/get-history", run_id=run, metric_key="loss").json["metrics"]
        steps = {point.get("step", 0) for point in found}
        assert steps == {w * 100 + s for w in range(place, 64, 4) for s in range(25) if s % 5 != 4}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    head=st.lists(
        st.sampled_from(
            [
                b"Content-Length: 5",
                b"Content-Length: 0",
                b"Content-Length: +5",
                b"Content-Length: 5, 5",
                b"Transfer-Encoding: chunked",
                b"Transfer-Encoding: identity",
                b"Expect: 100-continue",
                b"Upgrade: h2c\r\nConnection: Upgrade",
                b"Host: localhost",
                b" folded",
                b"Connection: close",
            ]
        ),
        max_size=4,
    ),
    body=st.sampled_from(
        [b"", b"{}", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"\x00" * 40]
    ),
)
def test_no_framing_makes_two_requests_of_one_or_stops_the_server(
    face: Face, head: list[bytes], body: bytes
) -> None:
    smuggled = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lines = [b"POST /api/2.0/mlflow/runs/log-metric HTTP/1.1", *head]

    with socket.create_connection(("127.0.0.1", face.port), timeout=20) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body + smuggled)
        connection.shutdown(socket.SHUT_WR)
        answered = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    # Nothing here is a whole, valid log: no answer says that something was logged.
    assert b"\r\n\r\n{}" not in answered
    assert face.get("experiments/get", experiment_id="0").status == 200
