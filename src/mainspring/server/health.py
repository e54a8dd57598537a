"""Is the process alive, and can it do its work?"""

from collections.abc import Callable, Sequence

import msgspec
from starlette.responses import PlainTextResponse, Response

from mainspring.core.errors import MainspringError
from mainspring.formats import routes as published
from mainspring.platform import Platform
from mainspring.server.routing import Asked, Open, Route

OK = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """Each part, "ok" or what is wrong with it."""

    ready: bool
    database: str
    routes: str
    loop: str


def routes(platform: Platform) -> Sequence[Route]:
    """Give `/health` and `/ready`."""

    async def health(_: Asked) -> Response:
        return PlainTextResponse("OK")

    def ready(_: Asked) -> Response:
        found = readiness(platform)
        status = 200 if found.ready else 503
        return Response(msgspec.json.encode(found), status, media_type="application/json")

    return (
        Route("GET", "/health", Open("says only that the process answers"), health, streams=True),
        Route("GET", "/ready", Open("says only which part is not well"), ready),
    )


def readiness(platform: Platform) -> Readiness:
    """Look at each part, now."""
    database = _said(lambda: platform.ledger.facts(limit=1))
    table = _said(lambda: published.load(platform.home.routes))
    loop = OK if platform.turning() else "the loop's threads are gone; restart the platform"
    well = all(part == OK for part in (database, table, loop))
    return Readiness(well, database, table, loop)


def _said(look: Callable[[], object]) -> str:
    try:
        look()
    except MainspringError as error:
        return str(error)
    return OK
