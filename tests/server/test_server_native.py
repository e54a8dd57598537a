"""The native API: verbs as routes, their types in JSON and msgpack, their errors by status."""

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mainspring.api import runs
from mainspring.api.http import HttpCaller
from mainspring.api.ledger import Facts
from mainspring.api.table import VERBS
from mainspring.api.verb import Answer, Request, Verb
from mainspring.core import errors
from mainspring.core.ids import Id
from mainspring.formats.wire import Assignment
from mainspring.pipelines.context import Logged, Metric
from mainspring.server import answers, native, openapi
from mainspring.server.statuses import STATUS

if TYPE_CHECKING:
    from tests.server.conftest import Serve, Served

MSGPACK = "application/msgpack"


def test_a_get_takes_its_fields_from_the_query_and_a_post_from_the_body(fresh: "Served") -> None:
    granted = fresh.post("access.grant", {"name": "ann", "role": "viewer"})
    listed = fresh.ask("GET", "/api/v1/event/list?after=1&limit=5&subject=actor/ann")

    assert (granted.status, listed.status) == (200, 200)
    assert granted.headers["content-type"] == "application/json"
    assert [fact["seq"] for fact in listed.json["facts"]] == [granted.json["fact"]]


def test_msgpack_is_read_and_written_for_who_names_it(fresh: "Served") -> None:
    body = msgspec.msgpack.encode({"name": "ann", "role": "viewer"})

    answer = fresh.ask(
        "POST", "/api/v1/access/grant", body, {"Content-Type": MSGPACK, "Accept": MSGPACK}
    )
    listed = fresh.ask("GET", "/api/v1/event/list?after=1", headers={"Accept": MSGPACK})

    assert answer.headers["content-type"] == MSGPACK
    assert msgspec.msgpack.decode(answer.content) == {"fact": 2}
    assert msgspec.msgpack.decode(listed.content, type=Facts).facts[0].seq == 2


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("limit=5&limit=6", "limit: given twice"),
        ("nonesuch=1", "nonesuch"),
        ("limit=five", "limit"),
        ("limit=0", "expected 1 to"),
        ("after=99999999999999999999", "expected 0 to"),
        ("subject=%ff", "UTF-8"),
        ("project=a/b", "project"),
        ("project=", "project name ''"),
        ("&".join(f"p{i}=1" for i in range(100)), "query"),
    ],
)
def test_a_query_that_is_wrong_is_refused(fresh: "Served", query: str, told: str) -> None:
    answer = fresh.ask("GET", f"/api/v1/event/list?{query}")

    assert (answer.status, answer.code) == (400, "invalid_input")
    assert told in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("body", "form", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b'{"name": 5, "role": "viewer"}', "application/json", 400),
        (b'{"name": "a", "role": "viewer", "more": 1}', "application/json", 400),
        (b'{"name": "../a", "role": "viewer"}', "application/json", 400),
        (b"[" * 200_000, "application/json", 400),
        (b"\x91" * 200_000, MSGPACK, 400),
        (b"{}", MSGPACK, 400),
        (b'{"name": "a", "role": "viewer"}', "text/plain", 415),
        (b'{"name": "a", "role": "viewer"}', "application/x-www-form-urlencoded", 415),
        (b'{"name": "a", "role": "viewer"}', "", 415),
    ],
)
def test_a_body_that_is_wrong_is_refused_and_changes_nothing(
    fresh: "Served", body: bytes, form: str, status: int
) -> None:
    before = fresh.content()

    answer = fresh.ask("POST", "/api/v1/access/grant", body, {"Content-Type": form})

    assert (answer.status, answer.code) == (status, "invalid_input")
    assert fresh.content() == before


def test_a_project_is_named_by_the_path(serve: "Serve") -> None:
    served = serve()
    there = {"Content-Type": "application/json"}
    body = {"name": "ann", "role": "viewer"}

    def granted(path: str, body: dict[str, Any]) -> tuple[int, str]:
        answer = served.ask("POST", f"{path}/api/v1/access/grant", json.dumps(body).encode(), there)
        return answer.status, answer.code if answer.status != 200 else ""

    assert granted("/p/other", body) == (200, "")
    assert granted("/p/other", body | {"project": "other"}) == (200, "")
    assert granted("/p/other", body | {"project": "default"}) == (400, "invalid_input")
    assert granted("", body | {"project": "other"}) == (400, "invalid_input")
    assert granted("/p/a%2Fb", body)[0] == 404
    assert granted("/p/..", body)[0] == 400
    actors = [
        served.ask("GET", path).json["actors"]
        for path in ("/p/other/api/v1/access/list", "/api/v1/access/list?project=other",
                     "/p/other/api/v1/access/list?project=other", "/api/v1/access/list")
    ]  # fmt: skip
    assert [len(found) for found in actors] == [1, 1, 1, 0]
    clash = served.ask("GET", "/p/other/api/v1/access/list?project=third")
    assert (clash.status, clash.code) == (400, "invalid_input")


def test_an_unknown_path_or_method_is_told(fresh: "Served") -> None:
    assert fresh.ask("GET", "/api/v1/data/erase").status == 404
    wrong = fresh.ask("GET", "/api/v1/access/grant")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert fresh.ask("HEAD", "/api/v1/project/status").content == b""


def test_every_error_code_has_a_status() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]

    codes = {kind.code for kind in kinds if issubclass(kind, errors.MainspringError)}

    assert set(STATUS) == codes


class Inner(msgspec.Struct, frozen=True):
    needed: float
    optional: float | None


@dataclass(frozen=True)
class Outer:
    plain: float
    inner: tuple[Inner, ...]
    named: dict[str, float]
    maybe: Inner | None
    anything: dict[str, Any]
    pair: tuple[str, float]


NAN, INF = float("nan"), float("inf")


def test_json_says_what_is_not_a_number_and_msgpack_keeps_it() -> None:
    value = Outer(INF, (Inner(-INF, NAN),), {"a": NAN}, Inner(1.5, None), {"x": INF}, ("p", NAN))

    told = json.loads(answers.encode(value, Outer, answers.JSON))
    kept = msgspec.msgpack.decode(answers.encode(value, Outer, MSGPACK), type=Outer)

    assert told == {
        "plain": "Infinity",
        "inner": [{"needed": "-Infinity", "optional": None}],
        "named": {"a": "NaN"},
        "maybe": {"needed": 1.5, "optional": None},
        "anything": {"x": None},
        "pair": ["p", "NaN"],
    }
    assert math.isnan(kept.named["a"])
    assert kept.plain == INF


def test_a_nan_is_logged_over_the_wire_told_in_json_and_kept_in_msgpack(
    started: "Served",
) -> None:
    begun: list[Assignment] = []
    started.platform.run_by(begun.append)
    at = datetime(2026, 4, 1, tzinfo=UTC)
    started.local.advance("stop", at, settle=False)
    started.platform.project("default").driver.settle("stop")
    run, token = Id(begun[0].run), begun[0].token
    logged = Logged(metrics=(Metric(key="loss", value=NAN, step=0, at=at),))

    with HttpCaller(started.url) as caller:
        caller(runs.LOG, runs.LOG.request(run=run, token=token, logged=logged))
        kept = caller(runs.SHOW, runs.SHOW.request(run=run))
    told = started.ask("GET", f"/api/v1/run/show?run={run}")

    assert '"NaN"' in told.content.decode()
    assert "nan" in str(kept.tracked)


def test_the_document_has_every_verb_with_its_permission_and_types(fresh: "Served") -> None:
    answer = fresh.ask("GET", "/api/v1/openapi.json")
    document = answer.json

    assert document["openapi"].startswith("3.1")
    for verb in VERBS:
        operation = document["paths"][f"/api/v1{verb.path}"][verb.method.lower()]
        assert (operation["x-resource"], operation["x-action"]) == (verb.resource, verb.action)
        assert operation["x-repeatable"] is verb.repeatable
        assert operation["summary"], verb.name
        assert {"200", "400", "401", "403", "404", "409", "500", "503", "507"} <= set(
            operation["responses"]
        )
    text = json.dumps(document)
    for reference in set(text.split('"$ref": "#/components/schemas/')[1:]):
        assert reference.partition('"')[0] in document["components"]["schemas"]


def test_the_page_lists_every_verb_and_needs_nothing_else(fresh: "Served") -> None:
    answer = fresh.ask("GET", "/api/v1/docs")
    page = answer.content.decode()

    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not [verb.name for verb in VERBS if f'id="{verb.name}"' not in page]
    for word in ("<script", "<style", "style=", "http://", "https://", " src="):
        assert word not in page


def test_the_answers_of_the_document_allow_what_stands_for_no_number() -> None:
    schemas = openapi.document()["components"]["schemas"]

    assert schemas["Metric"]["properties"]["value"] == {"type": "number"}
    told = schemas["answer.Metric"]["properties"]["value"]["anyOf"]
    assert {"enum": list(answers.NOT_FINITE)} in told
    nullable = schemas["answer.ReadingReport"]["properties"]["value"]["anyOf"]
    assert nullable == [{"type": "number"}, {"type": "null"}]


class _Listing(Request, frozen=True, kw_only=True):
    names: tuple[str, ...]


def test_a_get_that_asks_for_a_list_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    verb = Verb("a.b", "GET", "run", "read", _Listing, Answer, lambda *_: Answer())
    monkeypatch.setattr(native, "VERBS", (verb,))

    with pytest.raises(RuntimeError, match="the parameter 'names' of a GET is one value"):
        native.face()


def test_every_verb_that_decides_something_once_is_not_repeated_blindly() -> None:
    once = {verb.name for verb in VERBS if not verb.repeatable}

    assert {"endpoint.approve", "endpoint.reject", "endpoint.promote", "endpoint.rollback",
            "access.grant", "access.revoke", "access.issue", "token.revoke"} <= once  # fmt: skip
    assert all(verb.repeatable for verb in VERBS if verb.method == "GET")
