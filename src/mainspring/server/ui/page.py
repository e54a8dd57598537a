"""Render pages: one environment of templates, escaping everywhere, one frame around all."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from mainspring.api.verb import Call
from mainspring.core.errors import MainspringError
from mainspring.core.events import AnyEvent
from mainspring.server.statuses import message_of, status_of
from mainspring.server.ui import telling

HERE = Path(__file__).parent
STATIC = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


def _pretty(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False, sort_keys=False)


def _version() -> str:
    """Name the static files' content, so that a browser may keep them for long."""
    content = b"".join((HERE / "static" / name).read_bytes() for name in sorted(STATIC))
    return hashlib.sha256(content).hexdigest()[:12]


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        when=telling.when,
        clock=telling.clock_time,
        lasted=telling.lasted,
        count=telling.count,
        number=telling.number,
        brief=telling.brief,
        outset=telling.outset,
        size=telling.size,
        linked=telling.linked,
        sentence=telling.sentence,
        pretty=_pretty,
        told=telling.told,
        tone=telling.tone,
        asked_by=telling.asked_by,
    )
    # A stream names each fact by its event, and a browser hears only the names it asked for.
    heard = " ".join(event.__name__ for event in get_args(AnyEvent))
    made.globals.update(static=_version(), heard=heard)
    return made


_TEMPLATES = _environment()


def page(call: Call, template: str, *, status: int = 200, **shown: Any) -> Response:
    """Render one page of a project."""
    newest = call.platform.ledger.facts(limit=1, newest_first=True)
    frame = {
        "project": call.project.name,
        "base": telling.base_of(call.project.name),
        "actor": call.actor,
        "seq": newest[0].seq if newest else 0,
        "here": template.removesuffix(".html"),
    }
    text = _TEMPLATES.get_template(template).render(**frame, **shown)
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def error_page(error: Exception) -> Response:
    """Tell an error to a person; it stands alone, because the project may be what is missing."""
    code = error.code if isinstance(error, MainspringError) else MainspringError.code
    text = _TEMPLATES.get_template("error.html").render(
        message=message_of(error), title=code.replace("_", " ").capitalize(), base=""
    )
    return HTMLResponse(text, status_code=status_of(error), headers={"Cache-Control": "no-store"})
