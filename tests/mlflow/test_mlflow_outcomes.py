"""What MLflow's own server answers to wrong input, recorded from 3.17.2: code and status alike."""

import json
from typing import Any

import pytest
from mlflow_face import Face

INVALID = (400, "INVALID_PARAMETER_VALUE")
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")
EXISTS = (400, "RESOURCE_ALREADY_EXISTS")
POINT = {"key": "a", "value": 1, "timestamp": 1}
LONG = "a" * 300

# In a body and a query, RUN, EXP and MOD stand for those that are there.
OUTCOMES: list[tuple[str, str, Any, tuple[int, str]]] = [
    ("POST", "experiments/create", {"name": "there"}, EXISTS),
    ("POST", "experiments/create", {}, INVALID),
    ("POST", "experiments/create", {"name": ""}, INVALID),
    ("POST", "experiments/create", {"name": 5}, INVALID),
    ("POST", "experiments/create", {"name": "n", "artifact_location": "s3://b/x?y"}, INVALID),
    ("POST", "experiments/create", {"name": "n", "artifact_location": "s3://b/x#y"}, INVALID),
    ("GET", "experiments/get", None, INVALID),
    ("GET", "experiments/get?experiment_id=999", None, MISSING),
    ("GET", "experiments/get?experiment_id=abc", None, INVALID),
    ("GET", "experiments/get-by-name?experiment_name=none", None, MISSING),
    ("POST", "experiments/update", {"experiment_id": "999", "new_name": "n"}, MISSING),
    ("POST", "experiments/delete", {"experiment_id": "999"}, MISSING),
    ("POST", "experiments/restore", {"experiment_id": "EXP"}, MISSING),
    (
        "POST",
        "experiments/set-experiment-tag",
        {"experiment_id": "EXP", "key": LONG, "value": ""},
        INVALID,
    ),
    (
        "POST",
        "experiments/delete-experiment-tag",
        {"experiment_id": "EXP", "key": "none"},
        MISSING,
    ),
    ("POST", "experiments/search", {"max_results": 0}, INVALID),
    ("POST", "experiments/search", {"max_results": 60000}, INVALID),
    ("POST", "experiments/search", {"filter": "bad = 'x'", "max_results": 1}, INVALID),
    ("POST", "runs/create", {"experiment_id": "999"}, MISSING),
    ("POST", "runs/create", {"experiment_id": "EXP", "start_time": "abc"}, INVALID),
    ("GET", "runs/get", None, INVALID),
    ("GET", "runs/get?run_id=none", None, MISSING),
    ("POST", "runs/delete-tag", {"run_id": "RUN", "key": "none"}, MISSING),
    ("POST", "runs/log-metric", {"run_id": "RUN", "key": "a", "value": 1}, INVALID),
    ("POST", "runs/log-metric", {"run_id": "RUN", **POINT, "value": "x"}, INVALID),
    ("POST", "runs/log-metric", {"run_id": "RUN", **POINT, "key": "../a"}, INVALID),
    ("POST", "runs/log-metric", {"run_id": "RUN", **POINT, "key": LONG}, INVALID),
    ("POST", "runs/log-metric", {"run_id": "none", **POINT}, MISSING),
    ("POST", "runs/log-parameter", {"run_id": "RUN", "key": "p", "value": "2"}, INVALID),
    ("POST", "runs/set-tag", {"run_id": "RUN", "key": "/a", "value": ""}, INVALID),
    ("POST", "runs/log-batch", {"run_id": "none"}, MISSING),
    ("POST", "runs/log-batch", {"run_id": "RUN", "metrics": [POINT] * 1001}, INVALID),
    ("POST", "runs/log-batch", {"run_id": "RUN", "metrics": "x"}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "filter": "metrics.a > 'x'"}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "filter": "params.p = 1"}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "filter": "metrics.a IS NULL"}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "order_by": ["metrics.a BAD"]}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "max_results": 50001}, INVALID),
    ("POST", "runs/search", {"experiment_ids": ["EXP"], "page_token": "!"}, INVALID),
    ("GET", "artifacts/list?run_id=RUN&path=../x", None, INVALID),
    ("GET", "artifacts/list?run_id=RUN&path=%252e%252e/x", None, INVALID),
    ("GET", "artifacts/list?run_id=RUN&path=/etc", None, INVALID),
    ("GET", "artifacts/list?run_id=none", None, MISSING),
    ("POST", "registered-models/create", {"name": "MOD"}, EXISTS),
    ("POST", "registered-models/create", {"name": "a/b"}, INVALID),
    ("GET", "registered-models/get?name=none", None, MISSING),
    ("POST", "registered-models/rename", {"name": "none", "new_name": "n"}, MISSING),
    ("DELETE", "registered-models/delete", {"name": "none"}, MISSING),
    ("GET", "registered-models/search?max_results=1001", None, INVALID),
    ("GET", "registered-models/search?order_by=bad", None, INVALID),
    ("POST", "model-versions/create", {"name": "none", "source": "s3://b/x"}, MISSING),
    ("POST", "model-versions/create", {"name": "MOD"}, INVALID),
    ("POST", "model-versions/create", {"name": "MOD", "source": "models:/none/1"}, MISSING),
    ("GET", "model-versions/get?name=MOD&version=99", None, MISSING),
    ("GET", "model-versions/get?name=MOD&version=abc", None, INVALID),
    ("DELETE", "model-versions/delete", {"name": "MOD", "version": "99"}, MISSING),
    ("GET", "model-versions/search?max_results=200001", None, INVALID),
    (
        "POST",
        "model-versions/transition-stage",
        {"name": "MOD", "version": "1", "stage": "Bad"},
        INVALID,
    ),
    ("POST", "registered-models/alias", {"name": "MOD", "alias": "v1", "version": "1"}, INVALID),
    ("POST", "registered-models/alias", {"name": "MOD", "alias": "latest", "version": 1}, INVALID),
    ("POST", "registered-models/alias", {"name": "MOD", "alias": "a", "version": "99"}, MISSING),
    ("GET", "registered-models/alias?name=MOD&alias=none", None, INVALID),
    ("GET", "registered-models/alias?name=none&alias=a", None, MISSING),
    ("POST", "registered-models/get-latest-versions", {"name": "MOD", "stages": ["x"]}, INVALID),
    ("POST", "logged-models", {"experiment_id": "EXP", "name": "a/b"}, INVALID),
    ("POST", "logged-models", {"experiment_id": "999", "name": "a"}, MISSING),
    ("GET", "logged-models/m-none", None, MISSING),
    ("POST", "logged-models/search", {}, INVALID),
    ("GET", "webhooks/none", None, MISSING),
    ("PATCH", "webhooks/none", {"name": "n"}, MISSING),
    ("DELETE", "webhooks/none", {}, MISSING),
    ("POST", "webhooks/none/test", {}, MISSING),
    ("GET", "webhooks?max_results=1001", None, INVALID),
]  # fmt: skip


def test_wrong_input_is_told_in_mlflows_codes(face: Face) -> None:
    made = face.post("experiments/create", {"name": "there"}).json["experiment_id"]
    run = face.post("runs/create", {"experiment_id": made}).json["run"]["info"]["run_id"]
    face.post("runs/log-parameter", {"run_id": run, "key": "p", "value": "1"})
    face.post("registered-models/create", {"name": "m"})
    face.post("model-versions/create", {"name": "m", "source": "s3://b/x"})

    def there(text: str) -> str:
        for name, value in (("RUN", run), ("EXP", made), ("MOD", "m")):
            text = text.replace(name, value)
        return text

    told = []
    for method, path, body, _ in OUTCOMES:
        content = None if body is None else there(json.dumps(body)).encode()
        told.append(face.ask(method, f"/api/2.0/mlflow/{there(path)}", content).told)

    wrong = [
        (method, path, body, found)
        for (method, path, body, expected), found in zip(OUTCOMES, told, strict=True)
        if found != expected
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "/etc", "file:///etc", "FILE:/etc", "../x", "./x", "x", "//etc", "file%3A///etc",
        "mlflow-artifacts:/../x", "mlflow-artifacts:/%2e%2e/x", "mlflow-artifacts:/%252e%252e/x",
        "models:/none", "runs:/none/x", "http://h/../../x", "s3://b/..%2f..%2fetc", "C:\\x",
        "local:/etc", "jar:file:/x",
    ],
)  # fmt: skip
def test_no_version_is_made_of_a_path_of_this_machine(face: Face, source: str) -> None:
    face.post("registered-models/create", {"name": "m"})

    told = face.post("model-versions/create", {"name": "m", "source": source}).told

    assert told == INVALID
    assert face.get("model-versions/search").json == {}


def test_what_lies_in_another_project_is_no_source(face: Face) -> None:
    other = Face.__new__(Face)
    other.__dict__ = {**face.__dict__, "prefix": f"{face.prefix}-other"}
    run = other.post("runs/create", {"experiment_id": "0"}).json["run"]["info"]
    place = f"{run['artifact_uri']}/model".replace("mlflow-artifacts:/", "")
    put = other.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel", b"x")
    assert put.status == 200
    face.post("registered-models/create", {"name": "m"})
    other.post("registered-models/create", {"name": "m"})

    sources = (f"runs:/{run['run_id']}/model", f"{run['artifact_uri']}/model")
    for source in sources:
        told = face.post("model-versions/create", {"name": "m", "source": source}).told
        assert told == MISSING
        made = other.post("model-versions/create", {"name": "m", "source": source})
        assert made.status == 200
        # A version's own address is readable where the version is, nowhere else.
        uri = other.get(
            "model-versions/get-download-uri",
            name="m",
            version=made.json["model_version"]["version"],
        ).json["artifact_uri"]
        path = uri.replace("mlflow-artifacts:/", "/api/2.0/mlflow-artifacts/artifacts/")
        assert other.ask("GET", f"{path}/MLmodel").content == b"x"
        assert face.ask("GET", f"{path}/MLmodel").told == MISSING
        assert face.post("model-versions/create", {"name": "m", "source": uri}).told == MISSING
