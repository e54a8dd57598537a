"""The page of one model version: its card."""

from starlette.responses import Response

from mainspring.api.models import CARD, OfVersion
from mainspring.server.routing import Asked
from mainspring.server.ui.page import page


def show(asked: Asked) -> Response:
    """Show what is recorded of a version."""
    params = asked.params
    request = OfVersion(
        project=asked.call.project.name, model=params["model"], version=params["version"]
    )
    return page(asked.call, "card.html", card=CARD.function(asked.call, request))
