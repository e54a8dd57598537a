"""Webhooks as MLflow's clients make them."""

import msgspec

from mainspring.api.verb import Call
from mainspring.core.errors import MainspringError
from mainspring.core.ids import Id
from mainspring.core.notices import Notice
from mainspring.outbound.deliverer import send
from mainspring.outbound.outbox import DONE, PARKED, WAITING, body_of
from mainspring.outbound.webhooks import Change, Status, Webhook, Webhooks, checked_topics
from mainspring.server.mlflow.table import Endpoint
from mainspring.server.mlflow.wire import Int64, Message, bounded, missing, offset_of, page_token
from mainspring.server.routing import Permission

READ = Permission("webhook", "read")
WRITE = Permission("webhook", "write")

RESULTS_AT_MOST = 1000

# What a test sends: who receives it can tell it from a real one by the names.
_EXAMPLE = {"name": "example_model", "version": "1", "key": "example_key", "value": "example_value"}


class Event(Message, frozen=True, kw_only=True):
    entity: str | int
    action: str | int

    @property
    def topic(self) -> str:
        """What the subscription names."""
        return f"{self.entity}.{self.action}".lower()


class Create(Message, frozen=True, kw_only=True):
    name: str | None = None
    url: str | None = None
    description: str | None = None
    events: tuple[Event, ...] | None = None
    secret: str | None = None
    status: Status | None = None

    def change(self) -> Change:
        """Give what the room takes."""
        topics = None if self.events is None else tuple(one.topic for one in self.events)
        return Change(
            name=self.name,
            url=self.url,
            description=self.description,
            topics=topics,
            secret=self.secret,
            status=self.status,
        )


class Named(Message, frozen=True, kw_only=True):
    webhook_id: str = ""


class Update(Create, frozen=True, kw_only=True):
    webhook_id: str = ""


class Test(Named, frozen=True, kw_only=True):
    event: Event | None = None


class ListAll(Message, frozen=True, kw_only=True):
    max_results: Int64 | None = None
    page_token: str | None = None


class ShownEvent(Message, frozen=True, kw_only=True):
    entity: str
    action: str


class Shown(Message, frozen=True, kw_only=True):
    webhook_id: str
    name: str
    url: str
    description: str
    events: tuple[ShownEvent, ...]
    status: Status
    creation_timestamp: int
    last_updated_timestamp: int


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """How it goes: of no interest to MLflow's clients, for people who ask."""

    waiting: int
    parked: int
    done: int


class One(Message, frozen=True, kw_only=True):
    webhook: Shown
    deliveries: Deliveries | None = None


class Many(Message, frozen=True, kw_only=True):
    webhooks: tuple[Shown, ...] = ()
    next_page_token: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    success: bool = msgspec.field()
    response_status: int | None = None
    error_message: str | None = None


class Tested(Message, frozen=True, kw_only=True):
    result: Result


def create(call: Call, request: Create) -> One:
    """Subscribe."""
    for name in ("name", "url", "events"):
        if not getattr(request, name):
            raise missing(name)
    return One(webhook=_shown(_of(call).create(request.change())))


def get(call: Call, request: Named) -> One:
    """Give one, and how its deliveries stand."""
    found = _of(call).get(request.webhook_id)
    counts = call.platform.outbox.counts(call.project.name, found.webhook)
    deliveries = Deliveries(
        waiting=counts.get(WAITING, 0), parked=counts.get(PARKED, 0), done=counts.get(DONE, 0)
    )
    return One(webhook=_shown(found), deliveries=deliveries)


def list_all(call: Call, request: ListAll) -> Many:
    """List them."""
    limit = bounded(request.max_results, 100, 1, RESULTS_AT_MOST, "max_results")
    offset = offset_of(request.page_token, ["webhooks"])
    found = _of(call).list(offset=offset, limit=limit + 1)
    return Many(
        webhooks=tuple(_shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, ["webhooks"]) if len(found) > limit else None,
    )


def update(call: Call, request: Update) -> One:
    """Change what is given."""
    return One(webhook=_shown(_of(call).change(request.webhook_id, request.change())))


def delete(call: Call, request: Named) -> None:
    """Unsubscribe."""
    _of(call).delete(request.webhook_id)


def test(call: Call, request: Test) -> Tested:
    """Send one example now and say how it went; what the receiver answered is not shown."""
    webhooks = _of(call)
    webhook, secret = webhooks.get(request.webhook_id), webhooks.secret(request.webhook_id)
    topic = webhook.topics[0] if request.event is None else request.event.topic
    checked_topics((topic,))
    platform = call.platform
    body = body_of(Notice(call.project.name, topic, dict(_EXAMPLE)), platform.clock)
    delivery: Id = platform.ids.new()
    try:
        status = send(platform.door, webhook.url, secret, delivery, body, platform.outbox.now_ms())
    except MainspringError as error:
        return Tested(result=Result(success=False, error_message=str(error)))
    return Tested(result=Result(success=200 <= status < 300, response_status=status))


def _of(call: Call) -> Webhooks:
    return call.platform.webhooks(call.project.name)


def _shown(webhook: Webhook) -> Shown:
    events = [topic.upper().partition(".") for topic in webhook.topics]
    return Shown(
        webhook_id=webhook.webhook,
        name=webhook.name,
        url=webhook.url,
        description=webhook.description,
        events=tuple(ShownEvent(entity=entity, action=action) for entity, _, action in events),
        status=webhook.status,
        creation_timestamp=webhook.created_ms,
        last_updated_timestamp=webhook.updated_ms,
    )


ENDPOINTS = (
    Endpoint("POST", "/webhooks", WRITE, Create, create),
    Endpoint("GET", "/webhooks", READ, ListAll, list_all),
    Endpoint("GET", "/webhooks/{webhook_id}", READ, Named, get),
    Endpoint("PATCH", "/webhooks/{webhook_id}", WRITE, Update, update),
    Endpoint("DELETE", "/webhooks/{webhook_id}", WRITE, Named, delete),
    Endpoint("POST", "/webhooks/{webhook_id}/test", WRITE, Test, test),
)
