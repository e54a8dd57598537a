"""Verbs that read the record: facts, their chain, and the way of one prediction."""

from datetime import datetime
from typing import Any

import msgspec

from mainspring.api.verb import LARGEST, Answer, Call, Request, Verb, bounded
from mainspring.core.ids import Seq, Subject
from mainspring.governance.audit import AuditAnswer, audit
from mainspring.governance.trace import Trace, trace

FACTS_AT_MOST = 10_000


class Events(Request, frozen=True, kw_only=True):
    """Facts behind a number; `subject` is `kind/name` or `kind`."""

    after: int = 0
    limit: int = 100
    subject: str | None = None


class FactLine(msgspec.Struct, frozen=True, kw_only=True):
    """A fact, flat."""

    seq: int
    at: datetime
    actor: str
    subject: str
    event: str
    body: dict[str, Any]
    cause: int | None
    hash: str


class Facts(Answer, frozen=True, kw_only=True):
    facts: tuple[FactLine, ...]


class Prediction(Request, frozen=True, kw_only=True):
    """A prediction, `<id>` or `<id>:<row>`."""

    prediction: str


def events(call: Call, request: Events) -> Facts:
    """List facts of the project, oldest first."""
    kind, name = _subject(request.subject)
    found = call.platform.ledger.facts(
        after=Seq(bounded("after", request.after, 0, LARGEST)),
        project=call.project.name,
        kind=kind,
        name=name,
        limit=bounded("limit", request.limit, 1, FACTS_AT_MOST),
    )
    return Facts(
        facts=tuple(
            FactLine(
                seq=fact.seq,
                at=fact.at,
                actor=fact.actor,
                subject=str(fact.subject),
                event=type(fact.event).__name__,
                body=msgspec.to_builtins(fact.event),
                cause=fact.cause,
                hash=fact.hash,
            )
            for fact in found
        )
    )


def verify(call: Call, _: Request) -> AuditAnswer:
    """Check the chain, and that the tables are what replaying it gives."""
    return audit(call.platform.ledger, call.platform.database, call.platform.derivations)


def trace_prediction(call: Call, request: Prediction) -> Trace:
    """Follow one prediction back to its rows, commit and approver."""
    return trace(call.project.stages, call.project.tracking, request.prediction)


def _subject(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    kind, _, name = text.partition("/")
    subject = Subject.parse(f"any/{kind}/{name or 'any'}")
    return subject.kind, subject.name if name else None


EVENTS = Verb("event.list", "GET", "ledger", "read", Events, Facts, events)
VERIFY = Verb("audit.verify", "GET", "ledger", "verify", Request, AuditAnswer, verify)
TRACE = Verb("prediction.trace", "GET", "prediction", "read", Prediction, Trace, trace_prediction)
