"""The worker's one table of routes: each with its permission, or with why it needs none."""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from mainspring.core.errors import MainspringError
from mainspring.core.ids import DEFAULT_PROJECT
from mainspring.serving.callers import Callers
from mainspring.serving.http import Request, Response, failed

_STATUS = {
    "invalid_input": 400,
    "schema_mismatch": 400,
    "not_authenticated": 401,
    "not_permitted": 403,
    "not_found": 404,
    "unavailable": 503,
}
_ROUTED = 1024
_LONGEST_KEPT = 512


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with what its target names."""

    request: Request
    project: str
    endpoint: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Permission:
    """What a caller must be allowed to do."""

    resource: str
    action: str

    def __str__(self) -> str:
        return f"{self.resource}/{self.action}"


@dataclass(frozen=True, slots=True)
class Open:
    """Why everybody may."""

    because: str


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked."""

    method: str
    pattern: str
    """Path below the project's root; `{endpoint}` and `{version}` stand for one part each."""
    access: Permission | Open
    answer: Callable[[Asked], Response]


@dataclass(frozen=True, slots=True)
class _Found:
    project: str
    endpoint: str
    version: str | None
    routes: dict[str, Route]
    """By method."""


class App:
    """Finds the route of a request, checks the caller, answers; never raises.

    Raises:
        ValueError: When made: a route has no access, or is there twice.
    """

    def __init__(
        self,
        routes: tuple[Route, ...],
        callers: Callers,
        *,
        before: Callable[[], object],
        after: Callable[[Asked | None, Response], None],
    ) -> None:
        self._callers = callers
        self._before = before
        self._after = after
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        self._found: dict[str, _Found] = {}
        for route in routes:
            methods = self._patterns.setdefault(tuple(route.pattern.split("/")[1:]), {})
            if not isinstance(route.access, Permission | Open) or route.method in methods:
                raise ValueError(f"route {route.method} {route.pattern}: no access, or twice")
            methods[route.method] = route

    def __call__(self, request: Request) -> Response:
        asked = None
        try:
            response = self._callers.turned_away(request)
            if response is None:
                asked, response = self._answer(request)
        except MainspringError as error:
            response = _refused(error)
        except Exception:  # one request must not end the worker; the log has the trace
            traceback.print_exc(file=sys.stderr)
            response = failed(500, "the worker failed on this request; its log says why")
        self._after(asked, response)
        return response

    def _answer(self, request: Request) -> tuple[Asked | None, Response]:
        found = self._find(request.target)
        if found is None:
            return None, failed(404, "no such path; GET /v2 says what is served here")
        method = "GET" if request.method == "HEAD" else request.method
        route = found.routes.get(method)
        if route is None:
            allowed = ", ".join(sorted(found.routes))
            return None, failed(405, f"expected the method {allowed}", ("Allow", allowed))
        asked = Asked(request, found.project, found.endpoint, found.version)
        self._before()
        if isinstance(route.access, Permission):
            self._callers.check(request, found.project, str(route.access))
        return asked, route.answer(asked)

    def _find(self, target: str) -> _Found | None:
        if (found := self._found.get(target)) is not None:
            return found
        found = self._match(target)
        if found is not None and len(target) <= _LONGEST_KEPT:
            # A client that makes up targets only empties the memory.
            if len(self._found) >= _ROUTED:
                self._found.clear()
            self._found[target] = found
        return found

    def _match(self, target: str) -> _Found | None:
        path = target.partition("?")[0]
        if not path.startswith("/"):
            return None
        # Split before decoding: a decoded slash is part of a name, which no endpoint has.
        parts = [unquote(part) for part in path.split("/")[1:]]
        project = DEFAULT_PROJECT
        if parts[0] == "p" and len(parts) > 2:
            project, parts = parts[1], parts[2:]
        for pattern, routes in self._patterns.items():
            if len(pattern) == len(parts):
                names = _names(pattern, parts)
                if names is not None:
                    return _Found(project, names.get("endpoint", ""), names.get("version"), routes)
        return None


def _names(pattern: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    names = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            names[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return names


def _refused(error: MainspringError) -> Response:
    status = _STATUS.get(error.code, 500)
    headers = (("WWW-Authenticate", 'Bearer realm="mainspring"'),) if status == 401 else ()
    return failed(status, str(error), *headers)
