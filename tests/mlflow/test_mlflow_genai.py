"""Prompts, evaluation datasets with their records, scorers, and traces of clients before 3.0."""

import json
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_face import Answered, Face

V3 = "/api/3.0/mlflow"


def ask(face: Face, method: str, path: str, body: Any = None) -> Answered:
    return face.ask(method, V3 + path, None if body is None else json.dumps(body).encode())


def test_a_prompt_is_registered_loaded_by_alias_found_and_deleted(client: MlflowClient) -> None:
    first = client.register_prompt("greet", "Hi {{name}}", commit_message="one", tags={"a": "b"})
    client.register_prompt("greet", "Hello {{name}}")
    client.set_prompt_alias("greet", "prod", first.version)

    assert client.load_prompt("prompts:/greet@prod").format(name="you") == "Hi you"
    assert client.load_prompt("greet").version == 2
    assert client.load_prompt("prompts:/greet/1").tags["a"] == "b"
    assert [one.name for one in client.search_prompts()] == ["greet"]
    assert [one.version for one in client.search_prompt_versions("greet")] == [2, 1]
    # A prompt is no model, though it lies where models do.
    assert client.search_registered_models() == []
    client.set_prompt_tag("greet", "k", "v")
    assert client.get_prompt("greet").tags["k"] == "v"

    client.delete_prompt_alias("greet", "prod")
    for version in ("1", "2"):
        client.delete_prompt_version("greet", version)
    client.delete_prompt("greet")
    assert client.get_prompt("greet") is None


def test_the_newest_version_answers_to_latest(face: Face, client: MlflowClient) -> None:
    client.create_registered_model("m")
    none = face.get("registered-models/alias", name="m", alias="latest")
    assert none.told == (404, "RESOURCE_DOES_NOT_EXIST")

    for _ in range(2):
        client.create_model_version("m", "s3://bucket/model")

    assert client.get_model_version_by_alias("m", "latest").version == "2"


def test_records_of_a_dataset_are_kept_merged_paged_and_deleted(client: MlflowClient) -> None:
    experiment = client.create_experiment("asked")
    made = client.create_dataset("questions", experiment_id=[experiment], tags={"a": "b"})
    store = client._tracking_client.store

    told = [{"inputs": {"q": n}, "expectations": {"a": n}, "tags": {"t": "1"}} for n in range(3)]
    assert store.upsert_dataset_records(made.dataset_id, told) == {"inserted": 3, "updated": 0}
    again = [{"inputs": {"q": 1}, "expectations": {"b": 2}, "outputs": {"x": [1, None]}}]
    assert store.upsert_dataset_records(made.dataset_id, again) == {"inserted": 0, "updated": 1}

    page, token = store._load_dataset_records(made.dataset_id, max_results=2)
    rest, end = store._load_dataset_records(made.dataset_id, max_results=2, page_token=token)
    records = [*page, *rest]
    assert [record.inputs["q"] for record in records] == [0, 1, 2]
    assert (records[1].expectations, records[1].outputs) == ({"a": 1, "b": 2}, {"x": [1, None]})
    assert records[1].tags == {"t": "1"}
    assert not end
    gone = [records[0].dataset_record_id, "dr-none"]
    assert store.delete_dataset_records(made.dataset_id, gone) == 1
    assert json.loads(client.get_dataset(made.dataset_id).profile or "") == {"num_records": 2}


def test_datasets_are_found_tagged_and_linked_to_experiments(
    face: Face, client: MlflowClient
) -> None:
    one, two = client.create_experiment("one"), client.create_experiment("two")
    made = client.create_dataset("alpha", experiment_id=[one], tags={"kind": "x"})
    client.create_dataset("beta", experiment_id=[two])

    def names(**query: Any) -> list[str]:
        return [each.name for each in client.search_datasets(**query)]

    assert names() == ["beta", "alpha"]
    assert names(order_by=["name ASC"]) == ["alpha", "beta"]
    assert names(experiment_ids=[two]) == ["beta"]
    assert names(filter_string="name LIKE 'a%' AND tags.kind = 'x'") == ["alpha"]
    client.set_dataset_tags(made.dataset_id, {"more": "y"})
    client.delete_dataset_tag(made.dataset_id, "kind")
    tags = client.get_dataset(made.dataset_id).tags
    assert {key: tags[key] for key in tags if key != "mlflow.user"} == {"more": "y"}
    client.add_dataset_to_experiments(made.dataset_id, [two])
    client.remove_dataset_from_experiments(made.dataset_id, [one])
    path = f"/datasets/{made.dataset_id}"
    assert ask(face, "GET", f"{path}/experiment-ids").json == {"experiment_ids": [two]}
    unknown = ask(face, "POST", f"{path}/add-experiments", {"experiment_ids": ["77"]})
    assert unknown.told == (404, "RESOURCE_DOES_NOT_EXIST")

    client.delete_dataset(made.dataset_id)
    with pytest.raises(MlflowException, match="not found"):
        client.get_dataset(made.dataset_id)
    assert ask(face, "GET", f"{path}/records").json == {"records": "[]"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("create", {}),
        ("create", {"name": "d", "tags": "no json"}),
        ("search", {"filter_string": "bad = 'x'"}),
        ("search", {"max_results": 0}),
        ("search", {"page_token": "!"}),
        ("d-none/records", {}),
        ("d-none/records", {"records": "{"}),
        ("d-none/records", {"records": '[{"inputs": 5}]'}),
        ("d-none/records", {"records": "[" * 100_000}),
    ],
)
def test_what_is_no_dataset_is_refused(face: Face, path: str, body: dict[str, Any]) -> None:
    told = ask(face, "POST", f"/datasets/{path}", body).told
    assert told == (400, "INVALID_PARAMETER_VALUE")


def test_scorers_are_kept_by_version(face: Face) -> None:
    for n in (1, 2):
        body = {"experiment_id": "0", "name": "s", "serialized_scorer": json.dumps({"n": n})}
        assert ask(face, "POST", "/scorers/register", body).json["version"] == n
    query = "?experiment_id=0&name=s"

    newest = ask(face, "GET", "/scorers/list?experiment_id=0").json["scorers"]
    assert [(one["scorer_name"], one["scorer_version"]) for one in newest] == [("s", 2)]
    found = ask(face, "GET", f"/scorers/versions{query}").json["scorers"]
    assert len({one["scorer_id"] for one in found}) == 1
    first = ask(face, "GET", f"/scorers/get{query}&version=1").json["scorer"]
    assert json.loads(first["serialized_scorer"]) == {"n": 1}
    named = {"experiment_id": "0", "name": "s"}
    assert ask(face, "DELETE", "/scorers/delete", {**named, "version": 1}).status == 200
    assert ask(face, "GET", f"/scorers/get{query}&version=1").status == 404
    assert ask(face, "DELETE", "/scorers/delete", named).json == {}
    assert ask(face, "GET", "/scorers/list?experiment_id=0").json == {}
    assert ask(face, "GET", "/scorers/online-configs?scorer_ids=a").json == {"configs": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", "register", {"experiment_id": "0", "name": "s"}, (400, "INVALID_PARAMETER_VALUE")),
        (
            "POST",
            "register",
            {"experiment_id": "0", "name": "s", "serialized_scorer": "no json"},
            (400, "INVALID_PARAMETER_VALUE"),
        ),
        (
            "POST",
            "register",
            {"experiment_id": "99", "name": "s", "serialized_scorer": "{}"},
            (404, "RESOURCE_DOES_NOT_EXIST"),
        ),
        ("GET", "list?experiment_id=99", None, (404, "RESOURCE_DOES_NOT_EXIST")),
        ("GET", "versions?experiment_id=0&name=z", None, (404, "RESOURCE_DOES_NOT_EXIST")),
        (
            "DELETE",
            "delete",
            {"experiment_id": "0", "name": "z"},
            (404, "RESOURCE_DOES_NOT_EXIST"),
        ),
    ],
)
def test_what_is_no_scorer_is_told(
    face: Face, method: str, path: str, body: Any, told: tuple[int, str]
) -> None:
    assert ask(face, method, f"/scorers/{path}", body).told == told


def test_a_trace_of_an_old_client_begins_ends_and_is_read_by_new_ones(face: Face) -> None:
    pair = [{"key": "a", "value": "1"}]
    begun = face.post(
        "traces", {"experiment_id": "0", "timestamp_ms": "100", "request_metadata": pair}
    ).json["trace_info"]
    assert (begun["status"], begun["timestamp_ms"]) == ("IN_PROGRESS", 100)
    path = f"traces/{begun['request_id']}"

    ended = face.post(
        path,
        {"timestamp_ms": 350, "status": "OK", "tags": pair, "request_metadata": [
            {"key": "b", "value": "2"}
        ]},
        "PATCH",
    ).json["trace_info"]  # fmt: skip

    assert (ended["status"], ended["execution_time_ms"]) == ("OK", 250)
    assert ended["request_metadata"] == [*pair, {"key": "b", "value": "2"}]
    assert face.get(f"{path}/info").json["trace_info"] == ended
    found = face.get("traces", experiment_ids=["0"], filter="tags.a = '1'", max_results=1).json
    assert found == {"traces": [ended]}
    new = ask(face, "GET", f"/{path}").json["trace"]["trace_info"]
    assert (new["state"], new["execution_duration"]) == ("OK", "0.250s")
    unknown = face.post("traces/tr-none", {"timestamp_ms": 1, "status": "OK"}, "PATCH")
    assert unknown.told == (404, "RESOURCE_DOES_NOT_EXIST")
    assert face.post("traces", {"experiment_id": "0"}).told == (400, "INVALID_PARAMETER_VALUE")


def test_traces_are_counted_and_timed_by_state_name_and_time(face: Face) -> None:
    for n, state in enumerate(("OK", "OK", "ERROR")):
        head = {
            "trace_id": f"tr-{n}",
            "trace_location": {"mlflow_experiment": {"experiment_id": "0"}},
            "request_time": f"2024-01-01T00:0{n}:00Z",
            "execution_duration": f"{n + 1}s",
            "state": state,
            "tags": {"mlflow.traceName": "call"},
        }
        ask(face, "POST", "/traces", {"trace": {"trace_info": head}})
    base = {"experiment_ids": ["0"], "view_type": "TRACES"}

    def points(**more: Any) -> list[tuple[dict[str, str], dict[str, float]]]:
        found = ask(face, "POST", "/traces/metrics", {**base, **more}).json.get("data_points", [])
        return [(one.get("dimensions", {}), one["values"]) for one in found]

    count = {"metric_name": "trace_count", "aggregations": [{"aggregation_type": "COUNT"}]}
    assert points(**count, dimensions=["trace_status"]) == [
        ({"trace_status": "ERROR"}, {"COUNT": 1.0}),
        ({"trace_status": "OK"}, {"COUNT": 2.0}),
    ]
    assert points(**count, time_interval_seconds=120, dimensions=["trace_name"]) == [
        ({"time_bucket": "2024-01-01T00:00:00+00:00", "trace_name": "call"}, {"COUNT": 2.0}),
        ({"time_bucket": "2024-01-01T00:02:00+00:00", "trace_name": "call"}, {"COUNT": 1.0}),
    ]
    took = [
        {"aggregation_type": "PERCENTILE", "percentile_value": 50},
        {"aggregation_type": "AVG"},
        {"aggregation_type": "MAX"},
    ]
    [(_, values)] = points(metric_name="latency", aggregations=took, filters=["status = 'OK'"])
    assert values == {"P50.0": 1500.0, "AVG": 1500.0, "MAX": 2000.0}
    assert points(**count, start_time_ms=1_900_000_000_000) == []
    for wrong in (
        {**count, "metric_name": "bad"},
        {**count, "aggregations": []},
        {**count, "dimensions": ["bad"]},
        {**count, "time_interval_seconds": 0},
        {**count, "aggregations": [{"aggregation_type": "AVG"}]},
        {"metric_name": "latency", "aggregations": [{"aggregation_type": "PERCENTILE"}]},
    ):
        told = ask(face, "POST", "/traces/metrics", {**base, **wrong}).told
        assert told == (400, "INVALID_PARAMETER_VALUE")
