"""The worker's one table of routes: each with its permission, or with why it needs none."""

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from mainspring.core.errors import MainspringError
from mainspring.core.ids import DEFAULT_PROJECT
from mainspring.serving.callers import Callers
from mainspring.serving.http import BUSY, Request, Response, failed

_STATUS = {
    "invalid_input": 400,
    "schema_mismatch": 400,
    "not_authenticated": 401,
    "not_permitted": 403,
    "not_found": 404,
    "refused": 400,
    "unavailable": 503,
    "timed_out": 504,
}
_ROUTED = 1024
_LONGEST_KEPT = 512


class Asked(msgspec.Struct, frozen=True, gc=False):
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
    answer: Callable[[Asked], Response] | None = None
    together: Callable[[Sequence[Asked]], Sequence[Response | Exception]] | None = None
    """Instead of `answer`: for the requests of a turn, each with its answer or its error."""


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
        after: Callable[[Sequence[Response]], None],
    ) -> None:
        self._callers = callers
        self._before = before
        self._after = after
        self._patterns: dict[tuple[str, ...], dict[str, Route]] = {}
        self._found: dict[str, _Found] = {}
        self._looked = False
        for route in routes:
            methods = self._patterns.setdefault(tuple(route.pattern.split("/")[1:]), {})
            if not isinstance(route.access, Permission | Open) or route.method in methods:
                raise ValueError(f"route {route.method} {route.pattern}: no access, or twice")
            if (route.answer is None) is (route.together is None):
                raise ValueError(f"route {route.method} {route.pattern}: one answer, not more")
            methods[route.method] = route

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        return self.answer([request])[0]

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        """Answer the requests of a turn; what one does wrong is no matter of the others."""
        self._callers.begin_turn()
        self._looked = False
        responses: dict[int, Response] = {}
        # Heads alike are admitted alike, all in one turn. The requests keep the headers alive.
        admitted: dict[tuple[int, str, str], Response | tuple[Route, _Found]] = {}
        waiting: dict[int, tuple[_Together, list[int], list[Asked]]] = {}
        for i, request in enumerate(requests):
            try:
                head = (id(request.headers), request.target, request.method)
                found = admitted.get(head)
                if found is None:
                    found = admitted[head] = self._admitted(request)
                if isinstance(found, Response):
                    responses[i] = found
                    continue
                route, place = found
                asked = Asked(request, place.project, place.endpoint, place.version)
                if route.answer is not None:
                    responses[i] = route.answer(asked)
                    continue
            except Exception as error:
                responses[i] = _failed(error)
                continue
            assert route.together is not None
            # By what answers, not by route: an id may be used on several of its routes.
            together = route.together
            _, places, all_asked = waiting.setdefault(id(together), (together, [], []))
            places.append(i)
            all_asked.append(asked)
        for together, places, all_asked in waiting.values():
            responses.update(zip(places, _answered(together, all_asked), strict=True))
        answers = [responses[i] for i in range(len(requests))]
        self._after(answers)
        return answers

    def _admitted(self, request: Request) -> Response | tuple[Route, _Found]:
        turned_away = self._callers.turned_away(request)
        if turned_away is not None:
            return turned_away
        found = self._find(request.target)
        if found is None:
            return failed(404, "no such path; GET /v2 says what is served here")
        method = "GET" if request.method == "HEAD" else request.method
        route = found.routes.get(method)
        if route is None:
            allowed = ", ".join(sorted(found.routes))
            return failed(405, f"expected the method {allowed}", ("Allow", allowed))
        if not self._looked:
            # Once a turn, and before the first answer: a table published before is in force.
            self._before()
            self._looked = True
        if isinstance(route.access, Permission):
            self._callers.check(request, found.project, route.access)
        return route, found

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


_Together = Callable[[Sequence[Asked]], Sequence[Response | Exception]]


def _answered(together: _Together, asked: Sequence[Asked]) -> list[Response]:
    try:
        found = together(asked)
    except Exception as error:
        return [_failed(error)] * len(asked)
    return [one if isinstance(one, Response) else _failed(one) for one in found]


def _failed(error: Exception) -> Response:
    if not isinstance(error, MainspringError):
        # One request must not end the worker; the log has the trace.
        traceback.print_exception(error, file=sys.stderr)
        return failed(500, "the worker failed on this request; its log says why")
    status = _STATUS.get(error.code, 500)
    headers = (("WWW-Authenticate", 'Bearer realm="mainspring"'),) if status == 401 else ()
    if status == 503:
        headers = (BUSY,)
    return failed(status, str(error), *headers)
