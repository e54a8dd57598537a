"""What a person may decide on an endpoint; each decision refuses a state that has moved."""

from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Connection

from mainspring.core.errors import InvalidInput, Refused, StaleSubject
from mainspring.core.events import AnyEvent, Approved, Fact, Promoted, Rejected
from mainspring.core.ids import Digest, Id, Seq, digest_of
from mainspring.loop import state
from mainspring.loop.act import end_rollout
from mainspring.loop.observe import endpoint_now
from mainspring.loop.routes import publish_routes
from mainspring.loop.stages import Stages
from mainspring.store.ledger import Draft


class Verb(Protocol):
    """A decision on one version of an endpoint."""

    def __call__(
        self,
        stages: Stages,
        endpoint: str,
        version: str,
        *,
        comment: str,
        actor: str,
        expect: int | None,
    ) -> Fact: ...


def approve(
    stages: Stages, endpoint: str, version: str, *, comment: str, actor: str, expect: int | None
) -> Fact:
    """Agree to a rollout that waits for a person."""
    seen = _seen(stages, endpoint, expect)
    verdict = _asked(stages, endpoint, version)
    event = Approved(endpoint=endpoint, candidate=version, verdict=verdict, comment=_said(comment))
    return _decide(stages, endpoint, event, actor=actor, seen=seen)


def reject(
    stages: Stages, endpoint: str, version: str, *, comment: str, actor: str, expect: int | None
) -> Fact:
    """Decline a rollout that waits for a person."""
    seen = _seen(stages, endpoint, expect)
    verdict = _asked(stages, endpoint, version)
    event = Rejected(endpoint=endpoint, candidate=version, verdict=verdict, comment=_said(comment))
    return _decide(stages, endpoint, event, actor=actor, seen=seen)


def promote(
    stages: Stages, endpoint: str, version: str, *, comment: str, actor: str, expect: int | None
) -> Fact:
    """Make a version live at once that has passed the gate against the present one.

    Raises:
        Refused: Its last verdict is no pass against the present champion, or a rollout is open.
    """
    _said(comment)
    seen = _seen(stages, endpoint, expect)
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, endpoint)
        live = state.live_version(connection, stages.project, endpoint)
        spoken = [
            row
            for row in state.verdicts(connection, stages.project, endpoint)
            if row.candidate == version
        ]
        rollout = state.open_rollout(connection, stages.project, endpoint)
    champion = None if live is None else live.version
    if not spoken or spoken[-1].outcome != "pass" or spoken[-1].champion != champion:
        found = "no verdict" if not spoken else f"{spoken[-1].outcome} against another version"
        if spoken and spoken[-1].champion == champion:
            found = spoken[-1].outcome
        raise Refused(
            f"endpoint {endpoint!r}: version {version} cannot go live: its gate says {found}, "
            f"expected a pass against the live version {champion}"
        )
    if rollout is not None:
        raise Refused(
            f"endpoint {endpoint!r}: a rollout of version {rollout.candidate} is open; "
            "end it first with `mainspring endpoint rollback`"
        )
    now = endpoint_now(stages, spec)
    assert now is not None
    event = Promoted(
        endpoint=endpoint,
        version=version,
        manifest=Digest(stages.registry.get(endpoint, version).manifest),
        before=champion,
        verdict=Id(spoken[-1].id),
        rollout=None,
        kind="first" if champion is None else "canary",
        at=now,
    )

    def none_open(connection: Connection) -> None:
        # A rollout is a subject of its own, so `expect` does not see one that has just begun.
        if state.open_rollout(connection, stages.project, endpoint) is not None:
            raise StaleSubject(f"endpoint {endpoint!r}: a rollout has begun; read it again")

    fact = _decide(
        stages, endpoint, event, actor=actor, seen=seen, cause=spoken[-1].seq, also=none_open
    )
    publish_routes(stages)
    return fact


def roll_back(stages: Stages, endpoint: str, *, comment: str, actor: str) -> Fact:
    """End the open rollout; the live version stays."""
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, endpoint)
        rollout = state.open_rollout(connection, stages.project, endpoint)
    if rollout is None:
        raise Refused(f"endpoint {endpoint!r}: no rollout is open; there is nothing to end")
    said = stages.monitoring.state(endpoint).rollout
    guards = digest_of([]) if said is None else said.digest
    now = endpoint_now(stages, spec)
    assert now is not None
    fact = end_rollout(
        stages,
        endpoint,
        rollout.id,
        rollout.candidate,
        _said(comment),
        guards,
        at=now,
        actor=actor,
    )
    publish_routes(stages)
    return fact


def _seen(stages: Stages, endpoint: str, expect: int | None) -> Seq:
    """Give the fact a decision rests on, taken before anything else is looked at.

    Whoever decides on an older report is told so, rather than that the state forbids it.
    """
    newest = stages.ledger.newest(stages.subject("endpoint", endpoint))
    if expect is not None and expect != newest:
        raise StaleSubject(
            f"endpoint {endpoint!r}: its newest fact is {newest}, expected {expect}; it moved "
            "since you read it: read it again and decide anew"
        )
    return newest


def _asked(stages: Stages, endpoint: str, version: str) -> Id:
    with stages.database.read() as connection:
        state.endpoint(connection, stages.project, endpoint)
        row = state.open_candidate(connection, stages.project, endpoint)
    if row is None or row.version != version or row.approval != "asked":
        waiting = "none does" if row is None or row.approval != "asked" else f"{row.version} does"
        raise Refused(
            f"endpoint {endpoint!r}: version {version} does not wait for an approval; {waiting}"
        )
    return Id(row.verdict)


def _decide(
    stages: Stages,
    endpoint: str,
    event: AnyEvent,
    *,
    actor: str,
    seen: Seq,
    cause: int | None = None,
    also: Callable[[Connection], None] | None = None,
) -> Fact:
    subject = stages.subject("endpoint", endpoint)
    draft = Draft(
        subject=subject, event=event, expect=seen, cause=None if cause is None else Seq(cause)
    )
    return stages.ledger.append_all([draft], actor=actor, also=also)[0]


def _said(comment: str) -> str:
    if not comment.strip():
        raise InvalidInput("a decision needs a comment that says why; found none")
    return comment.strip()
