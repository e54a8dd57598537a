"""The end state of a home in a form that two homes can be compared by.

Ids become the order in which they first appear, wall times and attempt numbers are left out;
digests of contents stay, so that models, data and verdicts must be the very same.
"""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import create_engine, text

from mainspring.core.ids import Seq
from mainspring.platform import Platform

_ID = re.compile(r"\b[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}\b")
_LEFT_OUT = {
    "RunOpened": {"deadline"},
    "RunClosed": {"attempt"},
    # These digests cover ids; the states they rest on are compared below.
    "Alarmed": {"readings"},
    "RolloutCompleted": {"guards"},
    "RolledBack": {"guards"},
}


def end_state(platform: Platform) -> dict[str, Any]:
    """Give facts, outcomes and guard states of the project `default`."""
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return names.setdefault(found.group(), f"id{len(names)}")

    facts = []
    for fact in platform.ledger.facts(after=Seq(0), limit=10_000):
        body = msgspec.to_builtins(fact.event)
        for name in _LEFT_OUT.get(type(fact.event).__name__, ()):
            body.pop(name)
        line = json.dumps([fact.actor, str(fact.subject), body], sort_keys=True)
        facts.append(_ID.sub(named, line))
    with platform.database.read() as connection:
        outcomes = connection.execute(
            text(
                "SELECT p.key, p.event_time_us, p.version, p.live_version, p.score, p.live_score,"
                " p.candidate_score, o.value, o.void FROM prediction p"
                " LEFT JOIN outcome o ON o.number = p.number"
                " WHERE p.repeat_of IS NULL ORDER BY p.event_time_us, p.key"
            )
        ).all()
        guards = connection.execute(
            text("SELECT guard, state FROM guard_state ORDER BY 1, 2")
        ).all()
    return {
        "facts": facts,
        "outcomes": [tuple(row) for row in outcomes],
        "guards": [tuple(row) for row in guards],
    }


def integrity(home: Path) -> str:
    """Ask SQLite itself whether its file is whole."""
    engine = create_engine(f"sqlite:///{home / 'mainspring.db'}")
    with engine.connect() as connection:
        found = str(connection.scalar(text("PRAGMA integrity_check")))
    engine.dispose()
    return found
