"""How a replay ended, in a form that two replays can be compared by."""

import re
from collections.abc import Iterable

from mainspring.api.ledger import FactLine
from mainspring.core.ids import Digest, digest_of

_ID = re.compile(r"\b[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}\b")
_LEFT_OUT = {
    "RunOpened": {"deadline"},
    "RunClosed": {"attempt"},
    "Alarmed": {"readings"},
    "RolloutCompleted": {"guards"},
    "RolledBack": {"guards"},
}
"""Wall times and attempts, and digests over ids."""


def ending(facts: Iterable[FactLine]) -> Digest:
    """Give the digest of what was decided, wherever and whenever it was.

    Ids become the order in which they first appear; digests of data, models and verdicts stay.
    """
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return names.setdefault(found.group(), f"id{len(names)}")

    told = []
    for fact in facts:
        body = {k: v for k, v in fact.body.items() if k not in _LEFT_OUT.get(fact.event, ())}
        line = repr((fact.actor, fact.subject, fact.event, sorted(body.items())))
        told.append(_ID.sub(named, line))
    return digest_of(told)
