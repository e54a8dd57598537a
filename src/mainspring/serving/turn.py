"""Requests of a turn, whatever protocol they came by, answered together."""

from collections.abc import Sequence
from typing import NamedTuple

from mainspring.core.errors import MainspringError
from mainspring.serving.choice import Choice
from mainspring.serving.engine import Engine
from mainspring.serving.replay import Answer
from mainspring.serving.sent import Sent


class Understood(NamedTuple):
    """A request that was read: who answers it, and its rows."""

    choice: Choice
    sent: Sent


def answered(
    engine: Engine, requests: Sequence[Understood | MainspringError], *, started_s: float
) -> list[Answer | Exception]:
    """Answer requests, those of one choice together, a repeat within the turn after the first.

    Returns:
        For each, in order, its answer or its error; errors that came in go out.
    """
    found: dict[int, Answer | Exception] = {}
    groups: dict[int, list[tuple[int, Understood]]] = {}
    ids: set[tuple[int, str]] = set()
    for number, request in enumerate(requests):
        if isinstance(request, MainspringError):
            found[number] = request
            continue
        place, name = id(request.choice), request.sent.request_id
        if name is not None and (place, name) in ids:
            found.update(_group(engine, groups.pop(place, []), started_s))
        if name is not None:
            ids.add((place, name))
        groups.setdefault(place, []).append((number, request))
    for group in groups.values():
        found.update(_group(engine, group, started_s))
    return [found[number] for number in range(len(requests))]


def _group(
    engine: Engine, group: Sequence[tuple[int, Understood]], started_s: float
) -> list[tuple[int, Answer | Exception]]:
    if not group:
        return []
    answers: Sequence[Answer | Exception]
    try:
        sents = [one.sent for _, one in group]
        answers = engine.answer(group[0][1].choice, sents, started_s=started_s)
    except Exception as error:
        answers = [error] * len(group)
    return [(number, answer) for (number, _), answer in zip(group, answers, strict=True)]
