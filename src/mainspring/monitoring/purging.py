"""Deleting predictions by retention: the rows go, one fact with their digest and count stays."""

import hashlib

from sqlalchemy import ColumnElement, Connection, delete, select

from mainspring.core.errors import StaleSubject
from mainspring.core.events import Fact, Purged
from mainspring.core.ids import Digest, Subject, canonical
from mainspring.monitoring.tables import LABEL, OUTCOME, PREDICTION
from mainspring.store.database import Database
from mainspring.store.ledger import Draft, Ledger


def purge(
    database: Database,
    ledger: Ledger,
    endpoint: tuple[str, str],
    before_us: int,
    *,
    actor: str,
) -> Fact | None:
    """Delete predictions before an event time with all that hangs on them, or nothing."""
    project, name = endpoint
    gone = _gone(project, name, before_us)
    with database.read() as connection:
        rows, digest = _digest(connection, gone)
    if not rows:
        return None

    def delete_them(connection: Connection) -> None:
        if _digest(connection, gone) != (rows, digest):
            raise StaleSubject(
                f"predictions of {name!r}: some came in while they were purged; purge again"
            )
        numbers = select(PREDICTION.c.number).where(gone)
        connection.execute(
            delete(LABEL).where(
                LABEL.c.project == project, LABEL.c.endpoint == name, LABEL.c.target.in_(numbers)
            )
        )
        connection.execute(delete(OUTCOME).where(OUTCOME.c.number.in_(numbers)))
        connection.execute(delete(PREDICTION).where(gone))

    event = Purged(table=str(PREDICTION.name), rows=rows, digest=digest)
    draft = Draft(Subject(project, "records", str(PREDICTION.name)), event)
    return ledger.append_all([draft], actor=actor, also=delete_them)[0]


def _gone(project: str, endpoint: str, before_us: int) -> ColumnElement[bool]:
    return (
        (PREDICTION.c.project == project)
        & (PREDICTION.c.endpoint == endpoint)
        & (PREDICTION.c.event_time_us < before_us)
    )


def _digest(connection: Connection, gone: ColumnElement[bool]) -> tuple[int, Digest]:
    digest, rows = hashlib.sha256(), 0
    query = select(PREDICTION, OUTCOME.c.value, OUTCOME.c.void, OUTCOME.c.arrival_us)
    query = query.select_from(
        PREDICTION.outerjoin(OUTCOME, OUTCOME.c.number == PREDICTION.c.number)
    )
    for row in connection.execute(query.where(gone).order_by(PREDICTION.c.number)):
        digest.update(canonical(list(row)))
        rows += 1
    return rows, Digest(digest.hexdigest())
