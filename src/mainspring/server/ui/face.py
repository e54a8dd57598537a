"""The console as a face of the server: its routes, each with what it takes to see it."""

from starlette.responses import Response

from mainspring.platform import Platform
from mainspring.server.routing import Asked, Face, Open, Permission, Route
from mainspring.server.ui import card_page, decisions, endpoint_page, record_pages, trace_page
from mainspring.server.ui.first_page import FirstPage
from mainspring.server.ui.page import HERE, STATIC, error_page
from mainspring.server.ui.processes import Watched

_YEAR_S = 365 * 24 * 3600


def face(platform: Platform, control: Watched | None) -> Face:  # noqa: ARG001
    """Give the console's routes.

    Args:
        platform: The opened platform; pages read it through what they are asked with.
        control: Says which processes the platform has; none when it runs in one.
    """
    return Face(prefix="", routes=_routes(control), on_error=error_page, name="console")


def _routes(control: Watched | None) -> list[Route]:
    return [
        Route("GET", "/", Permission("project", "read"), FirstPage(control)),
        Route("GET", "/endpoints/{name}", Permission("endpoint", "read"), endpoint_page.show),
        *decisions.routes(),
        Route("GET", "/models/{model}/{version}", Permission("model", "read"), card_page.show),
        Route("GET", "/traces", Permission("prediction", "read"), trace_page.search),
        Route("GET", "/traces/{prediction}", Permission("prediction", "read"), trace_page.show),
        Route("GET", "/runs", Permission("run", "read"), record_pages.all_runs),
        Route("GET", "/runs/{run}", Permission("run", "read"), record_pages.one_run),
        Route("GET", "/ledger", Permission("ledger", "read"), record_pages.ledger),
        Route("GET", "/data", Permission("dataset", "read"), record_pages.datasets),
        Route("GET", "/data/{name}", Permission("dataset", "read"), record_pages.dataset),
        *(
            Route("GET", f"/static/{name}", Open("the same style and script for everybody"),
                  _Static(name, kind))
            for name, kind in STATIC.items()
        ),
    ]  # fmt: skip


class _Static:
    """One of the console's own files, read once."""

    def __init__(self, name: str, kind: str) -> None:
        self._content = (HERE / "static" / name).read_bytes()
        self._kind = kind

    def __call__(self, asked: Asked) -> Response:  # noqa: ARG002
        # Pages name the content's digest in the address, so a newer file has another one.
        caching = f"public, max-age={_YEAR_S}, immutable"
        return Response(self._content, headers={"Cache-Control": caching}, media_type=self._kind)
