"""Decisions from a page: each posts to the same verb that a command calls, and tells what came."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response

from mainspring.api import endpoints
from mainspring.api.verb import AnyVerb, Call
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.server.routing import Asked, Permission, Route
from mainspring.server.statuses import status_of
from mainspring.server.ui.page import page

FIELDS_AT_MOST = 10
COMMENT_AT_MOST = 2_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answer page says."""

    verb: str
    endpoint: str
    version: str | None
    fact: int | None
    event: str | None
    code: str | None
    message: str
    comment: str


def routes() -> list[Route]:
    """Give a route for each decision, with the permission of its verb."""
    verbs: dict[str, AnyVerb] = {
        "approve": endpoints.APPROVE,
        "reject": endpoints.REJECT,
        "promote": endpoints.PROMOTE,
        "rollback": endpoints.ROLL_BACK,
    }
    return [
        Route(
            "POST",
            f"/endpoints/{{name}}/{word}",
            Permission(verb.resource, verb.action),
            _deciding(word, verb),
        )
        for word, verb in verbs.items()
    ]


def _deciding(word: str, verb: AnyVerb) -> Callable[[Asked], Response]:
    def decide(asked: Asked) -> Response:
        form = _form(asked)
        request = _request(verb, asked.call, asked.params["name"], form)
        try:
            decided = verb.function(asked.call, request)
        except MainspringError as error:
            answer = _answer(word, request, code=error.code, message=str(error))
            return page(asked.call, "decided.html", status=status_of(error), answer=answer)
        answer = _answer(word, request, fact=decided.fact, event=decided.event)
        return page(asked.call, "decided.html", answer=answer)

    return decide


def _request(verb: AnyVerb, call: Call, name: str, form: dict[str, str]) -> Any:
    comment = form.get("comment", "").strip()
    if not comment or len(comment) > COMMENT_AT_MOST:
        raise InvalidInput(
            f"the comment has {len(comment)} characters, expected 1 to {COMMENT_AT_MOST}: "
            "go back and say why you decide so"
        )
    if verb.request is endpoints.RollBack:
        return endpoints.RollBack(project=call.project.name, endpoint=name, comment=comment)
    return endpoints.Decision(
        project=call.project.name,
        endpoint=name,
        version=form.get("version", ""),
        comment=comment,
        expect=_expected(form.get("expect", "")),
    )


def _expected(text: str) -> int:
    """Read the fact the person saw; without it a decision could rest on an older page."""
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise InvalidInput(
            f"expect {text[:20]!r}: expected the number that the page carried; go back, read the "
            "endpoint again and decide anew"
        )
    return int(text)


def _form(asked: Asked) -> dict[str, str]:
    kind = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise InvalidInput(f"a decision of type {kind[:60]!r}: expected the page's own form")
    try:
        text = asked.body.decode("utf-8")
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_AT_MOST))
    except ValueError as error:
        raise InvalidInput(f"the form cannot be read ({error}); send the page's own") from error


def _answer(
    word: str,
    request: Any,
    *,
    fact: int | None = None,
    event: str | None = None,
    code: str | None = None,
    message: str = "",
) -> Answer:
    return Answer(
        verb=word,
        endpoint=request.endpoint,
        version=getattr(request, "version", None),
        fact=fact,
        event=event,
        code=code,
        message=message,
        comment=request.comment,
    )
