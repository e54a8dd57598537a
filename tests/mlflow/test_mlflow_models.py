"""Logged models, registered models and versions through the unmodified client."""

import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from mlflow_face import Face
from sklearn.linear_model import LinearRegression, LogisticRegression

from mainspring.core.events import Aliased, ModelCreated, Registered

pytestmark = [
    # The client hints at type hints, and at its safer format, which is not installed everywhere.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:Starting with pandas"),
]


def log_twice(**options: Any) -> Any:
    """Log a model that gives its column twice."""
    rows = np.arange(10.0).reshape(10, 1)
    return mlflow.sklearn.log_model(
        LinearRegression().fit(rows, rows[:, 0] * 2),
        name="twice",
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        **options,
    )


@pytest.fixture(autouse=True)
def pickles_may_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")


def test_a_logged_model_is_made_finalised_read_back_and_loaded(client: MlflowClient) -> None:
    with mlflow.start_run() as run:
        info = log_twice(params={"factor": 2}, tags={"kind": "toy"})
        mlflow.log_metric("auc", 0.9, step=3, model_id=info.model_id)

    model = client.get_logged_model(info.model_id)
    assert (model.name, str(model.status), model.source_run_id) == (
        "twice",
        "READY",
        run.info.run_id,
    )
    assert model.params == {"factor": "2"}
    assert model.tags["kind"] == "toy"
    assert [(m.key, m.value, m.step, m.run_id) for m in model.metrics or ()] == [
        ("auc", 0.9, 3, run.info.run_id)
    ]
    outputs = client.get_run(run.info.run_id).outputs
    assert outputs is not None
    assert [one.model_id for one in outputs.model_outputs] == [info.model_id]
    loaded = mlflow.pyfunc.load_model(info.model_uri)
    assert loaded.predict(np.array([[1.0], [2.0]])).round(6).tolist() == [2, 4]
    assert mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/twice") is not None


def test_logged_models_are_searched_tagged_and_deleted(client: MlflowClient) -> None:
    ids = [client.create_logged_model("0", name=f"m{i}").model_id for i in range(3)]
    with mlflow.start_run():
        for i, model in enumerate(ids):
            mlflow.log_metric("auc", i / 10, model_id=model)
    client.set_logged_model_tags(ids[0], {"stage": "trial", "gone": "soon"})
    client.delete_logged_model_tag(ids[0], "gone")

    best = client.search_logged_models(
        ["0"], order_by=[{"field_name": "metrics.auc", "ascending": False}]
    )
    assert [model.model_id for model in best] == ids[::-1]
    found = client.search_logged_models(["0"], filter_string="metrics.auc >= 0.1 AND name = 'm1'")
    assert [model.model_id for model in found] == [ids[1]]
    tagged = client.search_logged_models(["0"], filter_string="tags.stage = 'trial'")
    assert [model.tags for model in tagged] == [{"stage": "trial"}]
    page = client.search_logged_models(["0"], max_results=2)
    assert len(client.search_logged_models(["0"], max_results=2, page_token=page.token)) == 1
    client.delete_logged_model(ids[0])
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(ids[0])
    with pytest.raises(MlflowException, match="cannot contain"):
        client.create_logged_model("0", name="a/b")


def test_a_sklearn_model_is_registered_aliased_and_loaded_by_its_alias(
    face: Face, client: MlflowClient
) -> None:
    rows = np.arange(40.0).reshape(20, 2)
    model = LogisticRegression().fit(rows, [0] * 10 + [1] * 10)
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            model,
            name="wear",
            registered_model_name="wear model",
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )

    client.set_registered_model_alias("wear model", "champion", "1")

    found = client.get_model_version_by_alias("wear model", "champion")
    assert (found.version, found.run_id, found.status) == ("1", run.info.run_id, "READY")
    loaded = mlflow.sklearn.load_model("models:/wear model@champion")
    assert loaded.predict(rows).tolist() == model.predict(rows).tolist()
    registry = face.project.stages.registry
    version = registry.get("wear model", "1")
    assert version.opaque
    assert "MLmodel" in registry.card("wear model", "1").files
    facts = face.platform.ledger.facts(project=face.project.name, limit=100)
    events = [type(fact.event) for fact in facts]
    assert [e for e in events if e in (ModelCreated, Registered, Aliased)] == [
        ModelCreated,
        Registered,
        Aliased,
    ]


def test_a_version_stays_what_it_was_when_its_run_changes(
    client: MlflowClient, tmp_path: Path
) -> None:
    run = client.create_run("0").info
    client.log_text(run.run_id, "first", "model/MLmodel")
    client.create_registered_model("m")
    source = f"{run.artifact_uri}/model"
    client.create_model_version("m", source, run.run_id)

    client.log_text(run.run_id, "second", "model/MLmodel")

    uri = client.get_model_version_download_uri("m", "1")
    down = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    assert (Path(down) / "MLmodel").read_text() == "first"
    assert client.get_model_version("m", "1").source == source


def test_models_and_versions_are_described_tagged_renamed_and_deleted(
    client: MlflowClient,
) -> None:
    client.create_registered_model("a b", tags={"team": "ops"}, description="first")
    with pytest.raises(RestException, match="already exists"):
        client.create_registered_model("a b")
    for _ in range(2):
        client.create_model_version("a b", "s3://bucket/model", tags={"k": "v"})
    client.set_registered_model_alias("a b", "best", "2")
    client.set_registered_model_tag("a b", "team", "dev")
    client.delete_registered_model_tag("a b", "none")
    client.update_registered_model("a b", "second")
    client.update_model_version("a b", "1", "of January")
    client.set_model_version_tag("a b", "1", "k", "w")

    client.rename_registered_model("a b", "c")

    model = client.get_registered_model("c")
    assert (model.description, model.tags, model.aliases) == (
        "second",
        {"team": "dev"},
        {"best": "2"},
    )
    version = client.get_model_version("c", "1")
    assert (version.description, version.tags) == ("of January", {"k": "w"})
    client.delete_model_version("c", "2")
    assert client.get_registered_model("c").aliases == {}
    assert client.create_model_version("c", "s3://bucket/model").version == "3"
    client.delete_registered_model("c")
    with pytest.raises(RestException, match="not found"):
        client.get_registered_model("c")
    assert client.search_model_versions("name = 'c'") == []


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_stages_move_and_archive(client: MlflowClient) -> None:
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", "s3://bucket/model")
    client.transition_model_version_stage("m", "1", "production")

    client.transition_model_version_stage("m", "2", "Production", archive_existing_versions=True)

    assert client.get_model_version("m", "1").current_stage == "Archived"
    assert [v.version for v in client.get_latest_versions("m", ["Production"])] == ["2"]
    with pytest.raises(MlflowException, match="Invalid Model Version stage"):
        client.transition_model_version_stage("m", "1", "Nowhere")


def test_models_are_searched_in_pages_and_prompts_are_apart(
    face: Face, client: MlflowClient
) -> None:
    for name in ("ant", "bee", "cat", "Cow"):
        client.create_registered_model(name, tags={"legs": "4" if name > "c" else "6"})
    prompt = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    face.post("registered-models/create", {"name": "ask", "tags": [prompt]})

    first = client.search_registered_models(max_results=3)
    rest = client.search_registered_models(max_results=3, page_token=first.token)

    assert [m.name for m in [*first, *rest]] == ["Cow", "ant", "bee", "cat"]
    assert [m.name for m in client.search_registered_models("name LIKE 'c%'")] == ["cat"]
    assert [m.name for m in client.search_registered_models("name ILIKE 'c%'")] == ["Cow", "cat"]
    assert [m.name for m in client.search_registered_models("tags.legs = '4'")] == ["cat"]
    ordered = client.search_registered_models(order_by=["name DESC"])
    assert [m.name for m in ordered] == ["cat", "bee", "ant", "Cow"]
    with pytest.raises(MlflowException, match="Invalid attribute name"):
        client.search_registered_models("size > 3")


def test_versions_are_searched_by_run_number_and_source(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.create_registered_model("m")
    client.create_model_version("m", "s3://bucket/a", run)
    client.create_model_version("m", "s3://bucket/b")

    for text, versions in (
        ("name = 'm'", ["2", "1"]),
        (f"run_id = '{run}'", ["1"]),
        ("source_path = 's3://bucket/b'", ["2"]),
        ("name = 'm' and version_number < 2", ["1"]),
        (f"run_id IN ('{run}', 'none')", ["1"]),
    ):
        assert [v.version for v in client.search_model_versions(text)] == versions, text
    ordered = client.search_model_versions("name = 'm'", order_by=["version_number ASC"])
    assert [v.version for v in ordered] == ["1", "2"]


def test_numbers_are_distinct_when_many_register_at_once(face: Face, client: MlflowClient) -> None:
    client.create_registered_model("m")
    seen: list[str] = []

    def register() -> None:
        mine = MlflowClient(face.url)
        seen.extend(mine.create_model_version("m", "s3://bucket/x").version for _ in range(5))

    threads = [threading.Thread(target=register) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(map(int, seen)) == list(range(1, 31))


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("/etc/passwd", 400),
        ("etc/passwd", 400),
        ("file:///etc/passwd", 400),
        ("file:/etc/passwd", 400),
        ("FiLe:///etc/passwd", 400),
        ("%66ile:///etc/passwd", 400),
        ("s3://bucket/../../etc", 400),
        ("mlflow-artifacts:/0/../../etc", 400),
        ("mlflow-artifacts:/0/%2e%2e/%2e%2e/etc", 400),
        ("mlflow-artifacts:/0/x?file=/etc/passwd", 400),
        ("mlflow-artifacts:/0/x#/etc/passwd", 400),
        ("mlflow-artifacts:/0/" + "0" * 32 + "/artifacts/m", 404),
        ("mlflow-artifacts:/manifests/" + "0" * 64, 404),
        ("runs:/" + "0" * 32 + "/m", 404),
        ("models:/m-" + "0" * 32, 404),
        ("models:/other/1", 404),
        ("x" * 501, 400),
    ],
)
def test_a_version_never_comes_from_the_servers_disk(
    face: Face, client: MlflowClient, source: str, status: int
) -> None:
    client.create_registered_model("m")

    answered = face.post("model-versions/create", {"name": "m", "source": source})

    assert answered.status == status, answered.content
    assert client.search_model_versions("name = 'm'") == []


def test_a_version_of_a_run_lies_within_it(face: Face, client: MlflowClient) -> None:
    mine, other = (client.create_run("0").info for _ in range(2))
    client.log_text(other.run_id, "x", "m/MLmodel")
    client.create_registered_model("m")

    body = {"name": "m", "source": f"{other.artifact_uri}/m", "run_id": mine.run_id}
    answered = face.post("model-versions/create", body)

    assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    assert face.post("model-versions/create", body | {"run_id": "0" * 32}).status == 404


def test_a_foreign_source_is_kept_and_never_opened(face: Face, client: MlflowClient) -> None:
    client.create_registered_model("m")

    made = client.create_model_version("m", "s3://bucket/model")

    assert made.source == "s3://bucket/model"
    assert client.get_model_version_download_uri("m", "1") == "s3://bucket/model"
    query = "name=m&version=1&path=MLmodel"
    assert face.ask("GET", f"/model-versions/get-artifact?{query}").status == 404


def test_an_alias_is_a_name_and_an_unknown_one_is_invalid(face: Face, client: MlflowClient) -> None:
    client.create_registered_model("m")
    client.create_model_version("m", "s3://bucket/model")

    for alias in ("latest", "v1", "V22", "a b", "a/b", ""):
        body = {"name": "m", "alias": alias, "version": "1"}
        assert face.post("registered-models/alias", body).status == 400, alias
    unknown = face.get("registered-models/alias", name="m", alias="none")
    assert unknown.told == (400, "INVALID_PARAMETER_VALUE")
    assert unknown.json["message"] == "Registered model alias none not found."
    client.delete_registered_model_alias("m", "none")


def test_a_model_that_can_serve_is_never_deleted_or_renamed(
    face: Face, client: MlflowClient
) -> None:
    stages = face.project.stages
    manifest = stages.blobs.put(b'{"files":{},"kind":"onnx"}')
    stages.registry.register(model="delay", manifest=manifest, actor="loop")

    for path, body in (
        ("registered-models/delete", {"name": "delay"}),
        ("model-versions/delete", {"name": "delay", "version": "1"}),
    ):
        assert face.post(path, body, method="DELETE").status == 400
    assert face.post("registered-models/rename", {"name": "delay", "new_name": "x"}).status == 400

    source = client.get_model_version("delay", "1").source or ""
    assert source.startswith("mlflow-artifacts:/manifests/")
    assert [m.name for m in client.search_registered_models()] == ["delay"]
