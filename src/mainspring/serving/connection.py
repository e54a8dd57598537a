"""One HTTP/1.1 connection: limits before parsing, answers in order, back-pressure."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import NoReturn, cast

import httptools

from mainspring.serving.door import Door
from mainspring.serving.http import (
    BUSY,
    Request,
    Response,
    TooLarge,
    encoded,
    failed,
    inflated,
)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ONCE = frozenset({"host", "origin", "authorization", "inference-header-content-length"})
_CODINGS = frozenset({"identity", "gzip"})
_ACCEPTED = ("Accept-Encoding", "gzip")
_HEADERS = 100
# Chunked bodies are larger than what they carry; beyond this they are mostly framing.
_FRAMING_BYTES = 1 << 20


class _Broken(Exception):
    """Stops the parser; the answer is in the connection."""


class Connection(asyncio.Protocol):
    """Reads requests, has them answered one after the other, in their order, one a turn.

    While requests wait or the peer leaves answers unread, nothing more is read from it.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._limits = door.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Request | Response] = deque()
        self._parsing = True
        self._begun = False
        self._in_head = False
        self._wants_continue = False
        self._blocked = False
        self._held_back = False
        self._asked = False
        self._peer_ended = False
        self._finished = False
        self._refusal: Response | None = None
        self._raw_bytes = 0
        self._held_bytes = 0
        self.deadline = door.now() + door.limits.idle_s

    @property
    def in_flight(self) -> int:
        """Count the requests begun and not answered."""
        return len(self._waiting) + self._asked + self._begun

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.unread_bytes)
        self._door.open.add(self)
        if len(self._door.open) > self._limits.connections:
            self._refuse(
                failed(503, "too many connections; keep fewer open and use them again", BUSY)
            )
            self._answer_waiting()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget it; a request that was not whole, or not begun, is not answered."""
        self._transport = None
        self._parsing = False
        self._waiting.clear()
        self._let_go(self._held_bytes)
        self._door.open.discard(self)

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what is whole."""
        if not self._parsing:
            return
        # Between two requests the parser holds nothing: what it made of a head's bytes before,
        # it would make of them again.
        afresh = not self._begun
        if afresh and len(self._waiting) < self._limits.pipelined:
            known = self._door.whole(data)
            if known is not None:
                self._hold(len(known.body))
                self._waiting.append(known)
                self._answer_waiting()
                return
        self._raw_bytes += len(data)
        waiting = len(self._waiting)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or failed(400, f"no HTTP/1.1 request: {error}"))
        if self._begun:
            self._check_raw_bytes()
        elif afresh and len(self._waiting) == waiting + 1:
            self._door.keep_whole(data, self._waiting[-1])
        self._answer_waiting()

    def eof_received(self) -> bool:
        """Answer what waits before closing: a peer may close its own side early."""
        self._parsing = self._begun = False
        self._peer_ended = True
        return bool(self._waiting or self._asked)

    def pause_writing(self) -> None:
        """The peer leaves answers unread: answer and read nothing more."""
        self._blocked = True
        self.deadline = self._door.now() + self._limits.request_s

    def resume_writing(self) -> None:
        """It has read them."""
        self._blocked = False
        self._answer_waiting()

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self._waiting) >= self._limits.pipelined:
            self._break(
                failed(503, "too many requests wait on this connection; send fewer ahead", BUSY)
            )
        self._begun = self._in_head = True
        self._wants_continue = False
        self._target = b""
        self._head: list[tuple[bytes, bytes]] = []
        self._headers: Mapping[str, str] = {}
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self.deadline = self._door.now() + self._limits.request_s

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers are read and forgotten."""
        if not self._in_head:
            return
        self._head.append((name, value))
        self._count_head(len(name) + len(value) + 4)
        if len(self._head) > _HEADERS:
            self._break(failed(431, f"more than {_HEADERS} headers; send fewer"))

    def on_headers_complete(self) -> None:
        """Refuse what need not be read to be refused."""
        self._in_head = False
        if self._parser.should_upgrade():
            self._break(failed(400, "found an upgrade, expected plain HTTP/1.1; leave it out"))
        # A client's requests have the same few heads: each is looked at once.
        head = tuple(self._head)
        headers = self._door.heads.get(head)
        if headers is None:
            headers = self._door.shared(self._read_head())
            self._door.keep_head(head, headers, size=self._head_bytes)
        self._headers = headers
        self._wants_continue = bool(headers.get("expect"))

    def _read_head(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in self._head:
            key = name.decode("latin-1").lower()
            if key in _ONCE and key in headers:
                self._break(failed(400, f"header {key!r} is there twice; send it once"))
            headers[key] = value.decode("latin-1")
        if headers.get("content-encoding", "identity").lower() not in _CODINGS:
            self._break(failed(415, "the body is encoded; send it as it is, or as gzip", _ACCEPTED))
        if headers.get("transfer-encoding", "chunked").lower() != "chunked":
            self._break(failed(400, "transfer encodings other than chunked are not taken"))
        if int(headers.get("content-length", "0")) > self._limits.body_bytes:
            self._break(self._too_large())
        expect = headers.get("expect", "").lower()
        if expect not in ("", "100-continue"):
            self._break(failed(417, f"cannot meet the expectation {expect[:40]!r}; leave it out"))
        return headers

    def on_body(self, part: bytes) -> None:
        """Part of the body."""
        self._wants_continue = False
        self._body_bytes += len(part)
        if self._body_bytes > self._limits.body_bytes:
            self._break(self._too_large())
        self._body.append(part)
        self._hold(len(part))

    def _hold(self, size: int) -> None:
        self._held_bytes += size
        self._door.buffered_bytes += size
        if self._door.buffered_bytes > self._door.buffered_at_most:
            self._break(failed(503, "too many large requests at once; repeat it later", BUSY))

    def on_message_complete(self) -> None:
        """A request is whole: it waits for its turn."""
        self._begun = False
        self._raw_bytes = 0
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._headers.get("content-encoding", "identity").lower() == "gzip" and body:
            body = self._inflated(body)
        self._waiting.append(
            Request(
                self._parser.get_method().decode(),
                self._target.decode("latin-1"),
                self._headers,
                body,
                self._parser.should_keep_alive(),
                self._parser.get_http_version() == "1.0",
                self._door.now(),
            )
        )

    def _inflated(self, body: bytes) -> bytes:
        try:
            content = inflated(body, self._limits.body_bytes)
        except TooLarge:
            self._break(self._too_large())
        if content is None:
            self._break(failed(400, "the body is no whole gzip; send it again"))
        self._hold(len(content) - len(body))
        return content

    def expire(self) -> None:
        """Act on the deadline."""
        if self._finished or self._blocked:
            self.abort()
        elif self._begun:
            self._refuse(
                failed(408, f"not whole after {self._limits.request_s:g} s; send it again")
            )
            self._answer_waiting()
        elif not self.in_flight:
            self.end()

    def end(self) -> None:
        """Close; what was written is still sent."""
        self._parsing = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop it."""
        if self._transport is not None:
            self._transport.abort()

    def answered(self, request: Request, response: Response) -> None:
        """Send the answer of the request that was asked, and go on."""
        self._asked = False
        if self._transport is None or self._finished:
            return
        self._let_go(len(request.body))
        ending = (self._door.draining or self._peer_ended) and not (self._waiting or self._begun)
        close = ending or not request.keep_alive
        self._transport.write(
            encoded(response, head=request.method == "HEAD", close=close, old=request.old)
        )
        if close:
            self._finish()
        else:
            self._answer_waiting()

    def _answer_waiting(self) -> None:
        if self._transport is None or self._finished:
            return
        # One a turn, so that a peer that sends many ahead does not hold up the others.
        if self._waiting and not self._blocked and not self._asked:
            item = self._waiting.popleft()
            if isinstance(item, Response):
                self._transport.write(encoded(item, close=True))
                self._finish()
                return
            self._asked = True
            self._door.ask(self, item)
        self._hold_back(bool(self._waiting) or self._blocked)
        if self._asked or self._waiting or self._blocked:
            return
        if self._wants_continue:
            self._wants_continue = False
            self._transport.write(_CONTINUE)
        elif not self._begun:
            self.deadline = self._door.now() + self._limits.idle_s

    def _finish(self) -> None:
        # Closing with unread bytes would reset the connection, and the answer could be lost.
        self._finished, self._parsing, self._begun = True, False, False
        self._waiting.clear()
        self._let_go(self._held_bytes)
        patience_s = self._limits.request_s if self._blocked else self._limits.linger_s
        self.deadline = self._door.now() + patience_s
        assert self._transport is not None
        if self._peer_ended:
            self._transport.close()
            return
        self._transport.write_eof()
        self._hold_back(False)

    def _refuse(self, response: Response) -> None:
        self._parsing = self._begun = False
        self._door.turn_away(response.status)
        self._waiting.append(response)

    def _break(self, response: Response) -> NoReturn:
        self._refusal = response
        raise _Broken

    def _too_large(self) -> Response:
        limit = self._limits.body_bytes
        return failed(413, f"the body is larger than {limit} bytes; send fewer rows a request")

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            self._break(self._head_too_large())

    def _head_too_large(self) -> Response:
        limit = self._limits.head_bytes
        return failed(431, f"target and headers are larger than {limit} bytes; send less")

    def _check_raw_bytes(self) -> None:
        # What the parser keeps to itself: half a header, framing of chunks, trailers.
        if self._in_head and self._raw_bytes > 2 * self._limits.head_bytes:
            self._refuse(self._head_too_large())
        elif self._raw_bytes > self._limits.body_bytes + _FRAMING_BYTES:
            self._refuse(self._too_large())

    def _hold_back(self, hold: bool) -> None:
        if self._transport is None or hold == self._held_back or self._transport.is_closing():
            return
        self._held_back = hold
        if hold:
            self._transport.pause_reading()
            return
        if self._begun:
            self.deadline = self._door.now() + self._limits.request_s
        self._transport.resume_reading()

    def _let_go(self, size: int) -> None:
        self._held_bytes -= size
        self._door.buffered_bytes -= size
