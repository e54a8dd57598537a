"""Every route, asked by nobody, a stranger and a viewer: right status, nothing changed."""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from api_bodies import BODIES

from mainspring.access.permissions import PERMISSIONS
from mainspring.api.table import TABLE
from mainspring.server.app import build_app
from mainspring.server.faces import all_faces
from mainspring.server.routing import Open, Permission, Placed

if TYPE_CHECKING:
    from tests.server.conftest import Serve, Served

PATH_PARTS = {"int": "1", "path": "a/b"}


def filled(path: str) -> str:
    """Give a path of a route's template."""
    out = []
    for part in path.split("{"):
        name, brace, rest = part.partition("}")
        kind = name.partition(":")[2]
        out.append(PATH_PARTS.get(kind, "x") + rest if brace else part)
    return "".join(out)


def request_of(placed: Placed) -> tuple[str, bytes | None]:
    """Give a request that the route could take."""
    verb = next((one for one in TABLE.values() if f"/api/v1{one.path}" == placed.path), None)
    if verb is None:
        return filled(placed.path), None if placed.route.method == "GET" else b"{}"
    body: dict[str, Any] = BODIES.get(verb.name, {})
    if verb.method == "GET":
        return f"{placed.path}?{urlencode(body)}", None
    return placed.path, json.dumps(body).encode()


def asked_all(served: "Served", headers: dict[str, str], prefix: str = "") -> dict[Placed, int]:
    app = build_app(
        served.platform, served.control, faces=all_faces(served.platform, served.control)
    )
    found = {}
    for placed in app.table.placed:
        if isinstance(placed.route.access, Open) or placed.path.endswith("/events/stream"):
            continue
        path, body = request_of(placed)
        answer = served.ask(
            placed.route.method,
            prefix + path,
            body,
            {"Content-Type": "application/json", **headers},
        )
        found[placed] = answer.status
    return found


def started_with_faces(serve: "Serve") -> "Served":
    served = serve()
    served.stop()
    served.control.draining.clear()
    served.start(all_faces(served.platform, served.control))
    return served


def test_nobody_and_a_stranger_get_nothing_and_change_nothing(serve: "Serve") -> None:
    served = started_with_faces(serve)
    served.token("ann", "admin")
    before = served.content()

    nobody = asked_all(served, {})
    stranger = asked_all(served, {"Authorization": "Bearer nonesuch"})
    elsewhere = asked_all(served, {}, prefix="/p/other")

    assert len(nobody) > 40
    for statuses in (nobody, stranger, elsewhere):
        wrong = {placed.path: status for placed, status in statuses.items() if status != 401}
        assert not wrong
    assert served.content() == before


def test_a_viewer_may_read_and_is_refused_the_rest(serve: "Serve") -> None:
    served = started_with_faces(serve)
    served.token("ann", "admin")
    viewer = {"Authorization": f"Bearer {served.token('vic', 'viewer')}"}
    # The first look at MLflow's experiments makes its default one.
    served.ask("GET", "/api/2.0/mlflow/experiments/search?max_results=1", headers=viewer)
    before = served.content()

    statuses = asked_all(served, viewer)

    for placed, status in statuses.items():
        access = placed.route.access
        assert isinstance(access, Permission)
        may = PERMISSIONS[access.resource, access.action] == "viewer"
        assert (status == 403) == (not may), (placed.path, status)
        assert status not in (401, 500), placed.path
    assert served.content() == before


def test_a_token_holds_in_its_own_project_only(serve: "Serve") -> None:
    served = serve()
    mine = {"Authorization": f"Bearer {served.token('ann', 'admin')}"}

    here = served.ask("GET", "/api/v1/access/list", headers=mine)
    there = served.ask("GET", "/p/other/api/v1/access/list", headers=mine)
    named = served.ask("GET", "/api/v1/access/list?project=other", headers=mine)

    assert (here.status, there.status, named.status) == (200, 401, 401)


def test_the_permission_is_looked_at_before_the_body(serve: "Serve") -> None:
    served = serve()
    served.token("ann", "admin")
    viewer = {"Authorization": f"Bearer {served.token('vic', 'viewer')}"}

    answer = served.ask("POST", "/api/v1/project/apply", b"[" * 1000, viewer)

    assert (answer.status, answer.code) == (403, "not_permitted")
