"""What the door turns away before anything is read."""

import base64
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from mainspring.core.ids import Id
from mainspring.formats.wire import Assignment
from mainspring.server import connections, security
from mainspring.server.routing import Asked, Face, Open, Route
from mainspring.server.statuses import tell

if TYPE_CHECKING:
    from tests.server.conftest import Serve, Served

HEADERS = {
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:8700", "[::1]:9", "models.example:80", "localhost."],
)
def test_a_host_of_ours_is_served_on_any_port(serve: "Serve", host: str) -> None:
    served = serve(allowed_hosts="models.example, other.example")

    assert served.ask("GET", "/health", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil", "", "localhost:x", "a@localhost",
     "0.0.0.0", "[::1", "localhost, evil.example"],
)  # fmt: skip
def test_another_host_is_turned_away(serve: "Serve", host: str) -> None:
    served = serve(host="0.0.0.0")

    answer = served.ask("GET", "/api/v1/project/status", headers={"Host": host})

    assert (answer.status, answer.code) == (421, "not_permitted")


def test_two_hosts_are_none(fresh: "Served") -> None:
    answer = fresh.raw(
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    "origin", ["null", "http://evil.example", "https://localhost.evil.example", "file://localhost",
               "http://[", ""],
)  # fmt: skip
def test_a_page_of_another_site_changes_nothing(fresh: "Served", origin: str) -> None:
    before = fresh.content()

    answer = fresh.post("access.grant", {"name": "eve", "role": "admin"}, Origin=origin)

    assert (answer.status, answer.code) == (403, "not_permitted")
    assert fresh.content() == before


def test_our_own_page_and_no_browser_at_all_may(fresh: "Served") -> None:
    ours = fresh.post("access.grant", {"name": "a", "role": "viewer"}, Origin="http://localhost:1")
    none = fresh.post("access.grant", {"name": "b", "role": "viewer"})

    assert (ours.status, none.status) == (200, 200)


def test_headers_are_on_every_answer_and_no_cookie_is(fresh: "Served") -> None:
    asked = [
        fresh.ask("GET", path)
        for path in ("/health", "/ready", "/metrics", "/api/v1/docs", "/api/v1/project/status",
                     "/nonesuch", "/api/v1/data/show")
    ]  # fmt: skip
    asked += [fresh.post("access.grant", {}), fresh.ask("PUT", "/health")]

    for answer in asked:
        for name, value in HEADERS.items():
            assert answer.headers[name].startswith(value)
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["set-cookie"] is None
    assert asked[-1].headers["allow"] == "GET, HEAD"
    assert asked[-1].status == 405


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_a_token_is_shown_as_bearer_or_as_a_password(serve: "Serve") -> None:
    served = serve()
    secret = served.token("ann", "admin")

    def status(authorization: str | None) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        return served.ask("GET", "/api/v1/project/status", headers=headers).status

    assert status(f"Bearer {secret}") == status(f"bearer  {secret}") == status(basic(secret)) == 200
    for wrong in (None, "Bearer", "Bearer ", f"Bearer {secret}x", basic(""), basic("a"),
                  "Basic ~~~", "Basic " + base64.b64encode(b"nocolon").decode(),
                  f"Digest {secret}", "Bearer run.x.y", secret):  # fmt: skip
        assert status(wrong) == 401, wrong
    answer = served.ask("GET", "/api/v1/project/status")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert secret not in answer.content.decode()


def test_who_comes_through_a_proxy_is_not_the_local_user(fresh: "Served") -> None:
    for header in ("X-Forwarded-For", "Forwarded"):
        answer = fresh.ask("GET", "/api/v1/project/status", headers={header: "203.0.113.9"})
        assert answer.code == "not_authenticated"
    assert fresh.ask("GET", "/api/v1/project/status").status == 200


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(serve: "Serve") -> None:
    served = serve(request_limit_mib=1)

    told = served.raw(
        b"POST /api/v1/project/apply HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1048577\r\n\r\n"
    )
    whole = served.ask("POST", "/api/v1/project/apply", b" " * (1 << 20))

    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"request_limit_mib" in told
    assert whole.status == 415


def test_chunks_are_counted(serve: "Serve") -> None:
    served = serve(request_limit_mib=1)
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    head = (
        b"POST /api/v1/project/apply HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    answer = served.raw(head + chunk * 17 + b"0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_not_waited_for(
    fresh: "Served", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "BODY_PATIENCE_S", 0.2)

    answer = fresh.raw(
        b"POST /api/v1/project/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    )

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()


def test_a_head_that_does_not_end_is_not_waited_for(
    fresh: "Served", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_PATIENCE_S", 0.2)

    assert fresh.raw(b"GET /health HTTP/1.1\r\nHost:") == b""
    assert fresh.ask("GET", "/health").status == 200


def test_a_head_without_an_end_does_not_fill_the_memory(fresh: "Served") -> None:
    answer = fresh.raw(b"GET /health HTTP/1.1\r\nX: " + b"a" * (connections.HEAD_LIMIT_BYTES + 1))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert fresh.ask("GET", "/health", headers={"X": "a" * 30_000}).status == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /api/v1/run/start HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/run/start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/v1/run/start HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"zz\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_server_lives(fresh: "Served", sent: bytes) -> None:
    answer = fresh.raw(sent, then_close=True)

    assert answer == b"" or int(answer.split()[1]) in range(400, 500)
    began = time.monotonic()
    assert fresh.ask("GET", "/health").status == 200
    assert time.monotonic() - began < 5


def attempt(served: "Served") -> Assignment:
    """Begin an attempt at a run that no process executes."""
    begun: list[Assignment] = []
    served.platform.run_by(begun.append)
    served.post("run.start", {"endpoint": "stop", "token": "t"})
    served.post("endpoint.advance", {"endpoint": "stop", "until": "2026-04-01T00:00:00Z",
                                     "wait_s": 0})  # fmt: skip
    assert len(begun) == 1
    return begun[0]


def test_a_run_may_report_and_nothing_else_until_its_attempt_is_over(started: "Served") -> None:
    given = attempt(started)
    started.token("ann", "admin")
    mine = {"Authorization": f"Bearer run.{given.run}.{given.token}"}

    held = {"run": given.run, "token": given.token}
    renewed = started.post("run.renew", held, **mine)
    shown = started.ask("GET", f"/api/v1/run/show?run={given.run}", headers=mine)
    denied = [
        started.post("access.grant", {"name": "eve", "role": "admin"}, **mine),
        started.post("label.add", {"endpoint": "stop", "token": "t", "labels": []}, **mine),
        started.ask("GET", "/api/v1/event/list", headers=mine),
        started.ask("GET", "/metrics", headers=mine),
    ]
    report = {**held, "report": {"outcome": "failed", "message": "no"}}
    closed = [started.post("run.close", report, **mine) for _ in range(2)]
    after = started.post("run.renew", held, **mine)
    other = {"Authorization": f"Bearer run.{given.run}.{'0' * 32}"}
    stale = started.post("run.renew", held, **other)

    assert (renewed.status, shown.status) == (200, 200)
    assert [answer.code for answer in denied] == ["not_permitted"] * 4
    # The second time because the first answer may have been lost.
    assert [answer.status for answer in closed] == [200, 200]
    assert closed[0].json == closed[1].json
    assert (after.status, after.code) == (409, "stale_token")
    assert (stale.status, stale.code) == (409, "stale_token")


def test_the_run_of_another_project_is_nobody_here(started: "Served") -> None:
    given = attempt(started)
    mine = {"Authorization": f"Bearer run.{given.run}.{given.token}"}

    answer = started.ask("GET", f"/p/other/api/v1/run/show?run={given.run}", headers=mine)

    assert answer.status == 409
    assert started.platform.project("default").stages.runs.get(Id(given.run)).state == "open"


def test_an_error_text_holds_neither_path_nor_query(
    serve: "Serve", caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Asked) -> Response:
        raise OSError("SELECT secret FROM /a/path/of/ours")

    route = Route("GET", "/broken", Open("a test"), broken)
    served = serve(faces=[Face("", [route], tell)])

    answer = served.ask("GET", "/broken")

    assert (answer.status, answer.code) == (500, "internal")
    assert not [word for word in ("SELECT", "/a/path", "OSError") if word in str(answer.json)]
    assert "SELECT secret FROM /a/path/of/ours" in caplog.text


def test_a_face_that_cannot_tell_an_error_still_answers(
    serve: "Serve", caplog: pytest.LogCaptureFixture
) -> None:
    def mute(error: Exception) -> Response:
        raise RuntimeError("no words") from error

    served = serve(faces=[Face("/f", [], mute)])

    assert served.ask("GET", "/f/x").code == "internal"
    assert "no words" in caplog.text
