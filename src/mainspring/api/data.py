"""Verbs of datasets. A commit is two verbs with the caller's own writing of rows between them."""

from typing import Any

import msgspec
import polars as pl

from mainspring.api.verb import LARGEST, Answer, Call, Request, Verb, bounded
from mainspring.core.errors import NotFound
from mainspring.core.events import Committed
from mainspring.data.tables import VersionRow
from mainspring.data.writing import CommitLease, Written

ROWS_AT_MOST = 10_000


class Begin(Request, frozen=True, kw_only=True):
    """Ask for the lease of a commit; `token` is `writer:number`."""

    dataset: str
    token: str
    attempt: str = ""
    """Made anew by the caller for each commit. Who asks again with the same one, because the answer
    was lost, is not kept out by the lease that it was given then."""


class Begun(Answer, frozen=True, kw_only=True):
    """The lease, or what the token has committed before."""

    lease: CommitLease | None
    done: Committed | None


class Finish(Request, frozen=True, kw_only=True):
    """Rows are written: make them a version."""

    lease: CommitLease
    written: Written


class Abandon(Request, frozen=True, kw_only=True):
    """Nothing will come of this commit: others may begin theirs."""

    lease: CommitLease


class Abandoned(Answer, frozen=True, kw_only=True):
    """The lease is over."""


class Named(Request, frozen=True, kw_only=True):
    """A dataset by name."""

    dataset: str


class Rows(Request, frozen=True, kw_only=True):
    """Rows of a dataset; the newest version when none is given."""

    dataset: str
    version: int | None = None
    limit: int = 10


class RowsAnswer(Answer, frozen=True, kw_only=True):
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


class Versions(Answer, frozen=True, kw_only=True):
    versions: tuple[VersionRow, ...]


def begin(call: Call, request: Begin) -> Begun:
    """Take the dataset's lease for a commit."""
    found = call.project.stages.datasets.begin(
        request.dataset, token=request.token, owner=call.actor, attempt=request.attempt
    )
    if isinstance(found, Committed):
        return Begun(lease=None, done=found)
    return Begun(lease=found, done=None)


def finish(call: Call, request: Finish) -> Committed:
    """Append the fact that makes written rows a version."""
    return call.project.stages.datasets.finish(request.lease, request.written, actor=call.actor)


def abandon(call: Call, request: Abandon) -> Abandoned:
    """End the lease of a commit that failed before its rows were whole."""
    call.project.stages.datasets.abandon(request.lease)
    return Abandoned()


def versions(call: Call, request: Named) -> Versions:
    """List a dataset's versions, oldest first."""
    found = call.project.stages.datasets.versions(request.dataset)
    if not found:
        _check_declared(call, request.dataset)
    return Versions(versions=tuple(found))


def rows(call: Call, request: Rows) -> RowsAnswer:
    """Give the last rows of a version."""
    datasets = call.project.stages.datasets
    lazy = datasets.read(request.dataset, _version(request))
    return _answer(lazy.tail(_limit(request)).collect())


def quarantined(call: Call, request: Rows) -> RowsAnswer:
    """Give refused rows with their reasons."""
    frame = call.project.stages.datasets.quarantine(request.dataset, _version(request))
    if frame.is_empty():
        _check_declared(call, request.dataset)
    return _answer(frame.tail(_limit(request)))


def _check_declared(call: Call, dataset: str) -> None:
    """Tell a dataset without rows from a name that is wrong."""
    declared = call.project.stages.datasets.specs()
    if dataset not in declared and not call.project.stages.datasets.versions(dataset):
        raise NotFound(
            f"dataset {dataset!r} is not declared in project {call.project.name!r}; declare it in "
            f"the project file and apply it; declared: {', '.join(declared) or 'none'}"
        )


def _limit(request: Rows) -> int:
    return bounded("limit", request.limit, 1, ROWS_AT_MOST)


def _version(request: Rows) -> int | None:
    if request.version is None:
        return None
    return bounded("version", request.version, 1, LARGEST)


def _answer(frame: pl.DataFrame) -> RowsAnswer:
    plain = msgspec.to_builtins(frame.to_dicts())
    return RowsAnswer(columns=tuple(frame.columns), rows=tuple(plain))


BEGIN = Verb("data.begin", "POST", "dataset", "commit", Begin, Begun, begin)
FINISH = Verb("data.finish", "POST", "dataset", "commit", Finish, Committed, finish)
ABANDON = Verb("data.abandon", "POST", "dataset", "commit", Abandon, Abandoned, abandon)
LOG = Verb("data.log", "GET", "dataset", "read", Named, Versions, versions)
SHOW = Verb("data.show", "GET", "dataset", "read", Rows, RowsAnswer, rows)
QUARANTINE = Verb("data.quarantine", "GET", "dataset", "read", Rows, RowsAnswer, quarantined)
