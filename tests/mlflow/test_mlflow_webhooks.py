"""Webhooks through the unmodified client, delivered to a real receiver."""

import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookStatus
from mlflow.exceptions import MlflowException
from mlflow_face import Face, Served

from mainspring.core.config import Config
from mainspring.outbound import deliverer, outbox
from mainspring.outbound.deliverer import Deliverer, signature
from mainspring.outbound.door import Door


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes deliveries; fails as many times as it is told to first."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.taken.append((dict(self.headers), body))
        failing = server.failing > 0
        server.failing -= failing
        self.send_response(503 if failing else 200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"secret")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Hooked:
    """A home whose webhooks are delivered to a receiver here."""

    def __init__(self, home: Path) -> None:
        receiver: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        receiver.taken, receiver.failing = [], 0
        self.receiver = receiver
        threading.Thread(target=self.receiver.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self.receiver.server_port}"
        self.url = f"http://{self.host}/hook"
        self.served = Served(home, Config(outbound_hosts=self.host))
        self.client = MlflowClient(Face(self.served, "default").url)
        self.deliverer = self._deliverer()

    def _deliverer(self) -> Deliverer:
        platform = self.served.platform
        return Deliverer(platform.outbox, platform.door, platform.webhooks, chance=lambda: 0.0)

    def events(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many deliveries."""
        wait(lambda: len(self.receiver.taken) >= count)
        return [json.loads(body) for _, body in self.receiver.taken]

    def close(self) -> None:
        self.deliverer.stop()
        self.served.close()
        self.receiver.shutdown()
        self.receiver.server_close()


def wait(until: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not until():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.fixture
def hooked(tmp_path: Path) -> Iterator[Hooked]:
    with closing(Hooked(tmp_path / "home")) as opened:
        yield opened


EVENTS: list[Any] = [
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
]


def happen(client: MlflowClient, name: str = "m") -> None:
    """Let everything happen once that models have."""
    client.create_registered_model(name, tags={"a": "1"}, description="one")
    client.create_model_version(name, "s3://bucket/model", tags={"b": "2"})
    client.set_model_version_tag(name, "1", "k", "v")
    client.delete_model_version_tag(name, "1", "k")
    client.set_registered_model_alias(name, "best", "1")
    client.delete_registered_model_alias(name, "best")


def test_each_happening_is_told_once_signed_and_in_mlflows_words(hooked: Hooked) -> None:
    hooked.deliverer.start()
    hooked.client.create_webhook("all", hooked.url, EVENTS, secret="shared")

    happen(hooked.client)

    told = {f"{one['entity']}.{one['action']}": one["data"] for one in hooked.events(6)}
    assert sorted(told) == sorted(EVENTS)
    assert told["registered_model.created"] == {
        "name": "m",
        "tags": {"a": "1"},
        "description": "one",
    }
    assert told["model_version.created"] == {
        "name": "m",
        "version": "1",
        "source": "s3://bucket/model",
        "run_id": None,
        "tags": {"b": "2"},
        "description": None,
    }
    tag = {"name": "m", "version": "1", "key": "k"}
    assert told["model_version_tag.set"] == {**tag, "value": "v"}
    assert told["model_version_tag.deleted"] == tag
    assert told["model_version_alias.created"] == {"name": "m", "alias": "best", "version": "1"}
    assert told["model_version_alias.deleted"] == {"name": "m", "alias": "best"}
    for headers, body in hooked.receiver.taken:
        delivery, at = headers["X-MLflow-Delivery-Id"], headers["X-MLflow-Timestamp"]
        assert headers["X-MLflow-Signature"] == signature("shared", delivery, at, body)
    assert len({headers["X-MLflow-Delivery-Id"] for headers, _ in hooked.receiver.taken}) == 6


def test_only_what_was_asked_for_is_told_and_nothing_while_it_rests(hooked: Hooked) -> None:
    hooked.deliverer.start()
    some = hooked.client.create_webhook("some", hooked.url, ["model_version.created"])
    hooked.client.create_webhook("none", hooked.url, ["prompt.created"])

    happen(hooked.client)
    assert [one["entity"] for one in hooked.events(1)] == ["model_version"]
    hooked.client.update_webhook(some.webhook_id, status=WebhookStatus.DISABLED)
    happen(hooked.client, "other")
    assert hooked.client.get_webhook(some.webhook_id).status == WebhookStatus.DISABLED
    hooked.client.update_webhook(some.webhook_id, status=WebhookStatus.ACTIVE)
    hooked.client.create_model_version("other", "s3://bucket/model")

    assert [one["data"]["version"] for one in hooked.events(2)] == ["1", "2"]


def test_what_is_not_taken_is_told_again_under_the_same_id(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(deliverer, "_AGAIN_S", 0.01)
    hooked.receiver.failing = 3
    hooked.deliverer.start()
    hooked.client.create_webhook("w", hooked.url, ["registered_model.created"])

    hooked.client.create_registered_model("m")

    hooked.events(4)
    assert len({headers["X-MLflow-Delivery-Id"] for headers, _ in hooked.receiver.taken}) == 1


def test_after_the_last_try_it_is_parked_with_its_reason(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(outbox, "ATTEMPTS_AT_MOST", 3)
    monkeypatch.setattr(deliverer, "_AGAIN_S", 0.01)
    hooked.receiver.failing = 100
    hooked.deliverer.start()
    webhook = hooked.client.create_webhook("w", hooked.url, ["registered_model.created"])
    hooked.client.create_registered_model("m")
    found = hooked.served.platform.outbox

    wait(lambda: [d.state for d in found.of("default", webhook.webhook_id)] == ["parked"])

    assert found.of("default", webhook.webhook_id)[0].problem == "it answered 503"
    told = Face(hooked.served, "default").get(f"webhooks/{webhook.webhook_id}").json
    assert told["deliveries"] == {"waiting": 0, "parked": 1, "done": 0}
    assert len(hooked.receiver.taken) == 3


def test_what_waits_when_the_process_ends_is_told_by_the_next(tmp_path: Path) -> None:
    hooked = Hooked(tmp_path / "home")
    with closing(hooked):
        hooked.client.create_webhook("w", hooked.url, ["registered_model.created"])
        # Nobody delivers, as if the process had died at once.
        hooked.client.create_registered_model("m")
        hooked.served.close()
        assert hooked.receiver.taken == []

        hooked.served = Served(tmp_path / "home", Config(outbound_hosts=hooked.host))
        hooked.deliverer = hooked._deliverer()
        hooked.deliverer.start()

        assert [one["data"]["name"] for one in hooked.events(1)] == ["m"]


def test_a_slow_receiver_leaves_room_for_the_others(hooked: Hooked) -> None:
    slow = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{slow.getsockname()[1]}"
    hooked.served.platform.door = Door(f"{hooked.host},{host}")
    hooked.deliverer = hooked._deliverer()
    hooked.deliverer.start()
    with closing(slow):
        # It takes connections and says nothing.
        hooked.client.create_webhook("slow", f"http://{host}/", ["registered_model.created"])
        hooked.client.create_webhook("quick", hooked.url, ["registered_model.created"])

        for n in range(12):
            hooked.client.create_registered_model(f"m{n}")

        assert len(hooked.events(12)) == 12


KILLED = """
import sys
from pathlib import Path
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.outbound.deliverer import Deliverer
from mainspring.platform import Platform
config = Config(outbound_hosts=sys.argv[2])
platform = Platform.open(config, Path(sys.argv[1]), clock=SystemClock())
Deliverer(platform.outbox, platform.door, platform.webhooks).start()
print("up", flush=True)
sys.stdin.read()
"""


def test_a_killed_deliverer_loses_nothing_and_repeats_under_the_same_id(tmp_path: Path) -> None:
    hooked = Hooked(tmp_path / "home")
    with closing(hooked):
        hooked.client.create_webhook("w", hooked.url, ["registered_model.created"])
        for n in range(30):
            hooked.client.create_registered_model(f"m{n}")
        hooked.served.close()

        for goal in (5, 15, 30):
            child = subprocess.Popen(
                [sys.executable, "-c", KILLED, str(tmp_path / "home"), hooked.host],
                stdin=subprocess.PIPE,
            )
            wait(lambda: _names(hooked) >= goal)  # noqa: B023
            child.kill()
            child.wait(10)
            assert child.stdin is not None
            child.stdin.close()

        ids = {headers["X-MLflow-Delivery-Id"] for headers, _ in hooked.receiver.taken}
        assert (len(ids), _names(hooked)) == (30, 30)
        # For the closing.
        hooked.served = Served(tmp_path / "home", Config())


def _names(hooked: Hooked) -> int:
    return len({json.loads(body)["data"]["name"] for _, body in list(hooked.receiver.taken)})


def test_a_refused_change_is_told_to_nobody(hooked: Hooked) -> None:
    hooked.deliverer.start()
    hooked.client.create_webhook("w", hooked.url, ["registered_model.created"])
    hooked.client.create_registered_model("m")
    with pytest.raises(MlflowException, match="already exists"):
        hooked.client.create_registered_model("m")
    hooked.client.create_registered_model("n")

    assert sorted(one["data"]["name"] for one in hooked.events(2)) == ["m", "n"]


def test_webhooks_are_listed_changed_tried_and_deleted(hooked: Hooked) -> None:
    client = hooked.client
    made = [
        client.create_webhook(f"w{n}", hooked.url, ["prompt.created"], secret="s") for n in range(3)
    ]
    assert [one.name for one in client.list_webhooks(max_results=2)] == ["w2", "w1"]
    page = client.list_webhooks(max_results=2)
    rest = client.list_webhooks(max_results=2, page_token=page.token)
    assert [one.name for one in rest] == ["w0"]
    assert not rest.token

    first = made[0].webhook_id
    changed = client.update_webhook(first, name="renamed", events=["model_version.created"])
    assert (changed.name, [str(e) for e in changed.events]) == (
        "renamed",
        ["model_version.created"],
    )
    tried = client.test_webhook(first)
    assert (tried.success, tried.response_status) == (True, 200)
    # What is inside the network stays there.
    assert not tried.response_body
    assert json.loads(hooked.receiver.taken[0][1])["data"]["name"] == "example_model"
    shown = Face(hooked.served, "default").get(f"webhooks/{first}")
    assert b'"s"' not in shown.content
    assert b"secret" not in shown.content

    client.delete_webhook(first)
    with pytest.raises(MlflowException, match="not found"):
        client.get_webhook(first)
    assert len(client.list_webhooks()) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "w", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
        {"name": "w", "url": "https://a.example"},
        {"name": "w", "url": "https://a.example", "events": []},
        {"name": "w", "url": "no url", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
        {"name": "w", "url": "https://a.example", "events": [{"entity": "X", "action": "CREATED"}]},
        {
            "name": " ",
            "url": "https://a.example",
            "events": [{"entity": "PROMPT", "action": "SET"}],
        },
    ],
)
def test_what_is_no_webhook_is_refused(face: Face, body: dict[str, Any]) -> None:
    assert face.post("webhooks", body).told == (400, "INVALID_PARAMETER_VALUE")


def test_an_address_inside_is_refused_when_it_is_subscribed_or_called(face: Face) -> None:
    events = [{"entity": "PROMPT", "action": "CREATED"}]
    plain = face.post("webhooks", {"name": "w", "url": "http://127.0.0.1/", "events": events})
    assert plain.told == (400, "INVALID_PARAMETER_VALUE")
    inside = face.post(
        "webhooks", {"name": "w", "url": "https://169.254.169.254/", "events": events}
    )
    assert inside.told == (400, "INVALID_PARAMETER_VALUE")

    # A name may lead anywhere by the time that it is called.
    made = face.post("webhooks", {"name": "w", "url": "https://localhost:1/", "events": events})
    tried = face.post(f"webhooks/{made.json['webhook']['webhook_id']}/test", {})

    assert tried.json["result"]["success"] is False
    assert "not public" in tried.json["result"]["error_message"]
