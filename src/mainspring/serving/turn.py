"""Requests of a turn, whatever protocol they came by, answered together."""

from collections.abc import Sequence
from typing import NamedTuple

from mainspring.serving.choice import Choice
from mainspring.serving.engine import Engine
from mainspring.serving.replay import Answer
from mainspring.serving.sent import Sent


class Understood(NamedTuple):
    """A request that was read: who answers it, and its rows."""

    choice: Choice
    sent: Sent


def answered(
    engine: Engine, requests: Sequence[Understood | Exception], *, started_s: float
) -> list[Answer | Exception]:
    """Answer requests, those of one choice together, a repeat within the turn after the first.

    Returns:
        For each, in order, its answer or its error; errors that came in go out.
    """
    found: dict[int, Answer | Exception] = {}
    groups: dict[int, list[tuple[int, Understood]]] = {}
    ids: set[tuple[str, str, str]] = set()

    def settle() -> None:
        for group in groups.values():
            found.update(_group(engine, group, started_s))
        groups.clear()
        ids.clear()

    for number, request in enumerate(requests):
        if isinstance(request, Exception):
            found[number] = request
            continue
        route, name = request.choice.route, request.sent.request_id
        if name is not None:
            if (route.project, route.endpoint, name) in ids:
                # A repeat gets the answer of the first, which must be there before.
                settle()
            ids.add((route.project, route.endpoint, name))
        groups.setdefault(id(request.choice), []).append((number, request))
    settle()
    return [found[number] for number in range(len(requests))]


def _group(
    engine: Engine, group: Sequence[tuple[int, Understood]], started_s: float
) -> list[tuple[int, Answer | Exception]]:
    answers: Sequence[Answer | Exception]
    try:
        sents = [one.sent for _, one in group]
        answers = engine.answer(group[0][1].choice, sents, started_s=started_s)
    except Exception as error:
        answers = [error] * len(group)
    return [(number, answer) for (number, _), answer in zip(group, answers, strict=True)]
