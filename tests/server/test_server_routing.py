"""The table of routes: nothing is served that does not say who may."""

from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse, Response

from mainspring.access.permissions import PERMISSIONS
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control
from mainspring.server.faces import all_faces
from mainspring.server.routing import Asked, Face, Open, Permission, Route, RouteTable
from mainspring.server.statuses import tell

READ = Permission("project", "read")


def said(asked: Asked) -> Response:
    return PlainTextResponse(asked.request.url.path)


def table(*routes: Route, prefix: str = "") -> RouteTable:
    return RouteTable([Face(prefix, routes, tell)])


def test_a_route_without_a_permission_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="GET /x has None where its permission belongs"):
        table(Route("GET", "/x", None, said))  # type: ignore[arg-type]


def test_a_permission_that_no_role_has_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="needs 'erase' on 'dataset'"):
        table(Route("POST", "/x", Permission("dataset", "erase"), said))


def test_an_open_route_says_why() -> None:
    with pytest.raises(RuntimeError, match="open to anybody without a reason"):
        table(Route("GET", "/x", Open(""), said))


@pytest.mark.parametrize(
    ("one", "other"), [("/a", "/a"), ("/a/{x}", "/a/{y}"), ("/a/{x:int}", "/a/{y:int}")]
)
def test_two_routes_of_one_place_stop_the_start(one: str, other: str) -> None:
    with pytest.raises(RuntimeError, match="has the place of"):
        RouteTable(
            [
                Face("", [Route("GET", one, READ, said)], tell),
                Face("", [Route("GET", other, READ, said)], tell),
            ]
        )


def test_a_path_is_found_by_method_and_a_head_by_get() -> None:
    routes = table(
        Route("GET", "/a/{name}", READ, said),
        Route("POST", "/a/{name}", READ, said),
        Route("GET", "/a/b", READ, said),
        prefix="/f",
    )

    named = routes.find("POST", "/f/a/x")
    plain = routes.find("HEAD", "/f/a/b")
    other = routes.find("DELETE", "/f/a/x")
    none = routes.find("GET", "/f/c")

    assert named.placed is not None
    assert (named.placed.route.method, named.params) == ("POST", {"name": "x"})
    assert plain.placed is not None
    assert plain.placed.path == "/f/a/b"
    assert (other.placed, set(other.allowed)) == (None, {"GET", "POST"})
    assert (none.placed, none.allowed) == (None, ())
    assert none.face is routes.faces[0]
    assert routes.find("GET", "/elsewhere").face is None


def test_what_the_process_serves_has_a_permission_or_a_reason_for_each_route(
    tmp_path: Path,
) -> None:
    with Platform.open(Config(), tmp_path / "home", clock=SystemClock()) as platform:
        control = Control(None, platform.clock.now())
        app = build_app(platform, control, faces=all_faces(platform, control))

        for placed in app.table.placed:
            match placed.route.access:
                case Permission(resource, action):
                    assert (resource, action) in PERMISSIONS
                case Open(because):
                    assert placed.route.method == "GET", placed.path
                    assert because
