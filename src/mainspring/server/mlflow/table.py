"""The face's table: each row one endpoint of the protocol, with request type and permission."""

from collections.abc import Callable, Iterable
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
    function: Callable[[Call, Any], msgspec.Struct | None]
    check: Callable[[bytes], None] | None = None

    def route(self) -> Route:
        """Give it as a route below the face's prefix."""
        return Route(self.method, self.path, self.access, self._handle)

    def _handle(self, asked: Asked) -> Response:
        if self.check is not None:
            self.check(asked.body)
        if self.method == "GET":
            request = read_query(asked.request.query_params, self.request)
        else:
            request = read_body(asked.body, self.request)
        known = {name: value for name, value in asked.params.items() if value is not None}
        if known:
            request = msgspec.structs.replace(request, **known)
        return answer(self.function(asked.call, request))


def routes(endpoints: Iterable[Endpoint]) -> list[Route]:
    """Give endpoints as routes."""
    return [endpoint.route() for endpoint in endpoints]
