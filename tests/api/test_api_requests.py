"""What a request may hold: anything else is the caller's mistake, and said so."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from api_bodies import AT, BODIES

from mainspring.api import arrow, feed
from mainspring.api.table import TABLE
from mainspring.core.errors import InvalidInput, MainspringError, NotFound

if TYPE_CHECKING:
    from tests.api.conftest import World

Path = tuple[str, ...]


def leaves(body: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, value in body.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def replaced(body: dict[str, Any], path: Path, value: Any) -> bytes:
    copy = json.loads(json.dumps(body))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return json.dumps(copy).encode()


def odd(value: Any) -> list[Any]:
    """Give values of the same JSON type that no careful caller sends."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [-1, 1 << 63, 1 << 70]
    if isinstance(value, str):
        return ["", "../up", "a/b/c", "\x00", "x" * 5000, "0001-01-01T00:00:00Z"]
    return []


@pytest.mark.parametrize("name", TABLE)
def test_an_unknown_field_and_a_missing_one_are_refused(fresh: "World", name: str) -> None:
    caller, facts = fresh.caller("admin"), fresh.facts()
    needed = [
        field for field in BODIES[name] if field not in ("expect", "parameters", "settle")
        and not (field in ("limit", "version", "after", "subject") and "endpoint.a" not in name)
    ]  # fmt: skip

    with pytest.raises(InvalidInput, match="nonesuch"):
        caller.by_name(name, json.dumps(BODIES[name] | {"nonesuch": 1}).encode())
    with pytest.raises(InvalidInput, match=name):
        caller.by_name(name, json.dumps(BODIES[name] | {"project": 5}).encode())
    if needed and name not in ("run.list", "run.start"):
        with pytest.raises(InvalidInput, match=f"missing required field `{needed[0]}`"):
            caller.by_name(name, b"{}")

    assert fresh.facts() == facts


@pytest.mark.parametrize("name", [name for name in TABLE if BODIES[name]])
def test_a_field_of_a_wrong_type_is_refused_by_its_place(fresh: "World", name: str) -> None:
    caller, facts = fresh.caller("admin"), fresh.facts()
    typed = [
        path for path, value in leaves(BODIES[name])
        if value is not None and path[-1] != "p.py" and path[0] != "parameters"
    ]  # fmt: skip

    for path in typed:
        with pytest.raises(InvalidInput, match=path[-1]):
            caller.by_name(name, replaced(BODIES[name], path, {"a": [1]}))

    assert fresh.facts() == facts


def test_odd_values_get_an_answer_or_an_error_of_ours(fresh: "World") -> None:
    caller = fresh.caller("admin")
    tried = 0

    for name, body in BODIES.items():
        for path, value in leaves(body):
            for strange in odd(value):
                tried += 1
                try:
                    caller.by_name(name, replaced(body, path, strange))
                except MainspringError:
                    continue

    assert tried > 200
    assert fresh.client.verify().ok


@pytest.mark.parametrize("body", [b"", b"[", b"null", b"1", b"\xff", b"[" * 100_000, b"{} {}"])
def test_a_body_that_is_no_request_is_refused(fresh: "World", body: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"run\.start"):
        fresh.caller("admin").by_name("run.start", body)


def test_an_unknown_verb_is_not_found(fresh: "World") -> None:
    with pytest.raises(NotFound, match=r"'run\.stop' does not exist; see the table"):
        fresh.caller("admin").by_name("run.stop", b"{}")


@pytest.mark.parametrize(
    "content", [b"", b"rows", b"ARROW1\x00\x00", b"\xff\xff\xff\xff" + b"\x00" * 64]
)
def test_rows_that_are_no_arrow_stream_are_refused(fresh: "World", content: bytes) -> None:
    request = feed.Push(
        dataset="readings", rows=content, until=datetime.fromisoformat(AT), token="w:1"
    )

    with pytest.raises(InvalidInput, match="push to readings: rows are not an Arrow IPC stream"):
        fresh.caller("admin")(feed.PUSH, request)


def test_rows_beyond_the_limit_are_refused_before_they_are_parsed(
    fresh: "World", monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.DataFrame({"x": list(range(1000))})
    monkeypatch.setattr(arrow, "LIMIT_BYTES", 1000)

    with pytest.raises(InvalidInput, match="at most 1000 in one call; send them in parts"):
        fresh.client.push("readings", frame, until=datetime.now(UTC), token="w:1")


def test_the_limit_is_64_mebibytes() -> None:
    with pytest.raises(InvalidInput, match="67108865 bytes of rows, at most 67108864"):
        arrow.decode(bytes((64 << 20) + 1), subject="push")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ({}, "arrival"),
        ({"arrival": AT, "value": 1.0}, "either `prediction`, or `key` and `event_time`"),
        ({"arrival": AT, "key": "k", "value": 1.0}, "either `prediction`, or `key`"),
        ({"arrival": AT, "key": "k", "event_time": AT}, "either `value`, or `void`"),
        ({"arrival": AT, "key": "k", "event_time": AT, "value": 1, "void": True}, "either `value`"),
        ({"arrival": AT, "key": "k", "event_time": AT, "value": "yes"}, "value"),
        ({"arrival": AT, "prediction": "p", "value": 1}, "32 hex digits"),
        ({"arrival": AT, "prediction": "0" * 32 + ":x", "value": 1}, "32 hex digits"),
        ({"arrival": "2026-04-01T00:00:00", "prediction": "0" * 32, "value": 1}, "label 1"),
        ({"arrival": AT, "key": "k", "event_time": AT, "value": 1, "extra": 1}, "extra"),
    ],
)
def test_one_wrong_label_refuses_its_whole_batch(
    fresh: "World", label: dict[str, Any], told: str
) -> None:
    good = {"arrival": AT, "key": "k", "event_time": AT, "value": 1.0}
    caller = fresh.caller("admin")
    body = {"endpoint": "stop", "token": "t", "labels": [good, label]}

    with pytest.raises(InvalidInput, match=told):
        caller.by_name("label.add", json.dumps(body).encode())

    answer = json.loads(caller.by_name("label.add", json.dumps(body | {"labels": [good]}).encode()))
    assert (answer["rows"], answer["repeated"]) == (1, False)
