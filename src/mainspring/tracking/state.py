"""Whether a run may be logged to: the one question that every log asks."""

from typing import NamedTuple, Protocol

from sqlalchemy import Connection, bindparam, select

from mainspring.core.errors import NotFound, Refused
from mainspring.store.bulk import QuickQuery
from mainspring.tracking.tables import RUN_RECORD


class State(Protocol):
    """What decides it; a run's row has it."""

    @property
    def deleted_ms(self) -> int | None: ...
    @property
    def managed(self) -> bool: ...
    @property
    def status(self) -> str: ...


class _Found(NamedTuple):
    deleted_ms: int | None
    managed: bool
    status: str


def check_writable(connection: Connection, project: str, run: str) -> None:
    """Refuse a run that may not be logged to, as quickly as can be.

    Raises:
        NotFound: There is no such run.
        Refused: It is deleted, or a pipeline's and closed.
    """
    rows = _STATE.rows(connection, project, run)
    if not rows:
        raise untracked(project, run)
    check_state(run, _Found(*rows[0]), sealed=True)


def run_exists(connection: Connection, project: str, run: str) -> bool:
    """Tell whether there is such a run, deleted or not."""
    return bool(_STATE.rows(connection, project, run))


def check_state(run: str, row: State, *, sealed: bool) -> None:
    """Refuse a deleted run and, if it matters, a pipeline's closed one."""
    if row.deleted_ms is not None:
        raise Refused(
            f"The run {run} must be in the 'active' state. Current state is deleted; "
            "restore it before logging to it."
        )
    if sealed and row.managed and row.status != "running":
        raise Refused(
            f"run {run} of a pipeline is {row.status}: what it logged is sealed; log to a new run"
        )


def untracked(project: str, run: str) -> NotFound:
    """Say that there is no such run."""
    return NotFound(
        f"Run with id={run[:60]} not found: it is not tracked in project {project!r}; check it"
    )


_STATE = QuickQuery(
    select(RUN_RECORD.c.deleted_ms, RUN_RECORD.c.managed, RUN_RECORD.c.status).where(
        RUN_RECORD.c.project == bindparam("of_project"), RUN_RECORD.c.run == bindparam("of_run")
    ),
    ["of_project", "of_run"],
)
