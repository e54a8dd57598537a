"""One table of routes: each says what a caller must be allowed, and is denied otherwise."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from mainspring.access.permissions import PERMISSIONS
from mainspring.api.verb import Call


@dataclass(frozen=True, slots=True)
class Permission:
    """What a caller's role must allow, as `access.permissions` names it."""

    resource: str
    action: str


@dataclass(frozen=True, slots=True)
class Open:
    """Anybody may, and why: nothing of a project is in the answer."""

    because: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, after it was let in.

    `body` is whole and within the limit (empty for a route that streams); `params` are the parts
    of the path that the route names. The actor of an open route is "nobody".
    """

    request: Request
    call: Call
    body: bytes
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Together:
    """How requests that came at once are done as one: each is read alone, all share one write.

    Attributes:
        read: Gives what a body asks for; raises what its caller is told.
        begin: Does all of it for one project; the answer names for each the error that its caller
            is told, or what came of it. What it raises is told to all of them.
        show: Makes the answer of what came of one; without it all that is done is answered alike.
    """

    read: Callable[[bytes], Any]
    begin: Callable[[Call, Sequence[Any]], Future[list[Any]]]
    show: Callable[[Any], Response] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path below its face's prefix.

    A plain handler runs in a thread with the body read; one that streams is `async`, runs in the
    event loop, must not block, and finds no body read. `together` has the same outcome as a
    plain handler for small bodies: where little is done, a thread costs more.
    """

    method: str
    path: str
    access: Permission | Open
    handler: Callable[[Asked], Response] | Callable[[Asked], Awaitable[Response]]
    streams: bool = False
    together: Together | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A protocol: its routes, and how it tells errors. `name` is its label in metrics."""

    prefix: str
    routes: Sequence[Route]
    on_error: Callable[[Exception], Response]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """A route at its whole path."""

    face: Face
    route: Route
    path: str
    pattern: re.Pattern[str]
    convert: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)

    def params(self, found: re.Match[str]) -> dict[str, Any]:
        """Give the named parts of a path that the pattern has matched."""
        return {name: self.convert[name](text) for name, text in found.groupdict().items()}


@dataclass(frozen=True, slots=True)
class Found:
    """What the table says to a method and a path."""

    placed: Placed | None
    params: Mapping[str, Any]
    allowed: tuple[str, ...]
    """Methods that the path has; empty when there is no such path."""
    face: Face | None
    """Whose way of telling errors holds here."""


class RouteTable:
    """All routes of all faces; made once, and not made at all when one is wrong.

    Raises:
        RuntimeError: A route has no permission, an unknown one, or the place of another.
    """

    def __init__(self, faces: Iterable[Face]) -> None:
        self.faces = tuple(faces)
        self.placed = tuple(_place(face, route) for face in self.faces for route in face.routes)
        _check_apart(self.placed)
        # Most paths have no parameters: they are found without trying patterns in turn.
        self._plain: dict[str, dict[str, Placed]] = {}
        self._patterns: list[Placed] = []
        for placed in self.placed:
            if placed.convert:
                self._patterns.append(placed)
            else:
                self._plain.setdefault(placed.path, {})[placed.route.method] = placed

    def find(self, method: str, path: str) -> Found:
        """Look a request's route up; HEAD is answered by GET."""
        method = "GET" if method == "HEAD" else method
        allowed = dict.fromkeys(self._plain.get(path, {}))
        if method in allowed:
            placed = self._plain[path][method]
            return Found(placed, {}, tuple(allowed), placed.face)
        for placed in self._patterns:
            found = placed.pattern.fullmatch(path)
            if found is None:
                continue
            if placed.route.method == method:
                return Found(placed, placed.params(found), (*allowed, method), placed.face)
            allowed[placed.route.method] = None
        return Found(None, {}, tuple(allowed), self._face_of(path))

    def _face_of(self, path: str) -> Face | None:
        around = [
            face
            for face in self.faces
            if face.prefix and (path == face.prefix or path.startswith(f"{face.prefix}/"))
        ]
        return max(around, key=lambda face: len(face.prefix), default=None)


def _place(face: Face, route: Route) -> Placed:
    path = face.prefix + route.path
    what = f"route {route.method} {path}"
    if not path.startswith("/"):
        raise RuntimeError(f"{what}: a path begins with '/'; correct it")
    match route.access:
        case Permission(resource, action):
            if (resource, action) not in PERMISSIONS:
                raise RuntimeError(
                    f"{what} needs {action!r} on {resource!r}, which access.permissions does not "
                    "name; add the pair there with its role"
                )
        case Open(because):
            if not because:
                raise RuntimeError(f"{what} is open to anybody without a reason; give one")
        case other:
            raise RuntimeError(
                f"{what} has {other!r} where its permission belongs; give it a Permission, or "
                "Open with the reason"
            )
    pattern, _, converters = compile_path(path)
    convert = {name: converter.convert for name, converter in converters.items()}
    return Placed(face, route, path, pattern, convert)


def _check_apart(placed: Sequence[Placed]) -> None:
    taken: dict[tuple[str, str], Placed] = {}
    for one in placed:
        place = (one.route.method, re.sub(r"\{[^}:]*", "{", one.path))
        if place in taken:
            raise RuntimeError(
                f"route {one.route.method} {one.path} has the place of {taken[place].path}; "
                "one of them goes"
            )
        taken[place] = one
