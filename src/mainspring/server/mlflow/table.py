"""The face's table: each row one endpoint of the protocol, with request type and permission."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response

from mainspring.api.verb import Call
from mainspring.server.mlflow.wire import answer, read_body, read_query
from mainspring.server.routing import Asked, Permission, Route, Together

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
class Sharing(Endpoint):
    """An endpoint whose requests share a write, and are answered when it is durable.

    `function` reads a request into what is begun; `begin` does all that came at once, and `shown`
    makes the answer of what came of one, which is empty without it.
    """

    function: Callable[[Any], Any]  # type: ignore[assignment]
    begin: Callable[[Call, Sequence[Any]], Future[list[Any]]] = field(kw_only=True)
    shown: Callable[[Any], msgspec.Struct] | None = field(default=None, kw_only=True)

    def route(self) -> Route:
        """Give it as a route whose requests share a write."""
        show = None if self.shown is None else self._show
        together = Together(self._wanted, self.begin, show)
        return Route(self.method, self.path, self.access, self._handle, together=together)

    def _handle(self, asked: Asked) -> Response:
        (outcome,) = self.begin(asked.call, [self._wanted(asked.body)]).result()
        if isinstance(outcome, Exception):
            raise outcome
        return self._show(outcome)

    def _wanted(self, body: bytes) -> Any:
        if self.check is not None:
            self.check(body)
        return self.function(read_body(body, self.request))

    def _show(self, outcome: Any) -> Response:
        return answer(None if self.shown is None else self.shown(outcome))


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Give endpoints as routes."""
    return [endpoint.route() for endpoint in endpoints]
