"""Who may call: names, origins, tokens; and that every route says who."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.serving.serving_process import flight
from tests.serving.serving_world import World, constant, live

from mainspring.core.config import Config
from mainspring.core.ids import digest_bytes
from mainspring.formats.tokens import PublishedToken, PublishedTokens, TokenBook, publish_tokens
from mainspring.serving.app import App, Open, Permission, Route
from mainspring.serving.callers import Callers
from mainspring.serving.http import Request, Response
from mainspring.serving.worker import Worker

INFER = "/v2/models/delay/infer"
ALL = ("prediction/predict", "endpoint/read", "home/read")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    return world


def status(worker: Worker, method: str = "POST", path: str = INFER, **headers: str) -> int:
    named = {"host": "localhost:8701", **{k.replace("_", "-"): v for k, v in headers.items()}}
    body = json.dumps(flight()).encode() if method == "POST" else b""
    return worker.app(Request(method, path, named, body)).status


def issue(world: World, *tokens: tuple[str, str, tuple[str, ...]]) -> None:
    found = [
        PublishedToken(digest_bytes(secret.encode()), project, "ann", "viewer", permissions)
        for secret, project, permissions in tokens
    ]
    publish_tokens(world.home, PublishedTokens(tuple(found)))


@pytest.mark.parametrize(
    ("host", "config", "expected"),
    [
        ("localhost", Config(), 200),
        ("LOCALHOST:1", Config(), 200),
        ("127.0.0.1:8701", Config(), 200),
        ("[::1]:8701", Config(), 200),
        ("evil.example", Config(), 403),
        ("localhost.evil.example", Config(), 403),
        ("evil.example:localhost", Config(), 403),
        ("localhost:x", Config(), 403),
        ("", Config(), 403),
        ("a@localhost", Config(), 403),
        ("127.0.0.2", Config(), 403),
        ("models.example", Config(allowed_hosts="x, models.example"), 200),
        ("::1", Config(host="::1"), 403),
    ],
)
def test_a_worker_answers_only_to_its_names(
    world: World, host: str, config: Config, expected: int
) -> None:
    worker = Worker(world.home, config, "w1")

    assert status(worker, host=host) == expected
    assert status(worker, "GET", "/health", host=host) == expected


def test_a_request_without_host_is_refused_unless_it_is_old(world: World) -> None:
    worker = Worker(world.home, Config(), "w1")

    assert worker.app(Request("GET", "/health", {}, b"")).status == 400
    assert worker.app(Request("GET", "/health", {}, b"", old=True)).status == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("http://localhost:8701", 200),
        ("https://localhost:8701", 200),
        ("http://localhost:8700", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_from_elsewhere_may_not_post(world: World, origin: str, expected: int) -> None:
    worker = Worker(world.home, Config(), "w1")

    assert status(worker, origin=origin) == expected
    assert status(worker, "DELETE", origin=origin) == (405 if expected == 200 else 403)


def test_without_tokens_the_local_user_may_and_nobody_else(world: World) -> None:
    local, open_to_all = (
        Worker(world.home, Config(), "w1"),
        Worker(world.home, Config(host="0.0.0.0"), "w2"),
    )

    assert status(local) == 200
    assert status(open_to_all) == 401
    assert status(open_to_all, "GET", "/health") == 200
    assert status(open_to_all, "GET", "/metrics") == 401


def test_with_tokens_each_request_needs_one_that_may(world: World) -> None:
    worker = Worker(world.home, Config(), "w1")
    issue(world, ("right", "default", ALL), ("weak", "default", ()), ("other", "other", ALL))
    basic = base64.b64encode(b"anyone:right").decode()

    given: dict[str, Any] = {
        "Bearer right": 200,
        "bearer  right": 200,
        f"Basic {basic}": 200,
        "Bearer wrong": 401,
        "Bearer other": 401,
        "Bearer weak": 403,
        "Bearer": 401,
        "Basic !": 401,
        "right": 401,
        "Digest right": 401,
    }

    assert {text: status(worker, authorization=text) for text in given} == given
    assert status(worker) == 401
    assert status(worker, "GET", "/v2/models/delay") == 401
    assert status(worker, "GET", "/v2/models/delay", authorization="Bearer right") == 200
    assert status(worker, "GET", "/v2/health/ready") == 200
    assert world.blocks()[0].keys == ["f1"]


def test_what_was_revoked_is_refused_at_the_next_request(world: World) -> None:
    worker = Worker(world.home, Config(), "w1")
    issue(world, ("a", "default", ALL), ("b", "default", ALL))
    assert status(worker, authorization="Bearer a") == 200

    issue(world, ("b", "default", ALL))

    assert status(worker, authorization="Bearer a") == 401
    assert status(worker, authorization="Bearer b") == 200


def test_unreadable_tokens_let_nobody_in(world: World) -> None:
    worker = Worker(world.home, Config(), "w1")
    world.home.tokens.write_text("{}", "utf-8")

    assert status(worker) == 500
    assert status(worker, authorization="Bearer a") == 500
    assert status(worker, "GET", "/health") == 200
    os.unlink(world.home.tokens)
    assert status(worker) == 200


def test_no_error_names_a_place_on_the_machine(world: World) -> None:
    worker = Worker(world.home, Config(), "w1")
    world.home.tokens.write_text("{}", "utf-8")

    answer = worker.app(Request("POST", INFER, {"host": "localhost"}, b""))

    assert str(world.root) not in answer.body.decode()


def test_a_route_without_access_stops_the_start(world: World) -> None:
    def answer(_: object) -> Response:
        return Response(200, b"")

    def app(*routes: Route) -> App:
        callers = Callers(Config(), TokenBook(world.home))
        return App(routes, callers, before=lambda: None, after=lambda *_: None)

    nobody: Any = None
    with pytest.raises(ValueError, match="no access"):
        app(Route("GET", "/x", nobody, answer))
    with pytest.raises(ValueError, match="twice"):
        app(Route("GET", "/x", Open("-"), answer), Route("GET", "/x", Permission("a", "b"), answer))


def test_a_failure_of_ours_is_one_answer_and_no_more(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> Response:
        raise RuntimeError("secret place")

    callers = Callers(Config(), TokenBook(world.home))
    route = Route("GET", "/x", Open("-"), fail)
    app = App((route,), callers, before=lambda: None, after=lambda *_: None)

    answer = app(Request("GET", "/x", {"host": "localhost"}, b""))

    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert "secret place" in capsys.readouterr().err
