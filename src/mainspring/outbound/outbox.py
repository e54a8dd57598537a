"""The outbox: what is to be delivered, written in the transaction in which it happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.ids import Id, IdSource
from mainspring.core.notices import Notice
from mainspring.outbound.tables import DELIVERY, WEBHOOK
from mainspring.store.database import Database

WAITING, PARKED, DONE = "waiting", "parked", "done"
ATTEMPTS_AT_MOST = 12
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 3600.0
KEPT_MS = 7 * 24 * 3600 * 1000
"""How long a delivery that ended can still be seen."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice on its way to one webhook."""

    delivery: Id
    project: str
    webhook: str
    topic: str
    body: bytes
    attempts: int
    state: str
    problem: str


class Outbox:
    """Deliveries of all projects. Thread-safe."""

    def __init__(self, database: Database, *, clock: Clock, ids: IdSource) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self.wake = _nothing
        """Called when something was put in; may be called inside a write."""

    def put(self, connection: Connection, notice: Notice) -> None:
        """Put a notice in for each webhook that wants it, inside the write that made it happen."""
        wanted = select(WEBHOOK.c.webhook, WEBHOOK.c.topics).where(
            WEBHOOK.c.project == notice.project, WEBHOOK.c.status == "ACTIVE"
        )
        found = [
            webhook
            for webhook, topics in connection.execute(wanted)
            if notice.topic in topics.split(",")
        ]
        if not found:
            return
        body = body_of(notice, self._clock)
        rows = [
            {
                "delivery": self._ids.new(),
                "project": notice.project,
                "webhook": webhook,
                "topic": notice.topic,
                "body": body,
                "state": WAITING,
                "attempts": 0,
                "due_ms": self.now_ms(),
                "problem": "",
            }
            for webhook in found
        ]
        connection.execute(insert(DELIVERY), rows)
        self.wake()

    def due(
        self, *, limit: int, besides: Sequence[Id] = (), resting: Sequence[str] = ()
    ) -> list[Delivery]:
        """Give what is to be delivered now, what waits longest first.

        Args:
            besides: Deliveries that are under way.
            resting: Webhooks that have enough of them.
        """
        query = select(DELIVERY).where(
            _waiting(besides, resting), DELIVERY.c.due_ms <= self.now_ms()
        )
        query = query.order_by(DELIVERY.c.due_ms, DELIVERY.c.delivery).limit(limit)
        return self._read(query)

    def counts(self, project: str, webhook: str) -> dict[str, int]:
        """Count a webhook's deliveries by their state."""
        mine = (DELIVERY.c.project == project) & (DELIVERY.c.webhook == webhook)
        query = select(DELIVERY.c.state, func.count()).where(mine).group_by(DELIVERY.c.state)
        with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def of(self, project: str, webhook: str, *, limit: int = 100) -> list[Delivery]:
        """Give a webhook's deliveries, the newest first."""
        query = select(DELIVERY).where(DELIVERY.c.project == project, DELIVERY.c.webhook == webhook)
        return self._read(query.order_by(DELIVERY.c.delivery.desc()).limit(limit))

    def next_due_ms(self, *, besides: Sequence[Id] = (), resting: Sequence[str] = ()) -> int | None:
        """Say when the next delivery is to be made; see `due`."""
        query = select(DELIVERY.c.due_ms).where(_waiting(besides, resting))
        with self._database.read() as connection:
            found = connection.execute(query.order_by(DELIVERY.c.due_ms).limit(1)).scalar()
        return None if found is None else int(found)

    def arrived(self, one: Delivery) -> None:
        """Note that a delivery was taken, and forget those that ended long ago."""

        def work(connection: Connection) -> None:
            values = {"state": DONE, "attempts": one.attempts + 1, "problem": ""}
            connection.execute(self._change(one).values(**values, due_ms=self.now_ms()))
            old = DELIVERY.c.due_ms < self.now_ms() - KEPT_MS
            connection.execute(delete(DELIVERY).where(DELIVERY.c.state != WAITING, old))

        self._database.write(work)

    def failed(self, one: Delivery, problem: str, *, jitter: float) -> None:
        """Note that a delivery was not taken: it is due again later, or parked after the last try.

        Args:
            jitter: Between 0 and 1: spreads repeats, so that many do not come at once.
        """
        attempts = one.attempts + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**one.attempts) * (0.5 + jitter / 2)
        values = {
            "state": PARKED if attempts >= ATTEMPTS_AT_MOST else WAITING,
            "attempts": attempts,
            "due_ms": self.now_ms() + int(pause_s * 1000),
            "problem": problem[:500],
        }
        self._database.write(lambda c: c.execute(self._change(one).values(**values)))

    def now_ms(self) -> int:
        """Give the present in milliseconds of UTC since 1970."""
        return int(self._clock.now().timestamp() * 1000)

    def _change(self, one: Delivery) -> Any:
        return update(DELIVERY).where(DELIVERY.c.delivery == one.delivery)

    def _read(self, query: Any) -> list[Delivery]:
        with self._database.read() as connection:
            return [
                Delivery(
                    Id(row.delivery),
                    row.project,
                    row.webhook,
                    row.topic,
                    row.body,
                    row.attempts,
                    row.state,
                    row.problem,
                )
                for row in connection.execute(query)
            ]


def _waiting(besides: Sequence[Id], resting: Sequence[str]) -> ColumnElement[bool]:
    return and_(
        DELIVERY.c.state == WAITING,
        DELIVERY.c.delivery.not_in(list(besides)),
        DELIVERY.c.webhook.not_in(list(resting)),
    )


def body_of(notice: Notice, clock: Clock) -> bytes:
    """Write a notice as subscribers read it."""
    entity, _, action = notice.topic.partition(".")
    told = {
        "entity": entity,
        "action": action,
        "timestamp": clock.now().isoformat(),
        "data": notice.content,
    }
    return msgspec.json.encode(told)


def _nothing() -> None:
    """Nobody delivers here."""
