"""The ledger as a stream: server-sent events that go on where the reader stopped."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from mainspring.api.ledger import Events, FactLine
from mainspring.api.ledger import events as list_facts
from mainspring.api.verb import LARGEST, bounded
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.platform import Platform
from mainspring.server import answers, security
from mainspring.server.control import Control
from mainspring.server.native import query_of
from mainspring.server.routing import Asked, Permission, Route
from mainspring.server.statuses import Overloaded

PATH = "/events/stream"
NEEDED = Permission("ledger", "read")
STREAMS_AT_MOST = 64
HEARTBEAT_S = 15.0
LOOK_S = 0.2
FACTS_AT_ONCE = 200


class StreamAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts behind a number, as they come; `subject` is `kind/name` or `kind`."""

    project: str | None = None
    after: int = 0
    subject: str | None = None


class Bell:
    """Wakes every stream at a new fact: one look at the ledger for all of them."""

    def __init__(self, platform: Platform, control: Control) -> None:
        self.streams = 0
        self.newest = 0
        self._platform = platform
        self._control = control
        self._rung = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def join(self) -> None:
        """Count a stream; the first one begins the looking."""
        self.streams += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    def leave(self) -> None:
        """Count a stream no more; the looking ends with the last."""
        self.streams -= 1

    async def wait(self, seen: int, timeout_s: float) -> None:
        """Wait until there is a fact behind `seen`, the process ends, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.newest <= seen and not self._control.draining.is_set():
                    await self._rung.wait()
        except TimeoutError:
            return

    async def _look(self) -> None:
        while self.streams:
            try:
                newest = await asyncio.to_thread(self._newest)
            except MainspringError:
                # The streams meet the same error by themselves, and tell it.
                newest = self.newest + 1
            if newest > self.newest or self._control.draining.is_set():
                self.newest = newest
                rung, self._rung = self._rung, asyncio.Event()
                rung.set()
            await asyncio.sleep(LOOK_S)

    def _newest(self) -> int:
        facts = self._platform.ledger.facts(newest_first=True, limit=1)
        return facts[0].seq if facts else 0


def route(platform: Platform, control: Control) -> Route:
    """Give the stream's route, below the native API's prefix."""
    bells: list[Bell] = []

    async def handler(asked: Asked) -> Response:
        # Made in the event loop that it belongs to.
        if not bells:
            bells.append(Bell(platform, control))
        if bells[0].streams >= STREAMS_AT_MOST:
            raise Overloaded(
                f"{STREAMS_AT_MOST} event streams are open, at most that many; close one, or list "
                "facts with event.list"
            )
        request = _asked(asked)
        # What is wrong with it is told before the stream begins, with a status.
        await asyncio.to_thread(_page, asked, request, request.after)
        if asked.request.method == "HEAD":
            return Response(media_type="text/event-stream")
        lines = _lines(asked, request, bells[0], control)
        return StreamingResponse(lines, media_type="text/event-stream")

    return Route("GET", PATH, NEEDED, handler, streams=True)


async def _lines(
    asked: Asked, request: StreamAsked, bell: Bell, control: Control
) -> AsyncIterator[bytes]:
    last = request.after
    bell.join()
    try:
        yield b": facts, oldest first\n\n"
        checked = time.monotonic()
        while not control.draining.is_set():
            seen = bell.newest
            page = await asyncio.to_thread(_page, asked, request, last)
            for fact in page:
                last = fact.seq
                yield _line(fact)
            if time.monotonic() - checked >= HEARTBEAT_S:
                # A token may have been revoked since the stream began.
                await asyncio.to_thread(_check_again, asked)
                checked = time.monotonic()
                yield b": still here\n\n"
            if len(page) < FACTS_AT_ONCE:
                await bell.wait(max(seen, last), HEARTBEAT_S)
    except MainspringError as error:
        told = msgspec.json.encode({"code": error.code, "message": str(error)})
        yield b"event: error\ndata: " + told + b"\n\n"
    finally:
        bell.leave()


def _page(asked: Asked, request: StreamAsked, after: int) -> tuple[FactLine, ...]:
    project = asked.call.project.name
    listed = Events(project=project, after=after, limit=FACTS_AT_ONCE, subject=request.subject)
    return list_facts(asked.call, listed).facts


def _line(fact: FactLine) -> bytes:
    body = answers.encode(fact, FactLine, answers.JSON)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (fact.seq, fact.event.encode(), body)


def _check_again(asked: Asked) -> None:
    access = asked.call.project.access
    caller = security.identify(asked.call.platform, access, asked.request)
    security.check(caller, access, NEEDED)


def _asked(asked: Asked) -> StreamAsked:
    given = query_of(asked.request)
    given.pop("project", None)
    try:
        request = msgspec.convert(given, StreamAsked, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"events: {error}; expected `after` and `subject`") from error
    again = _last_event_id(asked.request)
    after = bounded("after", request.after if again is None else again, 0, LARGEST)
    return msgspec.structs.replace(request, after=after)


def _last_event_id(request: Request) -> int | None:
    """Give where a reader that lost its connection stopped: it wins over where it once began."""
    given = request.headers.get("last-event-id")
    if given is None or given == "":
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise InvalidInput(f"header Last-Event-ID {given[:40]!r}: expected a fact's number")
    return int(given)
