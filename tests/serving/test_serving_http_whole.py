"""Requests by any way of sending them: whole and known, in parts, compressed, or ill-meant."""

import asyncio
import gzip
import time
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.serving.connection import Connection
from mainspring.serving.door import Door, Limits
from mainspring.serving.http import TEXT, Request, Response

LIMITS = Limits(body_bytes=1000, head_bytes=2000, pipelined=8, connections=4)


class Wire:
    """A transport that keeps what is written; a parser's answers need no socket."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = False

    def write(self, content: bytes) -> None:
        self.content += content

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name in ("set_write_buffer_limits", "pause_reading", "resume_reading", "close"):
            return lambda *_, **__: None
        raise AttributeError(name)


def door() -> tuple[Door, list[Request]]:
    asked: list[Request] = []

    def answer(requests: Sequence[Request]) -> list[Response]:
        asked.extend(requests)
        return [Response(200, f"{r.method} {r.target} ".encode() + r.body, TEXT) for r in requests]

    return Door(answer, LIMITS, now=time.monotonic), asked


async def _sent(found: Door, parts: Sequence[bytes]) -> bytes:
    wire, connection = Wire(), Connection(found)
    connection.connection_made(cast(asyncio.Transport, wire))
    for part in parts:
        connection.data_received(part)
        for _ in range(12):
            await asyncio.sleep(0)
    connection.connection_lost(None)
    assert found.buffered_bytes == 0
    lines = wire.content.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(b"Date:"))


def sent(found: Door, parts: Sequence[bytes]) -> bytes:
    return asyncio.run(_sent(found, parts))


def post(body: bytes, *headers: str, path: str = "/p", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {size}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


_heads = st.sampled_from(
    [(), ("Connection: close",), ("X-A: b", "X-C: d"), ("Expect: 100-continue",)]
)
_bodies = st.sampled_from([b"", b"{}", b"abc\r\n\r\ndef", b"GET / HTTP/1.1\r\n\r\n", b"x" * 1001])
_requests = st.builds(lambda body, heads: post(body, *heads), _bodies, _heads) | st.sampled_from(
    [
        b"GET /g HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\nGET /g HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /old HTTP/1.0\r\n\r\n",
        b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        post(b"ab", length=3),
        post(b"abcd", length=3),
        post(gzip.compress(b"hello", mtime=0), "Content-Encoding: gzip"),
        b"BAD\r\n\r\n",
    ]
)


@settings(max_examples=120, deadline=None)
@given(requests=st.lists(_requests, min_size=1, max_size=5), data=st.data())
def test_a_known_head_changes_no_answer(requests: list[bytes], data: st.DataObject) -> None:
    known, asked = door()
    for request in requests:
        sent(known, [request])
    del asked[:]
    fresh, expected = door()
    fresh.keep_whole = lambda *_: None  # type: ignore[method-assign]
    parts = requests
    if data.draw(st.booleans()):
        content = b"".join(requests)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
        parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert sent(known, parts) == sent(fresh, parts)
    assert [(r.method, r.target, r.body) for r in asked] == [
        (r.method, r.target, r.body) for r in expected
    ]


@pytest.mark.parametrize("body", [b"hello", gzip.compress(b"hello", mtime=0)])
def test_a_request_cut_at_any_byte_is_the_same(body: bytes) -> None:
    coding = () if body == b"hello" else ("Content-Encoding: gzip",)
    request = post(body, *coding)
    found, asked = door()
    for at in range(1, len(request)):
        assert sent(found, [request[:at], request[at:]]).endswith(b"POST /p hello")
    assert len(asked) == len(request) - 1


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
SMUGGLED = {
    "length and chunks": post(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "two lengths": post(b"abc", "Content-Length: 4"),
    "the same length twice": post(b"abc", "Content-Length: 3"),
    "a list of lengths": b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    "a length in hex": b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc",
    "a negative length": b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an endless length": b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: "
    + b"9" * 30
    + b"\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc",
    "chunked, and not": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "not the last chunked": CHUNKED.replace(b"chunked", b"xchunked") + b"\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk's size that is none": CHUNKED + b"\r\n-1\r\nabc",
    "a chunk longer than it says": CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "a chunk's size that overflows": CHUNKED + b"\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "lines that end in LF alone": b"POST / HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc",
    "a CR in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\rX-B: c\r\n\r\n",
    "a zero byte in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_what_two_servers_may_read_differently_is_refused(name: str) -> None:
    found, asked = door()
    for parts in ([SMUGGLED[name]], [bytes([byte]) for byte in SMUGGLED[name]]):
        answer = sent(found, [*parts, post(b"after")])
        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert b"HTTP/1.1 200" not in answer
    assert asked == []


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300), at=st.integers(0, 60), flip=st.integers(1, 255))
def test_no_bytes_stop_the_worker(content: bytes, at: int, flip: int) -> None:
    request = bytearray(post(content))
    request[at % len(request)] ^= flip
    found, _ = door()
    sent(found, [bytes(request), content])
    assert sent(found, [post(b"still")]).endswith(b"POST /p still")


GZIP: dict[str, tuple[bytes, int]] = {
    "one": (gzip.compress(b"a" * 900), 200),
    "two members": (gzip.compress(b"a") + gzip.compress(b"b"), 200),
    "at the limit": (gzip.compress(b"a" * 1000), 200),
    "above the limit": (gzip.compress(b"a" * 1001), 413),
    "above it together": (gzip.compress(b"a" * 600) + gzip.compress(b"b" * 600), 413),
    "a bomb": (gzip.compress(b"a" * 500_000), 413),
    "cut off": (gzip.compress(b"hello")[:-3], 400),
    "damaged": (gzip.compress(b"hello")[:-6] + b"xxxxxx", 400),
    "with more behind it": (gzip.compress(b"hello") + b"more", 400),
    "no gzip": (b"hello", 400),
    "zlib without its frame": (b"x\x9c\xcbH\xcd\xc9\xc9\x07\x00\x06,\x02\x15", 400),
}


@pytest.mark.parametrize("name", GZIP)
def test_compressed_bodies_are_inflated_up_to_the_limit(name: str) -> None:
    body, status = GZIP[name]
    found, asked = door()
    answer = sent(found, [post(body, "Content-Encoding: gzip")])
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert [r.body for r in asked] == ([gzip.decompress(body)] if status == 200 else [])


def test_other_codings_are_refused_with_what_is_taken() -> None:
    found, _ = door()
    for coding in ("br", "deflate", "gzip, gzip", "zstd"):
        answer = sent(found, [post(b"abc", f"Content-Encoding: {coding}")])
        assert answer.startswith(b"HTTP/1.1 415 ")
        assert b"Accept-Encoding: gzip" in answer
