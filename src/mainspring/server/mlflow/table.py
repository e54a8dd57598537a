"""The face's table: each row one endpoint of the protocol, with request type and permission."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from mainspring.api.verb import Call
from mainspring.server.mlflow.wire import answer, read_body, read_query
from mainspring.server.routing import Asked, Permission, Route

READ = Permission("experiment", "read")
WRITE = Permission("experiment", "write")
MODEL_READ = Permission("model", "read")
MODEL_WRITE = Permission("model", "register")
MODEL_ALIAS = Permission("model", "alias")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: a request comes in as its type, the answer goes out as a struct or empty.

    `check` looks at the body's bytes before they are parsed.
    """

    method: str
    path: str
    access: Permission
    request: type[msgspec.Struct]
    function: Callable[[Call, Any], msgspec.Struct | Response | None]
    check: Callable[[bytes], None] | None = None

    def route(self) -> Route:
        """Give it as a route below the face's prefix."""
        return Route(self.method, self.path, self.access, self._handle)

    def _handle(self, asked: Asked) -> Response:
        found = self.function(asked.call, self._read(asked))
        return found if isinstance(found, Response) else answer(found)

    def _read(self, asked: Asked) -> Any:
        if self.check is not None:
            self.check(asked.body)
        if self.method == "GET":
            request = read_query(asked.request.query_params, self.request)
        else:
            request = read_body(asked.body, self.request)
        known = {name: value for name, value in asked.params.items() if value is not None}
        if known:
            request = msgspec.structs.replace(request, **known)
        return request


@dataclass(frozen=True, slots=True)
class Writing(Endpoint):
    """An endpoint whose function begins a write, and that answers when it is durable."""

    function: Callable[[Call, Any], Future[None]]  # type: ignore[assignment]

    def route(self) -> Route:
        """Give it as a route that needs no thread for a small body."""
        return Route(self.method, self.path, self.access, self._handle, prompt=self._promptly)

    def _handle(self, asked: Asked) -> Response:
        self.function(asked.call, self._read(asked)).result()
        return answer(None)

    async def _promptly(self, asked: Asked) -> Response:
        await _settled(self.function(asked.call, self._read(asked)))
        return answer(None)


async def _settled(future: Future[None]) -> None:
    """Wait for a write in the event loop; a caller that goes away cancels the wait only."""
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def told(_: Future[None]) -> None:
        # A loop that has ended has nobody who waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(told)
    await waiting
    future.result()


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Give endpoints as routes."""
    return [endpoint.route() for endpoint in endpoints]
