"""The page of one prediction: the way back to its features, model, run, commit, rows and people."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from mainspring.api.ledger import TRACE, Prediction
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.governance.trace import Section
from mainspring.server.routing import Asked
from mainspring.server.ui import charts
from mainspring.server.ui.page import page
from mainspring.server.ui.telling import base_of
from mainspring.validation.verdict import Finding, Verdict

_REFERENCE = re.compile(r"[0-9a-f]{32}(:\d{1,7})?")
_KINDS = {
    "prediction": "prediction",
    "features": "features",
    "version": "version",
    "run": "run",
    "code": "code",
    "datasets": "data",
    "gate": "gate",
    "rollout": "rollout",
}


@dataclass(frozen=True, slots=True)
class Stop:
    """One section of a trace, with what its kind is."""

    kind: str
    title: str
    lines: tuple[str, ...]
    data: Any
    findings: tuple[tuple[Finding, Markup], ...]
    """Of a gate: what it found, each drawn."""


def search(asked: Asked) -> Response:
    """Lead from the search box to a prediction's page, or say what an id looks like."""
    wanted = asked.request.query_params.get("id", "").strip().lower()
    if wanted and _REFERENCE.fullmatch(wanted):
        return RedirectResponse(f"{base_of(asked.call.project.name)}/traces/{wanted}", 303)
    return page(asked.call, "search.html", wanted=wanted[:80])


def show(asked: Asked) -> Response:
    """Follow one prediction back."""
    wanted = asked.params["prediction"]
    if not _REFERENCE.fullmatch(wanted):
        raise InvalidInput(
            f"prediction {wanted[:80]!r}: expected 32 hex digits, with ':' and a row if need be"
        )
    request = Prediction(project=asked.call.project.name, prediction=wanted)
    try:
        found = TRACE.function(asked.call, request)
    except NotFound as error:
        return page(asked.call, "search.html", status=404, wanted=wanted, missing=str(error))
    stops = [_stop(section) for section in found.sections]
    return page(asked.call, "trace.html", trace=found, stops=stops, first=stops[0].data)


def _stop(section: Section) -> Stop:
    word = re.split(r"[ :]", section.title, maxsplit=1)[0]
    kind = _KINDS.get(word, "plain")
    findings: tuple[tuple[Finding, Markup], ...] = ()
    if kind == "gate":
        verdict = msgspec.convert(section.data, Verdict)
        findings = tuple((one, charts.finding(one)) for one in verdict.findings)
    return Stop(kind, section.title, section.lines, section.data, findings)
