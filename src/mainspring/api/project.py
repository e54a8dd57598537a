"""Verbs of a project as a whole: record what it declares."""

import msgspec

from mainspring.api.verb import Answer, Call, Request, Verb
from mainspring.core.errors import InvalidInput
from mainspring.core.events import Applied
from mainspring.core.ids import Seq, canonical
from mainspring.loop.declaration import Declaration
from mainspring.loop.routes import publish_routes

SOURCES_LIMIT_BYTES = 8 << 20


class Apply(Request, frozen=True, kw_only=True):
    """A project file's declarations and sources."""

    declaration: Declaration


class ApplyDone(Answer, frozen=True, kw_only=True):
    """What was recorded; `changed` is false when the same was recorded before."""

    digest: str
    changed: bool
    datasets: tuple[str, ...]
    views: tuple[str, ...]
    endpoints: tuple[str, ...]


def apply(call: Call, request: Apply) -> ApplyDone:
    """Record a declaration, unless the newest one is the same."""
    declared = request.declaration
    _check_sources(declared)
    declared.check()
    stages, ledger = call.project.stages, call.platform.ledger
    subject = call.subject("project", call.project.name)
    digest, seen = declared.digest, ledger.newest(subject)
    changed = seen == 0 or _digest_at(call, seen) != digest
    if changed:
        event = Applied(
            digest=digest,
            source=declared.source,
            bundle=stages.blobs.put(canonical(declared.files)),
            code=None if declared.code is None else msgspec.to_builtins(declared.code),
            datasets=_plain(declared.datasets),
            views=_plain(declared.views),
            endpoints=_plain(declared.endpoints),
            pipelines=declared.pipelines,
        )
        ledger.append(subject, event, actor=call.actor, expect=seen)
        publish_routes(stages)
        call.platform.wake(call.project)
    return ApplyDone(
        digest=digest,
        changed=changed,
        datasets=tuple(one.name for one in declared.datasets),
        views=tuple(one.name for one in declared.views),
        endpoints=tuple(one.name for one in declared.endpoints),
    )


def _digest_at(call: Call, seq: Seq) -> str:
    event = call.platform.ledger.fact(seq).event
    assert isinstance(event, Applied)
    return event.digest


def _plain(declared: tuple[object, ...]) -> tuple[dict[str, object], ...]:
    return tuple(msgspec.to_builtins(one) for one in declared)


def _check_sources(declared: Declaration) -> None:
    if declared.source not in declared.files:
        raise InvalidInput(
            f"project file {declared.source!r} is not among the files sent; expected its text"
        )
    size = sum(len(text) for text in declared.files.values())
    if size > SOURCES_LIMIT_BYTES:
        raise InvalidInput(
            f"project file {declared.source!r}: {size} bytes of sources beside it, at most "
            f"{SOURCES_LIMIT_BYTES}; keep data out of the project's folder"
        )


APPLY = Verb("project.apply", "POST", "project", "apply", Apply, ApplyDone, apply)
