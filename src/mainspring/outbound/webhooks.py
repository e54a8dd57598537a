"""Webhooks: who wants to hear of what, and where."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import Id, IdSource
from mainspring.outbound.door import Door
from mainspring.outbound.tables import DELIVERY, WEBHOOK
from mainspring.store.database import Database

Status = Literal["ACTIVE", "DISABLED"]

TOPICS = frozenset(
    {
        *(f"{kind}.created" for kind in ("registered_model", "prompt")),
        *(f"{kind}.created" for kind in ("model_version", "prompt_version")),
        *(
            f"{kind}.{action}"
            for kind in ("model_version_tag", "prompt_version_tag", "prompt_tag")
            for action in ("set", "deleted")
        ),
        *(
            f"{kind}.{action}"
            for kind in ("model_version_alias", "prompt_alias")
            for action in ("created", "deleted")
        ),
    }
)
AT_MOST = 1000
"""Webhooks of one project: each happening is written once for each of them."""

_NAME_LENGTH, _TEXT_LENGTH, _SECRET_LENGTH = 256, 1000, 1000


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription; its secret is not shown."""

    webhook: Id
    name: str
    url: str
    description: str
    topics: tuple[str, ...]
    status: Status
    created_ms: int
    updated_ms: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is given of a webhook that is made or changed; None leaves it as it is."""

    name: str | None = None
    url: str | None = None
    description: str | None = None
    topics: tuple[str, ...] | None = None
    secret: str | None = None
    status: Status | None = None


class Webhooks:
    """The verbs of one project's webhooks. Thread-safe."""

    def __init__(
        self,
        project: str,
        *,
        database: Database,
        clock: Clock,
        ids: IdSource,
        door: Door,
    ) -> None:
        self._project = project
        self._database = database
        self._clock = clock
        self._ids = ids
        self._door = door

    def create(self, given: Change) -> Webhook:
        """Subscribe.

        Raises:
            InvalidInput, NotPermitted: Something is missing or cannot be.
        """
        if not given.name or not given.url or not given.topics:
            raise InvalidInput("a webhook needs a name, a url and at least one event")
        values = {"status": "ACTIVE", "description": "", "secret": "", **self._checked(given)}
        webhook, now_ms = self._ids.new(), self._now_ms()

        def work(connection: Connection) -> None:
            if (
                len(connection.execute(select(WEBHOOK.c.webhook).where(self._mine)).all())
                >= AT_MOST
            ):
                raise InvalidInput(f"{AT_MOST} webhooks are there already; delete one first")
            row = {"project": self._project, "webhook": webhook, "created_ms": now_ms}
            connection.execute(insert(WEBHOOK).values(**row, **values, updated_ms=now_ms))

        self._database.write(work)
        return self.get(webhook)

    def change(self, webhook: str, given: Change) -> Webhook:
        """Change what is given."""
        values = {**self._checked(given), "updated_ms": self._now_ms()}

        def work(connection: Connection) -> None:
            self._existing(connection, webhook)
            connection.execute(update(WEBHOOK).where(self._is(webhook)).values(**values))

        self._database.write(work)
        return self.get(webhook)

    def delete(self, webhook: str) -> None:
        """Unsubscribe; what was not delivered yet is dropped."""

        def work(connection: Connection) -> None:
            self._existing(connection, webhook)
            connection.execute(delete(WEBHOOK).where(self._is(webhook)))
            waiting = (DELIVERY.c.project == self._project) & (DELIVERY.c.webhook == webhook)
            connection.execute(delete(DELIVERY).where(waiting))

        self._database.write(work)

    def get(self, webhook: str) -> Webhook:
        """Give one."""
        with self._database.read() as connection:
            return webhook_of(self._existing(connection, webhook))

    def secret(self, webhook: str) -> str:
        """Give what signs a webhook's deliveries; empty without one. Never for an answer."""
        with self._database.read() as connection:
            return str(self._existing(connection, webhook).secret)

    def list(self, *, offset: int, limit: int) -> list[Webhook]:
        """List them, the newest first."""
        query = select(WEBHOOK).where(self._mine)
        query = query.order_by(WEBHOOK.c.created_ms.desc(), WEBHOOK.c.webhook.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.offset(offset).limit(limit))
            return [webhook_of(row) for row in rows]

    @property
    def _mine(self) -> Any:
        return WEBHOOK.c.project == self._project

    def _is(self, webhook: str) -> Any:
        return self._mine & (WEBHOOK.c.webhook == webhook)

    def _existing(self, connection: Connection, webhook: str) -> Row[Any]:
        row = connection.execute(select(WEBHOOK).where(self._is(webhook))).first()
        if row is None:
            raise NotFound(f"Webhook with ID {webhook[:60]} not found.")
        return row

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    def _checked(self, given: Change) -> dict[str, Any]:
        """Give the columns of what is given, each checked."""
        values = {
            name: value
            for name, value in msgspec.structs.asdict(given).items()
            if value is not None
        }
        for name, limit in (
            ("name", _NAME_LENGTH), ("description", _TEXT_LENGTH), ("secret", _SECRET_LENGTH),
        ):  # fmt: skip
            if len(values.get(name, "")) > limit:
                raise InvalidInput(f"a webhook's {name} has at most {limit} signs; shorten it")
        if "name" in values and not values["name"].strip():
            raise InvalidInput("Webhook name cannot be empty.")
        if "url" in values:
            self._door.check(values["url"])
        if "topics" in values:
            values["topics"] = ",".join(checked_topics(values["topics"]))
        return values


def checked_topics(topics: Sequence[str]) -> tuple[str, ...]:
    """Return topics that there are, each once."""
    if not topics:
        raise InvalidInput("Webhook events must be a non-empty list.")
    if unknown := [one for one in topics if one not in TOPICS]:
        raise InvalidInput(
            f"webhook event {unknown[0][:60]!r} is not one; there are: {', '.join(sorted(TOPICS))}"
        )
    return tuple(dict.fromkeys(topics))


def webhook_of(row: Row[Any]) -> Webhook:
    """Read a row."""
    return Webhook(
        webhook=Id(row.webhook),
        name=row.name,
        url=row.url,
        description=row.description,
        topics=tuple(row.topics.split(",")),
        status=row.status,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )
