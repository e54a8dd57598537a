"""The first page: every endpoint's loop, the newest verdicts and facts, and the processes."""

from starlette.responses import Response

from mainspring.core.errors import NotFound
from mainspring.core.events import Committed, Fact
from mainspring.loop import state
from mainspring.server.routing import Asked
from mainspring.server.ui import processes
from mainspring.server.ui.page import page
from mainspring.server.ui.ring import ring
from mainspring.server.ui.telling import base_of

FACTS = 14
LOOKED_AT = 300
VERDICTS = 6


class FirstPage:
    """The page at `/`."""

    def __init__(self, watched: processes.Watched | None) -> None:
        self._watched = watched

    def __call__(self, asked: Asked) -> Response:
        call = asked.call
        stages, base = call.project.stages, base_of(call.project.name)
        with stages.database.read() as connection:
            declared = [one.name for one in state.endpoints(connection, stages.project)]
            verdicts = [
                row
                for name in declared
                for row in state.verdicts(connection, stages.project, name)[-VERDICTS:]
            ]
        try:
            source = call.project.applied().source
        except NotFound:
            source = None
        return page(
            call,
            "loop.html",
            rings=[ring(stages, name, base) for name in declared],
            verdicts=sorted(verdicts, key=lambda row: -row.seq)[:VERDICTS],
            facts=_newest(asked),
            processes=processes.lines(self._watched),
            source=source,
            datasets=sorted(stages.datasets.specs()),
            committed=bool(stages.datasets.pins()),
        )


def _newest(asked: Asked) -> list[Fact]:
    """Give the newest facts; commits, which are many, only as each dataset's last."""
    found = asked.call.platform.ledger.facts(
        project=asked.call.project.name, limit=LOOKED_AT, newest_first=True
    )
    shown: list[Fact] = []
    committed: set[str] = set()
    for fact in found:
        if isinstance(fact.event, Committed):
            if fact.subject.name in committed:
                continue
            committed.add(fact.subject.name)
        shown.append(fact)
    return shown[:FACTS]
