"""Facts as a stream: in order, from where the reader stopped, and ended cleanly."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from mainspring.server import events

if TYPE_CHECKING:
    from tests.server.conftest import Serve, Served

PATH = "/api/v1/events/stream"


class Reader:
    """A reader of server-sent events."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.answer = answer

    def block(self) -> dict[str, str]:
        """Read up to the next empty line; nothing at the end of the stream."""
        found = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(":")
            found[name] = value.strip()
        return found

    def facts(self, number: int) -> list[dict[str, Any]]:
        """Read so many facts."""
        read: list[dict[str, Any]] = []
        while len(read) < number:
            block = self.block()
            if "data" in block:
                read.append({**block, "fact": json.loads(block["data"])})
        return read


@contextmanager
def stream(served: "Served", query: str = "", **headers: str) -> Iterator[Reader]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request(
        "GET", PATH + query, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.headers["content-type"].startswith("text/event-stream")
    try:
        yield Reader(answer)
    finally:
        answer.close()
        connection.close()


def grant(served: "Served", *names: str, project: str = "default") -> None:
    for name in names:
        served.platform.access(project).grant(name, "viewer", actor="local")


def test_facts_come_in_order_those_there_and_those_to_come(fresh: "Served") -> None:
    grant(fresh, "a", "b")

    with stream(fresh, "?after=1") as reader:
        there = reader.facts(2)
        grant(fresh, "c")
        come = reader.facts(1)

    assert [one["id"] for one in there + come] == ["2", "3", "4"]
    assert {one["event"] for one in there} == {"Granted"}
    listed = fresh.ask("GET", "/api/v1/event/list?after=1").json["facts"]
    assert [one["fact"] for one in there + come] == listed


def test_a_reader_goes_on_where_it_stopped(fresh: "Served") -> None:
    grant(fresh, "a", "b", "c")

    with stream(fresh, "?after=0", Last_Event_ID="3") as reader:
        assert reader.facts(1)[0]["id"] == "4"


def test_a_stream_holds_one_subject_and_one_project(fresh: "Served") -> None:
    grant(fresh, "a", "b")
    grant(fresh, "z", project="other")

    with stream(fresh, "?subject=actor/b") as mine:
        assert mine.facts(1)[0]["fact"]["subject"] == "default/actor/b"
        grant(fresh, "a", "b", "a")
        assert mine.facts(1)[0]["fact"]["subject"] == "default/actor/b"
    with stream(fresh, "?project=other") as theirs:
        assert theirs.facts(1)[0]["fact"]["subject"] == "other/actor/z"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?after=x", {}), ("?after=-1", {}), ("?more=1", {}), ("?subject=a/b/c", {}),
        ("", {"Last-Event-ID": "x"}), ("", {"Last-Event-ID": "9" * 30}),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_the_stream_begins(
    fresh: "Served", query: str, headers: dict[str, str]
) -> None:
    answer = fresh.ask("GET", PATH + query, headers=headers)

    assert (answer.status, answer.code) == (400, "invalid_input")


def test_a_head_of_a_stream_ends(fresh: "Served") -> None:
    answer = fresh.ask("HEAD", PATH)

    assert (answer.status, answer.content) == (200, b"")


def test_a_quiet_stream_shows_that_it_lives(
    fresh: "Served", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)

    with stream(fresh, "?after=9") as reader:
        blocks = [reader.block() for _ in range(3)]

    assert blocks[1] == blocks[2] == {"": "still here"}


def test_a_stream_ends_when_its_token_is_revoked(
    serve: "Serve", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    served = serve()
    served.token("ann", "admin")
    secret = served.token("vic", "viewer")

    with stream(served, "?after=99", Authorization=f"Bearer {secret}") as reader:
        reader.block()
        served.platform.access("default").revoke("vic", actor="local")
        blocks = list(iter(reader.block, {}))

    assert blocks[-1]["event"] == "error"
    assert json.loads(blocks[-1]["data"])["code"] == "not_authenticated"


def test_a_drain_ends_the_streams(fresh: "Served") -> None:
    with stream(fresh) as reader:
        reader.facts(1)
        stopping = threading.Thread(target=fresh.stop)
        stopping.start()
        rest = list(iter(reader.block, {}))
        stopping.join()

    assert rest == []


def test_there_are_so_many_streams_and_no_more(
    fresh: "Served", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_AT_MOST", 2)

    with stream(fresh) as first, stream(fresh) as second:
        first.facts(1)
        second.facts(1)
        third = fresh.ask("GET", PATH)

    assert (third.status, third.code) == (503, "unavailable")
    assert third.headers["retry-after"] == "1"


def test_a_reader_that_went_away_makes_room(
    fresh: "Served", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_AT_MOST", 1)
    with stream(fresh) as reader:
        reader.facts(1)
        sock = reader.answer.fp.raw._sock  # type: ignore[attr-defined]
        sock.shutdown(socket.SHUT_RDWR)

    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", fresh.port, timeout=10)
        connection.request("GET", PATH)
        answer = connection.getresponse()
        status = answer.status
        answer.close()
        connection.close()
        if status == 200:
            break
        threading.Event().wait(0.05)
    assert status == 200
