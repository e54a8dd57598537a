"""The protocol's habits on the wire: spellings, codes, messages and what nobody may do."""

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow_face import Face, Served

from mainspring.access.permissions import Role
from mainspring.core import errors
from mainspring.server.mlflow.errors import CODES
from mainspring.server.mlflow.face import faces
from mainspring.server.routing import Open

MISSING = (
    "Missing value for required parameter '{}'. See the API docs for more information about "
    "request parameters."
)


def test_every_error_has_a_code_of_the_protocol() -> None:
    assert set(CODES) == {"internal"} | {e.code for e in errors.MainspringError.__subclasses__()}


def test_every_route_but_two_needs_a_permission() -> None:
    opened = {
        route.path for face in faces() for route in face.routes if isinstance(route.access, Open)
    }

    assert opened == {"/version", "/server-info"}


@pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
def test_the_same_routes_lie_under_both_prefixes(face: Face, prefix: str) -> None:
    answered = face.ask("GET", f"{prefix}/2.0/mlflow/experiments/get?experiment_id=0")

    assert answered.json["experiment"]["name"] == "Default"
    assert answered.json["experiment"]["artifact_location"] == "mlflow-artifacts:/0"


def test_whole_numbers_come_as_text_or_number_and_go_as_number(face: Face) -> None:
    run = face.post("runs/create", {"experiment_id": "0", "start_time": "123"}).json["run"]["info"]

    body = {"run_id": run["run_id"], "key": "m", "value": 1, "timestamp": "5", "step": "7"}
    assert face.post("runs/log-metric", body).content == b"{}"

    found = face.get("runs/get", run_id=run["run_id"]).json["run"]
    assert found["info"]["start_time"] == 123
    assert found["data"]["metrics"] == [{"key": "m", "value": 1.0, "timestamp": 5, "step": 7}]
    assert "end_time" not in found["info"]
    assert found["info"]["run_uuid"] == run["run_id"]


@pytest.mark.parametrize("spelled", ["NaN", '"NaN"', "Infinity", '"-Infinity"', "-Infinity"])
def test_what_is_no_number_comes_bare_or_quoted(face: Face, spelled: str) -> None:
    run = face.post("runs/create", {"experiment_id": "0"}).json["run"]["info"]["run_id"]
    body = f'{{"run_id": "{run}", "key": "m", "value": {spelled}, "timestamp": 1}}'

    answered = face.ask("POST", "/api/2.0/mlflow/runs/log-metric", body.encode())

    assert answered.status == 200
    value = face.get("runs/get", run_id=run).json["run"]["data"]["metrics"][0]["value"]
    assert value == spelled.strip('"')


def test_names_come_in_camel_case_nulls_are_absent_and_unknown_fields_ignored(face: Face) -> None:
    made = face.post(
        "runs/create",
        {"experimentId": "0", "startTime": 5, "runName": "x", "userId": None, "colour": "red"},
    ).json["run"]["info"]
    face.post(
        "runs/log-metric", {"runUuid": made["run_id"], "key": "m", "value": 1, "timestamp": 1}
    )

    found = face.post("runs/search", {"experimentIds": ["0"], "maxResults": "5", "filter": None})
    assert [run["info"]["run_name"] for run in found.json["runs"]] == ["x"]
    assert found.json["runs"][0]["data"]["metrics"][0]["key"] == "m"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("experiments/create", {}, "name"),
        ("experiments/create", {"name": ""}, "name"),
        ("experiments/delete", {"experiment_id": None}, "experiment_id"),
        ("runs/update", {"status": "FINISHED"}, "run_id"),
        ("runs/log-metric", {"run_id": "x", "value": 1, "timestamp": 1}, "key"),
        ("runs/log-metric", {"run_id": "x", "key": "m", "timestamp": 1}, "value"),
        ("runs/log-metric", {"run_id": "x", "key": "m", "value": 1}, "timestamp"),
        ("runs/log-metric", {"key": "m", "value": 1, "timestamp": 1}, "run_id"),
        ("runs/log-batch", {"run_id": "x", "tags": [{"value": "1"}]}, "tags[0].key"),
        ("registered-models/create", {}, "name"),
        ("model-versions/create", {"name": "m"}, "source"),
        ("logged-models", {}, "experiment_id"),
    ],
)
def test_a_missing_field_is_named(face: Face, path: str, body: Any, field: str) -> None:
    answered = face.post(path, body)

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    assert answered.json["message"] == MISSING.format(field)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("experiments/create", {"name": 7}, "Invalid value 7 for parameter 'name' supplied"),
        ("experiments/create", {"name": "n" * 501}, "'name' exceeds the maximum length of 500"),
        ("experiments/search", {"max_results": 0}, "for parameter 'max_results' supplied"),
        ("experiments/search", {"max_results": 50_001}, "for parameter 'max_results' supplied"),
        ("experiments/search", {"order_by": "name"}, "for parameter 'order_by' supplied"),
        ("runs/create", {"experiment_id": "0", "start_time": "soon"}, "parameter 'start_time'"),
        ("runs/create", {"experiment_id": "0", "start_time": 2**62}, "start_time"),
        ("runs/search", {"experiment_ids": "0"}, "for parameter 'experiment_ids' supplied"),
        ("runs/log-metric", {"run_id": 5, "key": "m", "value": 1, "timestamp": 1}, "'run_id'"),
        ("runs/update", {"run_id": "x", "status": "DONE"}, "for parameter 'status' supplied"),
    ],
)
def test_a_wrong_value_is_named(face: Face, path: str, body: Any, said: str) -> None:
    answered = face.post(path, body)

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    assert said in answered.json["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"name":"\\ud800"}'],
)
def test_a_body_that_is_no_object_is_told(face: Face, body: bytes) -> None:
    answered = face.ask("POST", "/api/2.0/mlflow/experiments/create", body)

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(face: Face) -> None:
    limit = face.platform.config.request_limit_mib << 20

    answered = face.ask(
        "POST",
        "/api/2.0/mlflow/experiments/create",
        b"{}",
        {"Content-Length": str(limit + 1)},
    )

    assert answered.status == 413
    assert answered.json["error_code"] == "BAD_REQUEST"


def test_an_unknown_path_and_a_wrong_method_are_told_in_the_protocols_way(face: Face) -> None:
    assert face.get("nothing/here").told == (404, "ENDPOINT_NOT_FOUND")
    assert face.get("runs/create").status == 405
    assert face.get("runs/get", run_id="0" * 32).told == (404, "RESOURCE_DOES_NOT_EXIST")
    assert face.get("experiments/get", experiment_id="99").told == (404, "RESOURCE_DOES_NOT_EXIST")


def test_the_server_says_what_it_is(served: Served) -> None:
    face = Face(served, "default")
    assert face.ask("GET", "/version").headers["Content-Type"].startswith("text/plain")
    assert face.ask("GET", "/health").content == b"OK"
    info = face.ask("GET", "/api/3.0/mlflow/server-info").json
    assert info == {"store_type": "mainspring", "workspaces_enabled": False}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Face]:
    """A home of its own: tokens are asked for in the whole home."""
    opened = Served(tmp_path / "home")
    yield Face(opened, "default")
    opened.close()


def test_a_stranger_sees_nothing_and_a_reader_changes_nothing(alone: Face) -> None:
    face = alone
    run = MlflowClient(face.url).create_run("0").info.run_id
    access = face.platform.access("default")
    secrets = {}
    roles: tuple[tuple[str, Role], ...] = (("ada", "admin"), ("bob", "viewer"))
    for name, role in roles:
        access.grant(name, role, actor="local")
        secrets[name] = access.issue(name, actor="local").secret

    body = json.dumps({"run_id": run, "key": "a", "value": "b"}).encode()
    path, tag = f"/api/2.0/mlflow/runs/get?run_id={run}", "/api/2.0/mlflow/runs/set-tag"
    reader = {"Authorization": f"Bearer {secrets['bob']}"}

    assert face.ask("GET", path).told == (401, "UNAUTHENTICATED")
    assert face.ask("POST", tag, body).status == 401
    upload = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/a.txt"
    assert face.ask("PUT", upload, b"x").status == 401
    assert face.ask("GET", path, None, reader).status == 200
    assert face.ask("POST", tag, body, reader).told == (403, "PERMISSION_DENIED")
    assert face.ask("PUT", upload, b"x", reader).status == 403
    found = face.project.tracking.get(run)
    assert "a" not in found.tags
    assert found.artifacts == {}


def test_projects_are_apart_under_their_prefix(
    face: Face, served: Served, client: MlflowClient
) -> None:
    other = MlflowClient(Face(served, "other").url)
    run = other.create_run("0")
    other.log_text(run.info.run_id, "theirs", "a.txt")

    assert face.get("runs/get", run_id=run.info.run_id).status == 404
    assert client.search_runs(["0"]) == []
    path = f"0/{run.info.run_id}/artifacts/a.txt"
    assert face.ask("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}").status == 404
    assert [one.path for one in other.list_artifacts(run.info.run_id)] == ["a.txt"]


def test_a_token_that_was_revoked_is_refused_at_once_on_a_kept_connection(tmp_path: Path) -> None:
    served = Served(tmp_path / "home")
    told = []
    try:
        face = Face(served, "default")
        run = face.post("runs/create", {"experiment_id": "0"}).json["run"]["info"]["run_id"]
        access = face.project.access
        access.grant("ann", "admin", actor="local")
        access.grant("bob", "editor", actor="local")
        access.issue("ann", actor="local")
        bearer = {"Authorization": f"Bearer {access.issue('bob', actor='ann').secret}"}
        body = json.dumps({"run_id": run, "key": "m", "value": 1, "timestamp": 1}).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", face.port)) as connection:

            def log(headers: dict[str, str]) -> None:
                connection.request("POST", "/api/2.0/mlflow/runs/log-metric", body, headers)
                answered = connection.getresponse()
                answered.read()
                told.append(answered.status)

            log(bearer)
            log(bearer)
            access.grant("bob", "viewer", actor="ann")
            log(bearer)
            access.grant("bob", "editor", actor="ann")
            log(bearer)
            access.revoke("bob", actor="ann")
            log(bearer)
            log({})
    finally:
        served.close()

    assert told == [200, 200, 403, 200, 401, 401]


def test_a_history_is_told_whole_whatever_its_length(face: Face) -> None:
    run = face.post("runs/create", {"experiment_id": "0"}).json["run"]["info"]["run_id"]
    for start in range(0, 21_000, 1000):
        points = [
            {"key": "m", "value": "NaN" if i % 7 == 0 else i / 3, "timestamp": 5, "step": i}
            for i in range(start, start + 1000)
        ]
        assert face.post("runs/log-batch", {"run_id": run, "metrics": points}).status == 200

    whole = face.get("metrics/get-history", run_id=run, metric_key="m").json
    page = face.get("metrics/get-history", run_id=run, metric_key="m", max_results=15_000).json
    rest = face.get(
        "metrics/get-history",
        run_id=run,
        metric_key="m",
        max_results=15_000,
        page_token=page["next_page_token"],
    ).json

    assert [point["step"] for point in whole["metrics"]] == list(range(21_000))
    assert whole["metrics"][:2] == [
        {"key": "m", "value": "NaN", "timestamp": 5, "step": 0},
        {"key": "m", "value": 1 / 3, "timestamp": 5, "step": 1},
    ]
    assert "next_page_token" not in whole
    assert page["metrics"] + rest["metrics"] == whole["metrics"]
    assert "next_page_token" not in rest
    none = face.get("metrics/get-history", run_id=run, metric_key="none").json
    assert none.get("metrics", []) == []
