"""The verbs over a real socket: the same answers, the same errors, and patience in a restart."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pytest

from mainspring.api import access, endpoints, feed, ledger
from mainspring.api.client import Client
from mainspring.api.http import HttpCaller, error_of
from mainspring.cli.starter import rows
from mainspring.core import errors
from mainspring.core.config import Config
from mainspring.core.errors import (
    Misconfigured,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    StaleSubject,
    TimedOut,
    Unavailable,
)
from mainspring.monitoring.labels import Label
from mainspring.server.statuses import INTERNAL, tell

if TYPE_CHECKING:
    from tests.server.conftest import Serve, Served

AT = datetime(2026, 4, 1, tzinfo=UTC)


def plain(answer: object) -> Any:
    """Give an answer as a wire writes it: a list and a tuple are the same there."""
    return msgspec.json.decode(msgspec.json.encode(answer))


def test_a_whole_loop_goes_over_the_wire_and_ends_as_in_memory(
    serve: "Serve", tmp_path: Path
) -> None:
    served = serve()
    rows.write_rows(tmp_path)
    copy(Path(rows.__file__).with_name("project.py"), tmp_path)
    with HttpCaller(served.url) as caller:
        client = served.client(caller)

        assert client.apply(tmp_path / "project.py").changed
        assert not client.apply(tmp_path / "project.py").changed
        for name in ("readings", "stops"):
            committed = client.commit_file(name, tmp_path / f"{name}.csv", token=f"t-{name}:1")
            assert committed == client.commit_file(
                name, tmp_path / f"{name}.csv", token=f"t-{name}:1"
            )
        last = served.local.rows("readings", version=None, limit=3)
        pushed = client.push("readings", _read(last.rows), until=AT, token="push:1")
        advanced = client.advance("stop", AT)
        labels = [Label(arrival=AT, key="k", event_time=AT - timedelta(days=1), value=1.0)]
        labelled = client.label("stop", labels, token="l:1")
        repeated = client.label("stop", labels, token="l:1")

        assert pushed.rows == 3
        assert (advanced.error, advanced.watermark) == (None, AT)
        assert (labelled.repeated, repeated.repeated) == (False, True)
        assert client.verify().ok
        _compare(client, served.local)


def _read(found: tuple[dict[str, Any], ...]) -> pl.DataFrame:
    frame = pl.DataFrame(list(found))
    instants = [name for name in frame.columns if str(found[0][name]).endswith("Z")]
    return frame.with_columns(pl.col(name).str.to_datetime("%+") for name in instants)


def _compare(wire: Client, memory: Client) -> None:
    """Ask both for everything that can be read."""
    run = memory.runs().runs[0].run
    asks: list[Callable[[Client], object]] = [
        lambda client: client.status(),
        lambda client: client.endpoint("stop"),
        lambda client: client.versions("readings"),
        lambda client: client.rows("stops", version=1, limit=5),
        lambda client: client.quarantined("readings", version=None, limit=5),
        lambda client: client.runs(),
        lambda client: client.run(run),
        lambda client: client.events(),
        lambda client: client.events(after=2, limit=1, subject="dataset"),
        lambda client: client.verify(),
    ]
    for ask in asks:
        assert plain(ask(wire)) == plain(ask(memory))
    assert wire.runs() == memory.runs()
    assert wire.status() == memory.status()
    for client in (wire, memory):
        with pytest.raises(NotFound, match="prediction"):
            client.trace("0" * 32)


def test_errors_come_out_as_the_class_they_were(serve: "Serve") -> None:
    served = serve()
    admin, viewer = served.token("ann", "admin"), served.token("vic", "viewer")
    grant = access.Grant(name="x", role="viewer")

    with HttpCaller(served.url, viewer) as caller, pytest.raises(NotPermitted, match="role viewer"):
        caller(access.GRANT, grant)
    with HttpCaller(served.url) as caller, pytest.raises(NotAuthenticated, match="no token given"):
        caller(access.GRANT, grant)
    with HttpCaller(served.url, admin) as caller:
        assert caller(access.GRANT, grant).fact == 5
        with pytest.raises(NotFound, match="endpoint 'none'"):
            caller(endpoints.SHOW, endpoints.Name(endpoint="none"))
        other = access.ActorName(project="other", name="x")
        with pytest.raises(NotAuthenticated, match="'other'"):
            caller(access.ISSUE, other)


@pytest.mark.parametrize(
    "error",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and "code" in vars(kind)],
)
def test_every_error_crosses_the_wire(error: type[errors.MainspringError]) -> None:
    told = tell(error("subject: found, expected"))

    back = error_of(endpoints.SHOW, told.status_code, bytes(told.body))

    assert type(back) is error
    assert str(back) == ("subject: found, expected" if error.code != "internal" else INTERNAL)


def test_another_project_is_reached_by_its_path(serve: "Serve") -> None:
    served = serve()
    with HttpCaller(served.url) as caller:
        caller(access.GRANT, access.Grant(project="other", name="ann", role="viewer"))
        theirs = caller(access.LIST, access.LIST.request(project="other"))
        ours = caller(access.LIST, access.LIST.request())

    assert [actor.name for actor in theirs.actors] == ["ann"]
    assert ours.actors == ()


def test_threads_share_a_caller(fresh: "Served") -> None:
    answers: list[object] = []
    with HttpCaller(fresh.url) as caller:
        client = fresh.client(caller)
        threads = [
            threading.Thread(target=lambda: answers.append(client.status())) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(answers) == 8
    assert len({str(answer) for answer in answers}) == 1


def test_a_call_waits_for_a_control_process_that_restarts(fresh: "Served") -> None:
    with HttpCaller(fresh.url, patience_s=20) as caller:
        client = fresh.client(caller)
        before = client.status()
        fresh.stop()
        answers: list[object] = []
        asking = threading.Thread(target=lambda: answers.append(client.status()))
        asking.start()
        time.sleep(0.3)
        fresh.control.draining.clear()
        fresh.start()
        asking.join(20)

    assert answers == [before]


def test_a_refusal_that_says_nothing_was_begun_is_waited_out(fresh: "Served") -> None:
    fresh.control.draining.set()
    with HttpCaller(fresh.url, patience_s=20) as caller:
        raised = fresh.ask("POST", "/api/v1/access/grant", b"{}")
        threading.Timer(0.3, fresh.control.draining.clear).start()
        # Of a verb that is otherwise not repeated.
        granted = caller(access.GRANT, access.Grant(name="ann", role="viewer"))

    assert (raised.status, raised.headers["mainspring-starting"]) == (503, "1")
    assert granted.fact == 2


@contextmanager
def breaking(calls: list[bytes], *, answers: tuple[bytes, ...]) -> Iterator[str]:
    """A server that reads each request whole and then says what it was told to, or nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                calls.append(connection.recv(1 << 16))
                connection.sendall(answers[min(len(calls), len(answers)) - 1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def found(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body


DECISION = endpoints.Decision(endpoint="stop", version="1", comment="why")


def test_a_decision_whose_answer_was_lost_is_not_made_again() -> None:
    calls: list[bytes] = []
    with (
        breaking(calls, answers=(b"",)) as url,
        HttpCaller(url, patience_s=5) as caller,
        pytest.raises(Unavailable, match="it may have been done: look, then decide"),
    ):
        caller(endpoints.PROMOTE, DECISION)

    assert len(calls) == 1


def test_what_may_be_repeated_is_when_its_answer_was_lost() -> None:
    calls: list[bytes] = []
    answer = found(msgspec.msgpack.encode(ledger.Facts(facts=())))
    half = answer[: len(answer) // 2]
    with breaking(calls, answers=(b"", half, answer)) as url, HttpCaller(url) as caller:
        assert caller(ledger.EVENTS, ledger.Events()).facts == ()

    assert len(calls) == 3


def test_patience_ends(fresh: "Served") -> None:
    fresh.stop()
    with HttpCaller(fresh.url, patience_s=0.2) as caller:
        with pytest.raises(Unavailable, match="does not answer"):
            caller(endpoints.STATUS, endpoints.STATUS.request())
        with pytest.raises(Unavailable, match="does not answer"):
            caller(endpoints.PROMOTE, DECISION)


def test_an_answer_that_does_not_come_is_told() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with (
            HttpCaller(url, timeout_s=0.2) as caller,
            pytest.raises(TimedOut, match="the work may go on"),
        ):
            caller(feed.ADVANCE, feed.Advance(endpoint="stop", until=AT))


def test_what_answers_and_is_not_ours_is_told() -> None:
    calls: list[bytes] = []
    page = b"HTTP/1.1 502 Bad\r\nContent-Length: 3\r\nConnection: close\r\n\r\n<p>"
    with (
        breaking(calls, answers=(page,)) as url,
        HttpCaller(url) as caller,
        pytest.raises(Unavailable, match="status 502"),
    ):
        caller(endpoints.STATUS, endpoints.STATUS.request())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8700", "ftp://x", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="expected http://host:port"):
        HttpCaller(url)


def test_a_stale_decision_is_refused_over_the_wire(started: "Served") -> None:
    assert started.local.advance("stop", AT).error is None
    with HttpCaller(started.url) as caller:
        client = started.client(caller)
        seen = client.endpoint("stop").seen

        with pytest.raises(StaleSubject, match="read it again"):
            client.promote("stop", "1", "again", expect=seen - 1)


def test_the_token_of_a_command_is_that_of_its_configuration(serve: "Serve") -> None:
    served = serve()
    config = Config(token=served.token("ann", "admin"))

    with HttpCaller(served.url, config.token) as caller:
        assert served.client(caller).status().endpoints == ()
