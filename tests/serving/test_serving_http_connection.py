"""One HTTP connection: order, limits before parsing, slow and silent peers, and its end."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
import uvloop
from tests.serving.serving_process import received, wait_until

from mainspring.serving.connection import Connection
from mainspring.serving.door import Door, Limits
from mainspring.serving.http import TEXT, Request, Response

LIMITS = Limits(
    body_bytes=1000, head_bytes=2000, pipelined=8, connections=4, request_s=0.4, idle_s=0.8,
    linger_s=0.3, unread_bytes=4096,
)  # fmt: skip


class Echo:
    """A door behind which every request is answered with what was read of it."""

    def __init__(self, limits: Limits) -> None:
        self.asked: list[Request] = []
        self.loop = uvloop.new_event_loop()
        self.door = Door(self.answer_all, limits, now=time.monotonic)
        self.size = 0
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.run)

    def answer_all(self, requests: Sequence[Request]) -> list[Response]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Request) -> Response:
        self.asked.append(request)
        text = f"{request.method} {request.target} {len(request.body)};".encode()
        return Response(200, text + b"x" * self.size, TEXT)

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.serve())

    async def serve(self) -> None:
        self.ended = asyncio.Event()
        server = await self.loop.create_server(lambda: Connection(self.door), sock=self.sock)
        while not self.ended.is_set():
            self.door.sweep()
            await asyncio.sleep(0.02)
        server.close()
        self.door.abort()
        await asyncio.sleep(0.01)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            yield sock

    def told(self, *parts: bytes) -> bytes:
        """Send, and read until the server ends the connection."""
        with self.connected() as sock:
            for part in parts:
                sock.sendall(part)
            return received(sock)


@contextmanager
def served(limits: Limits = LIMITS) -> Iterator[Echo]:
    echo = Echo(limits)
    echo.thread.start()
    try:
        yield echo
    finally:
        echo.loop.call_soon_threadsafe(lambda: echo.ended.set())
        echo.thread.join(10)
        echo.loop.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with served() as found:
        yield found


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /p HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


LAST = get("/last", "Connection: close")


def bodies(answer: bytes) -> list[str]:
    return [part.split(";")[0] for part in answer.decode().split("\r\n\r\n")[1:]]


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(r"HTTP/1\.1 (\d{3})", answer.decode())]


def test_requests_sent_ahead_are_answered_in_their_order(echo: Echo) -> None:
    answer = echo.told(get("/1") + post(b"abc") + get("/3") + LAST)

    assert bodies(answer) == ["GET /1 0", "POST /p 3", "GET /3 0", "GET /last 0"]
    assert answer.count(b"Connection: close") == 1


def test_a_request_may_come_byte_by_byte(echo: Echo) -> None:
    content = post(b"abc", "Connection: close")

    answer = echo.told(*(content[i : i + 1] for i in range(len(content))))

    assert bodies(answer) == ["POST /p 3"]


def test_chunked_bodies_are_put_together_and_trailers_forgotten(echo: Echo) -> None:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = echo.told(head + b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nHost: evil\r\n\r\n" + LAST)

    assert bodies(answer)[0] == "POST /p 5"
    assert echo.asked[0].body == b"abcde"
    assert echo.asked[0].headers["host"] == "x"


def test_head_has_the_headers_alone(echo: Echo) -> None:
    answer = echo.told(b"HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b"Content-Length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_an_old_client_is_told_whether_the_connection_stays(echo: Echo) -> None:
    stays = b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

    answer = echo.told(stays + b"GET /2 HTTP/1.0\r\n\r\n")

    assert answer.count(b"Connection: keep-alive") == 1
    assert answer.count(b"Connection: close") == 1


def test_a_client_that_waits_for_the_go_ahead_gets_it(echo: Echo) -> None:
    head = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with echo.connected() as sock:
        sock.sendall(head)
        assert received(sock, upto=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        assert b"POST /p 3;" in received(sock, upto=b";")


def test_a_client_may_close_its_side_first(echo: Echo) -> None:
    with echo.connected() as sock:
        sock.sendall(get("/1") + get("/2"))
        sock.shutdown(socket.SHUT_WR)

        assert bodies(received(sock)) == ["GET /1 0", "GET /2 0"]


TOO_MUCH = {
    "declared body": (b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
    "declared, waiting": (
        b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n",
        413,
    ),
    "chunked body": (
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"200\r\n" + b"a" * 512 + b"\r\n200\r\n" + b"a" * 512,
        413,
    ),
    "target": (get("/" + "a" * 2000), 431),
    "header": (get("/", f"X: {'a' * 2000}"), 431),
    "endless header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 600_000, 431),
    "many headers": (get("/", *(f"X{i}: 1" for i in range(101))), 431),
    "encoded body": (post(b"abc", "Content-Encoding: br"), 415),
    "expectation": (post(b"abc", "Expect: gold"), 417),
    "upgrade": (get("/", "Connection: Upgrade", "Upgrade: websocket"), 400),
    "upgrade with a body": (post(LAST, "Connection: Upgrade", "Upgrade: h2c"), 400),
    "connect": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "two hosts": (get("/", "Host: y"), 400),
    "two lengths": (post(b"abc", "Content-Length: 4"), 400),
    "length and chunked": (post(b"0\r\n\r\n" + LAST, "Transfer-Encoding: chunked"), 400),
    "odd coding": (post(b"", "Transfer-Encoding: gzip, chunked"), 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: x\n\n", 400),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "slow request": (b"GET / HTTP/1.1\r\n", 408),
    "slow body": (b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 408),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_is_too_much_is_refused_and_ends_the_connection(echo: Echo, name: str) -> None:
    content, status = TOO_MUCH[name]

    answer = echo.told(get("/before"), content)

    assert statuses(answer) == [200, status]
    assert b"Connection: close" in answer
    assert [request.target for request in echo.asked] == ["/before"]
    wait_until(lambda: not echo.door.open)
    assert (echo.door.buffered_bytes, echo.door.turned_away) == (0, {status: 1})


def test_the_answer_arrives_though_the_rest_of_the_body_is_under_way() -> None:
    with served(replace(LIMITS, linger_s=5.0)) as echo, echo.connected() as sock:
        sock.sendall(b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n")
        sock.sendall(b"a" * 3_000_000)

        assert statuses(received(sock)) == [413]


def test_too_many_requests_ahead_are_refused_after_those_before(echo: Echo) -> None:
    answer = echo.told(b"".join(get(f"/{i}") for i in range(100)))

    found = statuses(answer)
    assert found[-1] == 503
    assert set(found[:-1]) == {200}
    assert bodies(answer)[:-1] == [f"GET /{i} 0" for i in range(len(found) - 1)]


def test_bodies_of_all_connections_together_are_bounded() -> None:
    half = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"a" * 900
    limits = replace(LIMITS, buffered_bodies=2, request_s=5.0)
    with served(limits) as echo, echo.connected() as a, echo.connected() as b:
        a.sendall(half)
        b.sendall(half)
        wait_until(lambda: echo.door.buffered_bytes == 1800)

        assert statuses(echo.told(half)) == [503]
        wait_until(lambda: echo.door.buffered_bytes == 1800)
        a.sendall(b"a" * 100)
        assert bodies(received(a, upto=b";")) == ["POST /p 1000"]


def test_one_connection_too_many_is_told_so(echo: Echo) -> None:
    with echo.connected() as a, echo.connected() as b, echo.connected() as c, echo.connected() as d:
        for sock in (a, b, c, d):
            sock.sendall(get("/"))
            received(sock, upto=b";")

        assert statuses(echo.told()) == [503]
        a.sendall(LAST)
        assert statuses(received(a)) == [200]


def test_a_peer_that_reads_nothing_is_answered_no_further_and_dropped(echo: Echo) -> None:
    echo.size = 100_000
    with echo.connected() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(3)
        with suppress(ConnectionError, TimeoutError):
            for i in range(2000):
                sock.sendall(get(f"/{i}") * 4)
                time.sleep(0.005)
    wait_until(lambda: not echo.door.open)

    assert len(echo.asked) < 200


def test_a_peer_that_reads_late_gets_everything() -> None:
    with served(replace(LIMITS, request_s=10.0)) as echo, echo.connected() as sock:
        echo.size = 3_000_000
        sock.sendall(b"".join(get(f"/{i}") for i in range(6)) + LAST)
        time.sleep(0.3)

        assert len(echo.asked) < 7
        assert [b for b in bodies(received(sock)) if b][-1] == "GET /last 0"


def test_an_idle_connection_ends_quietly(echo: Echo) -> None:
    answer = echo.told(get("/"))

    assert statuses(answer) == [200]


def test_many_ahead_on_one_connection_do_not_hold_up_another() -> None:
    with (
        served(replace(LIMITS, pipelined=64)) as echo,
        echo.connected() as a,
        echo.connected() as b,
    ):
        a.sendall(get("/a"))
        b.sendall(get("/b"))
        received(a, upto=b";")
        received(b, upto=b";")
        echo.asked.clear()
        echo.loop.call_soon_threadsafe(time.sleep, 0.1)
        a.sendall(get("/a") * 40)
        b.sendall(get("/b") + LAST)
        received(b)

        assert [request.target for request in echo.asked].index("/b") < 40
