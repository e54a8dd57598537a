"""Clients that we did not write: tritonclient and curl, and the examples of the page for them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tests.serving.serving_process import Workers
from tests.serving.serving_world import World, failing_at, live
from tritonclient.utils import InferenceServerException

PAGE = (Path(__file__).parents[2] / "docs" / "v2.md").read_text("utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("home"))
    world.publish(1, live(world.model(failing_at("EWR"))))
    return world


@pytest.fixture(scope="module")
def workers(world: World) -> Iterator[Workers]:
    found = Workers(world.home)
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture
def client(workers: Workers) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{workers.port}") as found:
        yield found


def sent(*, binary: bool, origins: tuple[str, ...] = ("JFK", "LGA")) -> list[triton.InferInput]:
    count = len(origins)
    columns = {
        "origin": ("BYTES", np.array(origins, object)),
        "distance": ("FP64", np.linspace(1.0, 2.0, count)),
        "hour": ("INT64", np.arange(count)),
    }
    inputs = []
    for name, (datatype, values) in columns.items():
        one = triton.InferInput(name, list(values.shape), datatype)
        one.set_data_from_numpy(values, binary_data=binary)
        inputs.append(one)
    return inputs


def test_tritonclient_asks_how_the_server_and_its_models_are(
    client: triton.InferenceServerClient,
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("delay")
    assert client.is_model_ready("delay", "1")
    assert not client.is_model_ready("delay", "2")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "mainspring"
    metadata = client.get_model_metadata("delay")
    assert metadata["versions"] == ["1"]
    assert [(i["name"], i["datatype"], i["shape"]) for i in metadata["inputs"]] == [
        ("origin", "BYTES", [-1]),
        ("distance", "FP64", [-1]),
        ("hour", "INT64", [-1]),
        ("__key__", "BYTES", [-1]),
        ("__event_time__", "BYTES", [-1]),
    ]
    assert metadata["outputs"] == [{"name": "score", "datatype": "FP64", "shape": [-1]}]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_tritonclient_gets_its_predictions(
    world: World, client: triton.InferenceServerClient, binary: bool, asked: bool | None
) -> None:
    wanted = [triton.InferRequestedOutput(name, binary_data=asked) for name in ("score", "version")]
    name = f"r-{binary}-{asked}"

    answer = client.infer(
        "delay",
        sent(binary=binary),
        request_id=name,
        outputs=None if asked is None else wanted,
    )

    response = answer.get_response()
    (block,) = [block for block in world.blocks() if block.request == name]
    assert response["id"] == name
    assert response["parameters"]["prediction_id"] == block.prediction
    assert answer.as_numpy("score").tolist() == [0.5, 0.5]
    assert block.strings["origin"] == ["JFK", "LGA"]
    assert block.columns["distance"].tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    if asked is not None:
        assert [str(v).strip("b'") for v in answer.as_numpy("version")] == ["1", "1"]


def test_tritonclient_meets_a_row_that_fails(client: triton.InferenceServerClient) -> None:
    for binary in (False, True):
        wanted = [triton.InferRequestedOutput("score", binary_data=binary)]
        answer = client.infer("delay", sent(binary=True, origins=("JFK", "EWR")), outputs=wanted)
        scores = answer.as_numpy("score").astype(float)
        assert np.array_equal(scores, [0.5, np.nan], equal_nan=True)


def test_tritonclient_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="has no route"):
        client.infer("other", sent(binary=False))
    with pytest.raises(InferenceServerException, match="'hour' is missing"):
        client.infer("delay", sent(binary=False)[:2])
    with pytest.raises(InferenceServerException, match="does not answer it now"):
        client.infer("delay", sent(binary=False), model_version="9")
    with pytest.raises(InferenceServerException, match="encoded"):
        client.infer("delay", sent(binary=False), request_compression_algorithm="deflate")


def test_tritonclient_may_compress_and_set_a_time(client: triton.InferenceServerClient) -> None:
    answer = client.infer(
        "delay", sent(binary=True), request_compression_algorithm="gzip", timeout=10_000_000
    )
    assert answer.as_numpy("score").tolist() == [0.5, 0.5]
    with pytest.raises(InferenceServerException, match="its timeout is 1 us"):
        client.infer("delay", sent(binary=False), timeout=1)


def test_tritonclient_counts(client: triton.InferenceServerClient) -> None:
    before = client.get_inference_statistics("delay")["model_stats"][0]
    client.infer("delay", sent(binary=False))
    after = client.get_inference_statistics("delay", "1")["model_stats"][0]

    assert after["inference_count"] == before["inference_count"] + 2
    assert after["execution_count"] == before["execution_count"] + 1


def test_curl_sends_a_large_body_after_the_go_ahead(workers: Workers, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"inputs": [' + " " * 3_000_000 + "]}", "utf-8")
    url = f"http://127.0.0.1:{workers.port}/v2/models/delay/infer"
    command = ["curl", "-sv", "-H", "Expect: 100-continue", "--data-binary", f"@{body}", url]

    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "HTTP/1.1 100 Continue" in answer.stderr
    assert "no inputs" in answer.stdout


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", [*examples("bash"), *examples("python")])
def test_the_examples_of_the_page_run(workers: Workers, example: str) -> None:
    program = example.replace("127.0.0.1:8701", f"127.0.0.1:{workers.port}")
    shell = ["bash", "-ec"] if "curl" in program else [sys.executable, "-c"]

    answer = subprocess.run([*shell, program], capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "delay" in answer.stdout or "0.5" in answer.stdout


# Of mlflow's own module, when it is imported.
@pytest.mark.filterwarnings("ignore:.*type hint is inferred:UserWarning")
def test_mlflows_client_of_scoring_servers_asks_for_a_frame(workers: Workers) -> None:
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    scoring: Any = ScoringServerClient("127.0.0.1", workers.port)  # type: ignore[no-untyped-call]
    scoring.ping()

    rows = pd.DataFrame({"origin": ["JFK", "LGA"], "distance": [1.0, None], "hour": [1, 2]})
    answer = scoring.invoke(rows)

    assert answer.get_predictions().iloc[:, 0].tolist() == [0.5, 0.5]


def test_tritonclient_looks_into_the_repository(client: triton.InferenceServerClient) -> None:
    (one,) = client.get_model_repository_index()

    client.load_model("delay")
    with pytest.raises(InferenceServerException, match="decided by its routes"):
        client.unload_model("delay")
    with pytest.raises(InferenceServerException, match="has no route"):
        client.load_model("other")

    assert (one["name"], one["version"], one["state"]) == ("delay", "1", "READY")
