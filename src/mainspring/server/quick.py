"""A connection that answers small requests by itself: no task, no thread, one write.

Which ones: those of a route whose requests are done together (`routing.Together`), whose body is
announced, small and here, on a connection with nothing else under way. All others go uvicorn's way
to the application, with the same outcome.
"""

import asyncio
from asyncio import TimerHandle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mainspring.api.verb import Call
from mainspring.server.connections import BoundedProtocol
from mainspring.server.routing import Placed
from mainspring.server.turns import Turns

BODY_BYTES = 16 << 10
"""A body up to this is worked on in the event loop: parsing it takes less than a hop."""

BODY_PATIENCE_S = 1.0
"""A body that takes longer is waited for by the application, which bounds how long."""

_JUDGED_BY = frozenset(
    {b"host", b"origin", b"authorization", b"cookie", b"forwarded", b"x-forwarded-for"}
)
"""Headers that who is let in depends on; a request with the same ones is judged the same."""

_KEPT_JUDGEMENTS = 8

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Quick:
    """What a connection needs to answer small requests by itself.

    Attributes:
        targets: By method and path below the project's prefix, the routes that may be quick.
        let_in: Applies every rule at the door; None where the long way must say what is wrong.
        stamp: While it is equal, who was let in may come in again.
        turns: Where the requests go.
        with_defaults: Adds the headers of every answer.
    """

    targets: Mapping[tuple[bytes, bytes], Placed]
    let_in: Callable[[Request], Call | None]
    stamp: Callable[[], object]
    turns: Turns
    with_defaults: Callable[[Sequence[tuple[bytes, bytes]]], Headers]


class _Cycle:
    """Stands where uvicorn keeps the request under way, so that what comes behind it waits."""

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False
        self.more_body = False
        self.body = b""
        self.message_event = asyncio.Event()


class QuickProtocol(BoundedProtocol):
    """Uvicorn's connection with a quick way for small requests."""

    _placed: Placed | None = None
    """Of the message that comes in, while it may still go the quick way."""
    _parts: list[bytes]
    _under_way: _Cycle
    """The request that was handed over, until it is answered."""
    _body_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin without judgements: they hold for this peer only."""
        super().connection_made(transport)
        self._quick: Quick = self.config.app.quick  # type: ignore[union-attr]
        self._judged: dict[tuple[object, ...], tuple[object, Call]] = {}
        self._parts = []

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the message that came in."""
        self._placed = None
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait a little for the rest of a small body."""
        super().data_received(data)
        if self._placed is not None and self._body_timer is None:
            self._body_timer = self.loop.call_later(BODY_PATIENCE_S, self._go_long)

    def on_headers_complete(self) -> None:
        """Keep a small request back until its body is here."""
        self._placed = self._place()
        if self._placed is None:
            super().on_headers_complete()
            return
        self.head_is_whole()
        self._parts = []

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._placed is None:
            super().on_body(body)
        else:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Hand a whole small request over, or let it go the long way."""
        self._stop_waiting()
        if self._placed is not None:
            call = self._let_in()
            if call is None or self.flow.write_paused:
                self._go_long()
            else:
                placed, self._placed = self._placed, None
                # What comes behind it takes its place in `cycle`, so it is kept here as well.
                self._under_way = _Cycle(self.parser.should_keep_alive())
                self.cycle = self._under_way  # type: ignore[assignment]
                super().on_message_complete()
                self._quick.turns.take(placed, call, b"".join(self._parts), self._reply)
                return
        super().on_message_complete()

    def _place(self) -> Placed | None:
        """Give the route of a request that may be quick, from its head."""
        target = self.url
        if target.startswith(b"/p/"):
            target = target[target.find(b"/", 3) :]
        placed = self._quick.targets.get((self.parser.get_method(), target))
        if placed is None or self.expect_100_continue or self.parser.should_upgrade():
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None
        if self.parser.get_http_version() != "1.1":
            return None
        sizes = [value for name, value in self.headers if name == b"content-length"]
        framed = any(name == b"transfer-encoding" for name, _ in self.headers)
        if framed or len(sizes) != 1 or not sizes[0].isdigit() or len(sizes[0]) > 6:
            return None
        return placed if int(sizes[0]) <= BODY_BYTES else None

    def _let_in(self) -> Call | None:
        """Judge the request, or find that one just like it was judged."""
        shown = [pair for pair in self.headers if pair[0] in _JUDGED_BY]
        key, stamp = (self._placed, self.url, *shown), self._quick.stamp()
        found = self._judged.get(key)
        if found is not None and found[0] == stamp:
            return found[1]
        method, path = self.parser.get_method().decode(), self.url.decode("ascii", "replace")
        scope = {**self.scope, "method": method, "path": path, "query_string": b""}
        call = self._quick.let_in(Request(scope))
        if call is not None:
            if len(self._judged) >= _KEPT_JUDGEMENTS:
                self._judged.clear()
            self._judged[key] = (stamp, call)
        return call

    def _go_long(self) -> None:
        """Give the message to the application after all."""
        if self._placed is None:
            return
        self._placed = None
        self._stop_waiting()
        super().on_headers_complete()
        if self._parts:
            super().on_body(b"".join(self._parts))

    def _stop_waiting(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _reply(self, response: Response | None) -> None:
        """Write an answer, head and body at once."""
        cycle = self._under_way
        cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        defaults = self.server_state.default_headers
        if response is None:
            content = _done(tuple(defaults), self._quick.with_defaults)
        else:
            headers = self._quick.with_defaults(response.raw_headers)
            content = _written(response.status_code, [*defaults, *headers], bytes(response.body))
        if not cycle.keep_alive:
            head, _, body = content.partition(b"\r\n\r\n")
            content = b"".join([head, b"\r\nconnection: close\r\n\r\n", body])
        self.transport.write(content)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()


_DONE: dict[tuple[object, ...], bytes] = {}


def _done(
    defaults: tuple[tuple[bytes, bytes], ...],
    with_defaults: Callable[[Sequence[tuple[bytes, bytes]]], Headers],
) -> bytes:
    """Give the answer to what is done; it is another only once a second, by its date."""
    if defaults not in _DONE:
        _DONE.clear()
        response = Response(b"{}", media_type="application/json")
        headers = [*defaults, *with_defaults(response.raw_headers)]
        _DONE[defaults] = _written(200, headers, b"{}")
    return _DONE[defaults]


def _written(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = [part for name, value in headers for part in (name, b": ", value, b"\r\n")]
    return b"".join([STATUS_LINE[status], *lines, b"\r\n", body])
