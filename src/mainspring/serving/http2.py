"""One HTTP/2 connection that carries gRPC calls: each a request message and a reply.

Framing, header compression and flow control are nghttp2's (`ngh2`); what a peer may take is
bounded here. Calls that are whole by the end of a turn of the event loop are answered together.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec
from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    NGH2Error,
    RequestReceived,
    Role,
    Setting,
    StreamClosed,
    StreamReset,
)

from mainspring.serving.door import Limits
from mainspring.serving.http import TooLarge, inflated

HEAD_BYTES = 5
"""Before each message: whether it is compressed, and its length."""
OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 7, 8, 12, 13, 14
UNAUTHENTICATED = 16

_STREAMS = 1024
"""Calls that one connection may have under way."""
_WINDOW_BYTES = 4 << 20
_IDLE_S = 3600.0
_NO_ERROR, _ENHANCE_YOUR_CALM = 0x00, 0x0B
_TOGETHER = 128
_UNITS_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_OK_TRAILERS = ((b"grpc-status", b"0"),)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a call is answered: a message, or why there is none."""

    status: int
    body: bytes = b""
    told: str = ""


@dataclass(slots=True, eq=False)
class Call:
    """One call, while it comes and until it is answered."""

    stream: int
    path: str
    headers: dict[str, str]
    """Those of the head that are ours to read, and all metadata; names in lower case."""
    begun_s: float
    ends_s: float | None
    """When its caller stops waiting."""
    body: bytearray = field(default_factory=bytearray)
    message: bytes = b""
    whole: bool = False


_PLAIN_SIGNS = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
Answering = Callable[[Sequence[Call]], Sequence[Reply]]


class CallDoor:
    """The open connections of a worker that carry calls."""

    def __init__(self, answering: Answering, limits: Limits, *, now: Callable[[], float]) -> None:
        self.answering = answering
        self.limits = limits
        self.now = now
        self.open: set[CallConnection] = set()
        self.draining = False
        self.buffered_bytes = 0
        self._turn: list[tuple[CallConnection, Call]] = []

    def ask(self, connection: "CallConnection", call: Call) -> None:
        """Have a call answered at the end of this turn."""
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._answer_turn)
        self._turn.append((connection, call))

    def _answer_turn(self) -> None:
        turn, self._turn = self._turn, []
        written: dict[int, CallConnection] = {}
        for begin in range(0, len(turn), _TOGETHER):
            # Whoever has cancelled meanwhile is not answered, and nothing is recorded for it.
            asked = [(c, call) for c, call in turn[begin : begin + _TOGETHER] if c.waits(call)]
            replies = self.answering([call for _, call in asked])
            for (connection, call), reply in zip(asked, replies, strict=True):
                connection.reply(call, reply)
                written[id(connection)] = connection
        for connection in written.values():
            connection.flush()

    @property
    def in_flight(self) -> int:
        """Count the calls begun and not answered."""
        return sum(connection.in_flight for connection in self.open)

    def sweep(self) -> None:
        """Act on what took too long; about once a second."""
        now = self.now()
        for connection in list(self.open):
            connection.sweep(now)

    def drain(self) -> None:
        """Take no new call; each connection ends with its last one."""
        self.draining = True
        for connection in list(self.open):
            connection.drain()

    def abort(self) -> None:
        """Drop all connections."""
        for connection in list(self.open):
            connection.abort()


class CallConnection(asyncio.Protocol):
    """One peer."""

    def __init__(self, door: CallDoor) -> None:
        self._door = door
        self._calls: dict[int, Call] = {}
        self._used_s = door.now()
        self._paused = False

    # --- the transport's

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Say what a peer may take."""
        self._transport = transport
        limits = self._door.limits
        self._http = Connection(
            Role.SERVER,
            Configuration(
                max_inbound_header_list_size=limits.head_bytes, max_inbound_header_count=128
            ),
        )
        self._http.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: _STREAMS,
                Setting.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
                Setting.MAX_HEADER_LIST_SIZE: limits.head_bytes,
            }
        )
        self._http.set_local_window_size(2 * _WINDOW_BYTES)
        self._door.open.add(self)
        if len(self._door.open) > limits.connections or self._door.draining:
            self._http.terminate_connection(_ENHANCE_YOUR_CALM)
            self.flush()
            transport.close()
            return
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take frames."""
        self._used_s = self._door.now()
        try:
            self._http.receive_data(data)
        except NGH2Error:
            # The peer does not speak HTTP/2, or breaks its rules: it is told, as far as may be.
            self.flush()
            self._transport.close()
            return
        for event in self._http.events():
            match event:
                case DataReceived():
                    self._take(event.stream_id, event.data, event.end_stream)
                case RequestReceived():
                    self._begin(event.stream_id, event.headers, event.end_stream)
                case StreamReset() | StreamClosed():
                    self._forget(event.stream_id)
                case ConnectionClosed():
                    self._transport.close()
        self.flush()

    def pause_writing(self) -> None:
        """Read no more from a peer that does not take its replies."""
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused = False
        with suppress(RuntimeError):
            self._transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget what it asked."""
        for stream in list(self._calls):
            self._forget(stream)
        self._door.open.discard(self)

    # --- the door's

    @property
    def in_flight(self) -> int:
        """Count the calls begun and not answered."""
        return len(self._calls)

    def waits(self, call: Call) -> bool:
        """Tell whether a call is still waited for."""
        return self._calls.get(call.stream) is call

    def reply(self, call: Call, reply: Reply) -> None:
        """Answer a call; it goes out with the next `flush`."""
        self._forget(call.stream)
        # A stream that its peer has just closed takes no answer.
        with suppress(NGH2Error):
            if reply.status == OK:
                self._http.send_response(call.stream, _HEAD)
                head = b"\0" + len(reply.body).to_bytes(4, "big")
                self._http.send_data(call.stream, head + reply.body)
                self._http.send_trailers(call.stream, _OK_TRAILERS)
            else:
                self._http.send_response(call.stream, (*_HEAD, *_told(reply)), end_stream=True)

    def flush(self) -> None:
        """Write what is to be sent, in one write."""
        if content := self._http.data_to_send():
            self._transport.write(content)
        if self._door.draining and not self._calls:
            self._transport.close()

    def sweep(self, now: float) -> None:
        """Refuse calls that do not become whole; end a peer that asks nothing for long."""
        late = now - self._door.limits.request_s
        for call in [c for c in self._calls.values() if not c.whole and c.begun_s < late]:
            self.reply(call, Reply(DEADLINE_EXCEEDED, told="the call's message did not come"))
        if not self._calls and now - self._used_s > _IDLE_S:
            self._http.send_goaway(_NO_ERROR)
            self.flush()
            self._transport.close()
            return
        if self._paused and now - self._used_s > self._door.limits.request_s:
            self.abort()
            return
        self.flush()

    def drain(self) -> None:
        """Take no new call."""
        self._http.send_goaway(_NO_ERROR)
        self.flush()

    def abort(self) -> None:
        """Drop it."""
        self._transport.abort()

    # --- frames

    def _begin(self, stream: int, headers: Sequence[tuple[bytes, bytes]], end_stream: bool) -> None:
        named = {
            name.decode("ascii", "replace"): value.decode("utf-8", "replace")
            for name, value in headers
        }
        now = self._door.now()
        timeout_s = _seconds(named.get("grpc-timeout", ""))
        ends_s = None if timeout_s is None else now + timeout_s
        call = Call(stream, named.get(":path", ""), named, now, ends_s)
        self._calls[stream] = call
        kind = named.get("content-type", "")
        if named.get(":method") != "POST" or not kind.startswith("application/grpc"):
            self._forget(stream)
            with suppress(NGH2Error):
                refusal = ((b":status", b"415"), (b"content-type", b"text/plain"))
                self._http.send_response(stream, refusal, end_stream=True)
            return
        if end_stream:
            self._whole(call)

    def _take(self, stream: int, data: bytes, end_stream: bool) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        limit = self._door.limits.body_bytes
        room = self._door.limits.buffered_bodies * limit - self._door.buffered_bytes
        if len(call.body) + len(data) > limit + HEAD_BYTES or len(data) > room:
            told = f"the message is larger than {limit} bytes, or too many are under way"
            self.reply(call, Reply(RESOURCE_EXHAUSTED, told=told))
            return
        call.body += data
        self._door.buffered_bytes += len(data)
        if end_stream:
            self._whole(call)

    def _whole(self, call: Call) -> None:
        call.whole = True
        message = _unwrapped(call, self._door.limits.body_bytes)
        if isinstance(message, Reply):
            self.reply(call, message)
            return
        call.message = message
        self._door.ask(self, call)

    def _forget(self, stream: int) -> None:
        call = self._calls.pop(stream, None)
        if call is not None:
            self._door.buffered_bytes -= len(call.body)


def _unwrapped(call: Call, limit: int) -> bytes | Reply:
    """Give the one message of a call's body."""
    body = call.body
    if len(body) < HEAD_BYTES:
        return Reply(INVALID_ARGUMENT, told="the call has no message")
    if int.from_bytes(body[1:HEAD_BYTES], "big") != len(body) - HEAD_BYTES or body[0] > 1:
        return Reply(INVALID_ARGUMENT, told="the call's body is not one whole message")
    content = bytes(body[HEAD_BYTES:])
    if not body[0]:
        return content
    encoding = call.headers.get("grpc-encoding", "identity")
    try:
        found = inflated(content, limit) if encoding == "gzip" else None
    except TooLarge:
        return Reply(RESOURCE_EXHAUSTED, told=f"the message gives more than {limit} bytes")
    except zlib.error:
        found = None
    if found is None:
        return Reply(UNIMPLEMENTED, told=f"encoding {encoding[:20]!r}: expected identity or gzip")
    return found


def _told(reply: Reply) -> tuple[tuple[bytes, bytes], ...]:
    # In percent encoding, as the protocol has it; a long text would not fit a header.
    told = quote(reply.told[:2000], safe=_PLAIN_SIGNS)
    encodings = (b"grpc-accept-encoding", b"identity,gzip")
    return (b"grpc-status", b"%d" % reply.status), (b"grpc-message", told.encode()), encodings


def _seconds(text: str) -> float | None:
    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or len(number) > 8 or unit not in _UNITS_S:
        return None
    return int(number) * _UNITS_S[unit]
