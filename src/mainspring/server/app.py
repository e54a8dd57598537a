"""The control process's one door: every request goes through here, in this order.

Host and origin, route, project, token, permission, body, handler. A refusal at one step means that
none of the later ones ran.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mainspring.access.actors import Access
from mainspring.api.verb import Call
from mainspring.core.errors import MainspringError, NotFound
from mainspring.core.ids import DEFAULT_PROJECT, checked_name
from mainspring.platform import Platform
from mainspring.server import events, health, metrics, native, openapi, security, statuses
from mainspring.server.control import Control
from mainspring.server.quick import Quick
from mainspring.server.routing import Asked, Face, Found, Open, Permission, Placed, RouteTable
from mainspring.server.turns import Turns

THREADS = 64
"""Requests that are worked on at once."""

UNDER_WAY_AT_MOST = 512
"""Requests that may wait for a thread besides; more are sent away."""

NOBODY = "nobody"
PROJECTS = "/p/"

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class _Way:
    """How far a request came: for its error and its measurement."""

    face: Face | None = None
    placed: Placed | None = None


class ControlApp:
    """The ASGI application: one table of routes, and what holds for all of them."""

    def __init__(
        self, platform: Platform, control: Control, table: RouteTable, measured: metrics.Measured
    ) -> None:
        self.table = table
        self._platform = platform
        self._control = control
        self._measured = measured
        self._hosts = security.Hosts(platform.config)
        self._identities = security.Identities(platform)
        self._limit_bytes = platform.config.request_limit_mib << 20
        self._threads = ThreadPoolExecutor(THREADS, "request")
        self._under_way = 0
        self._default = platform.project(DEFAULT_PROJECT)
        self._projects = {DEFAULT_PROJECT}
        self._turns = Turns(lambda error, placed: _told(error, placed.face), measured)
        self.quick = Quick(
            targets={
                (placed.route.method.encode(), placed.path.encode()): placed
                for placed in table.placed
                if placed.route.together is not None and not placed.convert
            },
            let_in=self._let_in_at_hand,
            stamp=lambda: (platform.tokens.changes, self._refuses()),
            turns=self._turns,
            with_defaults=_with_defaults,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other protocols than HTTP are turned down."""
        if scope["type"] != "http":
            raise RuntimeError(f"found a scope of type {scope['type']!r}, expected 'http'")
        request = Request(scope, receive)
        way, began = _Way(), time.perf_counter()
        status = 0

        async def guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_defaults(message["headers"])
            await send(message)

        self._under_way += 1
        try:
            response = await self._respond(request, way)
            await response(scope, receive, guarded)
        except ClientDisconnect:
            return
        finally:
            self._under_way -= 1
            self._measured.request(way.placed, status, time.perf_counter() - began)

    def close(self) -> None:
        """Take no more work; what a thread is in the middle of is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _respond(self, request: Request, way: _Way) -> Response:
        try:
            return await self._answer(request, way)
        except ClientDisconnect:
            raise
        except Exception as error:
            return _told(error, way.face)

    async def _answer(self, request: Request, way: _Way) -> Response:
        self._hosts.check(request)
        project, found = self._route(request)
        way.face, way.placed = found.face, found.placed
        if found.placed is None:
            raise _nowhere(request, found)
        route = found.placed.route
        if isinstance(route.access, Open) and route.streams and project is None:
            call = Call(self._platform, self._default, NOBODY)
            return await _streamed(found.placed, Asked(request, call, b"", found.params))
        if self._control.draining.is_set():
            raise statuses.Starting(
                "the control process ends and its successor starts; nothing was begun: repeat it"
            )
        if self._overloaded():
            raise statuses.Overloaded(
                f"more than {UNDER_WAY_AT_MOST} requests are under way; nothing was begun: repeat "
                "it a little later"
            )
        return await self._let_in(request, found, project)

    async def _let_in(self, request: Request, found: Found, project: str | None) -> Response:
        placed = cast("Placed", found.placed)
        streams = placed.route.streams
        if streams or security.has_body(request):
            call = await self._in_thread(lambda: self._call(request, placed, project))
            body = b""
            if not streams:
                body = await security.read_body(request, limit_bytes=self._limit_bytes)
            asked = Asked(request, call, body, found.params)
            if streams:
                return await _streamed(placed, asked)
            return await self._in_thread(lambda: _handled(placed, asked))
        # Without a body there is nothing to wait for between the permission and the work.
        return await self._in_thread(
            lambda: _handled(
                placed, Asked(request, self._call(request, placed, project), b"", found.params)
            )
        )

    def _route(self, request: Request) -> tuple[str | None, Found]:
        """Find the route, and the project that the path names before it."""
        path: str = request.scope["path"]
        if not path.startswith(PROJECTS):
            return None, self.table.find(request.method, path)
        name, _, rest = path.removeprefix(PROJECTS).partition("/")
        request.scope["root_path"] = f"{PROJECTS}{name}"
        return name, self.table.find(request.method, f"/{rest}")

    def _refuses(self) -> bool:
        return self._control.draining.is_set() or self._overloaded()

    def _overloaded(self) -> bool:
        return self._under_way + self._turns.under_way > UNDER_WAY_AT_MOST

    def _let_in_at_hand(self, request: Request) -> Call | None:
        """Let the caller of a quick request in; None where it must be asked the long way."""
        try:
            self._hosts.check(request)
            project, found = self._route(request)
            if found.placed is None or self._refuses():
                return None
            return self._call_at_hand(request, found.placed, project)
        except MainspringError:
            return None

    def _call_at_hand(self, request: Request, placed: Placed, in_path: str | None) -> Call | None:
        """Let the caller in if nothing has to be read for it."""
        needed = placed.route.access
        if isinstance(needed, Open):
            return None
        name = self._project_of(request, placed, in_path)
        caller = self._identities.kept(name, request) if name in self._projects else None
        if caller is None:
            return None
        project = self._platform.project(name)
        security.check(caller, project.access, needed)
        return Call(self._platform, project, caller.actor.name)

    def _call(self, request: Request, placed: Placed, in_path: str | None) -> Call:
        """Let the caller in, or not. A project nobody was let into is not built."""
        match placed.route.access:
            case Open():
                name = self._known(in_path)
                return Call(self._platform, self._platform.project(name), NOBODY)
            case Permission() as needed:
                name = self._project_of(request, placed, in_path)
                access = self._access(name)
                caller = self._identities.identify(access, request)
                security.check(caller, access, needed)
                self._projects.add(name)
                return Call(self._platform, self._platform.project(name), caller.actor.name)

    def _project_of(self, request: Request, placed: Placed, in_path: str | None) -> str:
        name = in_path
        if name is None and placed.face.name == native.NAME and request.method == "GET":
            name = native.project_asked(request)
        return DEFAULT_PROJECT if name is None else checked_name(name, what="project")

    def _known(self, name: str | None) -> str:
        if name is None or name in self._projects:
            return name or DEFAULT_PROJECT
        ledger = self._platform.ledger
        if not ledger.facts(project=checked_name(name, what="project"), limit=1):
            raise NotFound(f"project {name!r} does not exist; check its name")
        self._projects.add(name)
        return name

    def _access(self, name: str) -> Access:
        platform = self._platform
        if name in self._projects:
            return platform.project(name).access
        actor = platform.config.actor
        return Access(name, platform.database, platform.ledger, platform.ids, local_actor=actor)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def build_app(platform: Platform, control: Control, *, faces: Sequence[Face] = ()) -> ControlApp:
    """Put the application together.

    Args:
        platform: The opened home.
        control: The process around it.
        faces: Protocols beside the native API.

    Raises:
        RuntimeError: A route has no permission, an unknown one, or the place of another.
    """
    measured = metrics.Measured(platform, control)
    table = RouteTable(
        [
            Face("", health.routes(platform), statuses.tell, name="health"),
            Face("", [measured.route()], statuses.tell, name="metrics"),
            native.face([events.route(platform, control), *openapi.routes()]),
            *faces,
        ]
    )
    return ControlApp(platform, control, table, measured)


def _handled(placed: Placed, asked: Asked) -> Response:
    return cast("Response", placed.route.handler(asked))


async def _streamed(placed: Placed, asked: Asked) -> Response:
    return await cast("Awaitable[Response]", placed.route.handler(asked))


def _nowhere(request: Request, found: Found) -> Exception:
    path = request.scope["path"]
    if found.allowed:
        allowed = tuple(sorted({*found.allowed, *({"HEAD"} if "GET" in found.allowed else ())}))
        return statuses.NoSuchMethod(
            f"{request.method[:20]} {path[:200]!r}: expected {' or '.join(allowed)}", allowed
        )
    return statuses.NoSuchPath(f"path {path[:200]!r} does not exist; see /api/v1/docs")


def _told(error: Exception, face: Face | None) -> Response:
    """Tell an error in its face's way; a face that cannot tell one is no reason to say nothing."""
    try:
        response = (face.on_error if face is not None else statuses.tell)(error)
    except Exception as worse:
        response = statuses.tell(worse)
    headers = MutableHeaders(raw=response.raw_headers)
    for name, value in statuses.headers_of(error).items():
        headers.setdefault(name, value)
    return response


def _with_defaults(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    given = {name.lower() for name, _ in headers}
    return [*headers, *(each for each in security.HEADERS if each[0] not in given)]
