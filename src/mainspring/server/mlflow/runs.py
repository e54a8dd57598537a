"""Runs: their beginning, end, search and deletion."""

import random
from collections.abc import Sequence
from concurrent.futures import Future

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.core.ids import Id
from mainspring.server.mlflow.experiments import view
from mainspring.server.mlflow.limits import check_tags
from mainspring.server.mlflow.shown import STATUSES, Run, RunInfo, info_of, run_of
from mainspring.server.mlflow.table import READ, WRITE, Endpoint, Sharing
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    bounded,
    invalid,
    missing,
    offset_of,
    page_token,
)
from mainspring.tracking.run import NAME_TAG, Change, FoundRun
from mainspring.tracking.search import Page
from mainspring.tracking.starting import Start

RESULTS_AT_MOST = 50_000

_FIRST = (
    "amber", "bold", "brisk", "calm", "clear", "early", "fair", "fleet", "gentle", "keen", "light",
    "lively", "mellow", "quiet", "rapid", "steady", "sunny", "swift", "tidy", "vivid", "warm",
)  # fmt: skip
_SECOND = (
    "anchor", "balance", "bearing", "cog", "crown", "dial", "drum", "fusee", "gear", "hand",
    "hinge", "lever", "link", "pallet", "pendulum", "pinion", "pivot", "ratchet", "rotor", "wheel",
)  # fmt: skip


class Named(Message, frozen=True, kw_only=True):
    """A run; old clients call its id `run_uuid`."""

    run_id: str | None = None
    run_uuid: str | None = None

    @property
    def run(self) -> Id:
        """The id, which must be given."""
        return named(self.run_id, self.run_uuid)


class Create(Message, frozen=True, kw_only=True):
    experiment_id: str | None = None
    user_id: str | None = None
    start_time: Int64 | None = None
    run_name: str | None = None
    tags: tuple[KeyValue, ...] | None = None
    run_id: str | None = None
    """Drawn by a client that logs before it is answered (`mainspring.spool`)."""


class One(Message, frozen=True, kw_only=True):
    run: Run


class Update(Named, frozen=True, kw_only=True):
    status: str | int | None = None
    end_time: Int64 | None = None
    run_name: str | None = None


class Updated(Message, frozen=True, kw_only=True):
    run_info: RunInfo


class Search(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    runs: tuple[Run, ...] = ()
    next_page_token: str | None = None


def named(run_id: str | None, run_uuid: str | None) -> Id:
    """Give the run that a request names, in either field."""
    found = run_id or run_uuid
    if not found:
        raise missing("run_id")
    return Id(found)


def create(request: Create) -> Start:
    """Begin a run."""
    tags = check_tags(request.tags or ())
    tagged = tags.get(NAME_TAG)
    if request.run_name and tagged and request.run_name != tagged:
        raise InvalidInput(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different "
            f"values (run_name='{request.run_name}', mlflow.runName='{tagged}')."
        )
    return Start(
        experiment=request.experiment_id or "0",
        name=request.run_name or tagged or _invented(),
        person=request.user_id or "",
        started_ms=request.start_time,
        tags=tags,
        run=None if request.run_id is None else Id(request.run_id),
    )


def begin(call: Call, starts: Sequence[Start]) -> Future[list[FoundRun | MainspringError]]:
    """Begin the runs that were asked for at once."""
    return call.project.tracking.start_together(starts)


def shown(run: FoundRun) -> One:
    """Answer with a run."""
    return One(run=run_of(run))


def get(call: Call, request: Named) -> One:
    """Give a run, deleted or not."""
    return shown(call.project.tracking.found(request.run))


def changed(request: Update) -> Change:
    """Read what is to be another in a run; a pipeline's run keeps its status and end."""
    status = None
    if request.status is not None:
        status = STATUSES.get(str(request.status))
        if status is None:
            raise invalid("status", request.status)
    return Change(request.run, status, request.end_time, request.run_name)


def update(call: Call, request: Update) -> Updated:
    """Change status, end or name."""
    return Updated(run_info=info_of(call.project.tracking.change(changed(request))))


def delete(call: Call, request: Named) -> None:
    """Hide a run."""
    call.project.tracking.delete(request.run)


def restore(call: Call, request: Named) -> None:
    """Bring a run back."""
    call.project.tracking.restore(request.run)


def search(call: Call, request: Search) -> Found:
    """Search runs."""
    limit = bounded(request.max_results, 1000, 0, RESULTS_AT_MOST, "max_results")
    orders, experiments = request.order_by or (), request.experiment_ids or ()
    asked = ["runs", request.filter or "", orders, experiments, str(request.run_view_type)]
    offset = offset_of(request.page_token, asked)
    found = call.project.tracking.reading.runs(
        experiments,
        text=request.filter,
        orders=orders,
        view=view(request.run_view_type),
        page=Page(offset, limit + 1),
    )
    more = limit > 0 and len(found) > limit
    return Found(
        runs=tuple(run_of(run) for run in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if more else None,
    )


def _invented() -> str:
    pick = random.SystemRandom()
    return f"{pick.choice(_FIRST)}-{pick.choice(_SECOND)}-{pick.randrange(1000)}"


ENDPOINTS = (
    Sharing("POST", "/runs/create", WRITE, Create, create, begin=begin, shown=shown),
    Endpoint("GET", "/runs/get", READ, Named, get),
    Endpoint("POST", "/runs/update", WRITE, Update, update),
    Endpoint("POST", "/runs/delete", WRITE, Named, delete),
    Endpoint("POST", "/runs/restore", WRITE, Named, restore),
    Endpoint("POST", "/runs/search", READ, Search, search),
)
