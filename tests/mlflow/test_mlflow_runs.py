"""Runs through the unmodified client: what is logged is read back."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import inf, isnan, nan

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException, RestException
from mlflow_face import Face

LOG_FOREVER = """
import sys, mlflow
with mlflow.start_run(run_id=sys.argv[1] or None) as run:
    for step in range(int(sys.argv[2]), int(sys.argv[3])):
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        print(run.info.run_id, step, flush=True)
"""


def test_what_a_run_logs_is_read_back() -> None:
    mlflow.set_experiment("flights")

    with mlflow.start_run(run_name="first", tags={"team": "ops"}, description="a trial") as run:
        mlflow.log_param("depth", 6)
        mlflow.log_params({"rate": 0.1, "kind": "trees"})
        mlflow.log_metric("auc", 0.7, step=1)
        mlflow.log_metrics({"loss": 0.5, "auc": 0.8}, step=2)
        mlflow.set_tags({"stage": "trial", "gone": "soon"})
        mlflow.delete_tag("gone")

    found = mlflow.get_run(run.info.run_id)
    assert found.data.params == {"depth": "6", "rate": "0.1", "kind": "trees"}
    assert found.data.metrics == {"auc": 0.8, "loss": 0.5}
    assert found.data.tags["team"] == "ops"
    assert found.data.tags["mlflow.note.content"] == "a trial"
    assert found.data.tags["stage"] == "trial"
    assert "gone" not in found.data.tags
    assert found.info.status == "FINISHED"
    assert found.info.end_time >= found.info.start_time
    assert found.info.run_name == found.data.tags["mlflow.runName"] == "first"


def test_every_number_survives_and_history_is_whole(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    values = [0.1 + 0.2, inf, -inf, nan, 5e-324, 1.7976931348623157e308, 2.0**53 + 1]

    for step, value in enumerate(values):
        client.log_metric(run, "m", value, timestamp=1_700_000_000_000 + step, step=step)
    client.log_metric(run, "m", 1.0, timestamp=7, step=-(2**63))
    client.log_metric(run, "m", 1.0, timestamp=7, step=2**63 - 1)

    history = client.get_metric_history(run, "m")
    assert [point.step for point in history] == [-(2**63), *range(7), 2**63 - 1]
    back = [point.value for point in history[1:-1]]
    assert isnan(back[3])
    assert [v for v in back if not isnan(v)] == [v for v in values if not isnan(v)]
    assert history[1].timestamp == 1_700_000_000_000


def test_the_last_metric_is_the_one_of_the_greatest_step_and_a_repeat_is_kept_once(
    client: MlflowClient,
) -> None:
    run = client.create_run("0").info.run_id

    for step in (1, 5, 3, 5):
        client.log_metric(run, "m", float(step), timestamp=10, step=step)

    assert client.get_run(run).data.metrics == {"m": 5.0}
    assert [p.step for p in client.get_metric_history(run, "m")] == [1, 3, 5]


def test_a_long_history_comes_in_pages(face: Face, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    for start in (0, 1000, 2000):
        points = [Metric("m", i / 7, 1, i) for i in range(start, start + 1000)]
        client.log_batch(run, metrics=points)

    first = face.get("metrics/get-history", run_id=run, metric_key="m", max_results=1700).json
    token = first["next_page_token"]
    rest = face.get("metrics/get-history", run_id=run, metric_key="m", page_token=token).json

    steps = [p["step"] for p in first["metrics"] + rest["metrics"]]
    assert steps == list(range(3000))
    assert "next_page_token" not in rest
    assert len(client.get_metric_history(run, "m")) == 3000
    wrong = face.get("metrics/get-history", run_id=run, metric_key="m", page_token="x" * 9)
    assert wrong.told == (400, "INVALID_PARAMETER_VALUE")


def test_a_batch_has_its_limits_and_is_all_or_nothing(face: Face, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_param(run, "depth", 6)

    for body, said in (
        ({"metrics": [metric(i) for i in range(1001)]}, "at most 1000 metrics. Got 1001"),
        ({"params": [{"key": f"k{i}", "value": "1"} for i in range(101)]}, "at most 100 params"),
        ({"tags": [{"key": f"k{i}", "value": "1"} for i in range(101)]}, "at most 100 tags"),
        ({"metrics": [metric(0), {**metric(1), "timestamp": -1}]}, "'metrics[1].timestamp'"),
        ({"metrics": [{"key": "a", "value": 1.0}]}, "'metrics[0].timestamp'"),
        ({"metrics": [{**metric(0), "value": "much"}]}, 'Invalid value "much" for parameter'),
        ({"metrics": [{**metric(0), "key": "a\nb"}]}, "'metrics[0].name' supplied: Names may"),
        ({"metrics": [{**metric(0), "key": "../up"}]}, "would resolve to"),
        ({"metrics": [{**metric(0), "key": "k" * 10_000}]}, "maximum length of 250"),
        ({"metrics": [{**metric(0), "step": 2**63}]}, "'metrics[0].step'"),
        ({"params": [{"key": "depth", "value": "7"}], "metrics": [metric(0)]}, "Changing param"),
    ):
        answered = face.post("runs/log-batch", {"run_id": run, **body})
        assert answered.told == (400, "INVALID_PARAMETER_VALUE"), body
        assert said in answered.json["message"]

    large = {"run_id": run, "params": [{"key": "k", "value": "v" * 2_000_000}]}
    assert "at most 1000000 bytes" in face.post("runs/log-batch", large).json["message"]
    found = client.get_run(run)
    assert found.data.metrics == {}
    assert found.data.params == {"depth": "6"}


def metric(step: int) -> dict[str, object]:
    return {"key": "m", "value": 1.5, "timestamp": 1, "step": step}


def test_the_client_logs_a_batch_of_everything(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id

    client.log_batch(
        run,
        metrics=[Metric("m", i, 1, i) for i in range(800)],
        params=[Param(f"p{i}", str(i)) for i in range(100)],
        tags=[RunTag(f"t{i}", str(i)) for i in range(100)],
    )

    found = client.get_run(run).data
    assert (found.metrics["m"], len(found.params)) == (799.0, 100)
    assert found.tags["t99"] == "99"


def test_a_parameter_is_written_once_and_long_values_are_cut(client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id
    client.log_param(run, "p", "1")
    client.log_param(run, "p", "1")

    with pytest.raises(MlflowException, match="already logged with value='1'"):
        client.log_param(run, "p", "2")
    client.log_param(run, "long", "v" * 7000)
    client.set_tag(run, "long", "v" * 9000)

    found = client.get_run(run).data
    assert (found.params["p"], len(found.params["long"])) == ("1", 6000)
    assert len(found.tags["long"]) == 8000


@pytest.mark.filterwarnings("ignore:Starting with pandas")
def test_datasets_are_inputs_with_their_context(face: Face, client: MlflowClient) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    with mlflow.start_run() as run:
        mlflow.log_input(from_pandas(frame, name="flights"), context="training")
        mlflow.log_input(from_pandas(frame, name="flights"), context="training")

    linked = client.get_run(run.info.run_id).inputs
    assert linked is not None
    inputs = linked.dataset_inputs
    assert [one.dataset.name for one in inputs] == ["flights"]
    assert [(tag.key, tag.value) for tag in inputs[0].tags] == [("mlflow.data.context", "training")]
    assert json.loads(inputs[0].dataset.profile or "")["num_rows"] == 2
    found = mlflow.search_runs(["0"], "dataset.name = 'flights' and dataset.context = 'training'")
    assert list(found["run_id"]) == [run.info.run_id]
    summary = face.post("experiments/search-datasets", {"experiment_ids": ["0"]}).json
    assert summary["dataset_summaries"][0]["context"] == "training"


def test_nested_runs_name_their_parent() -> None:
    with mlflow.start_run() as parent, mlflow.start_run(nested=True) as child:
        mlflow.log_metric("m", 1)

    key = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    assert list(mlflow.search_runs(["0"], key)["run_id"]) == [child.info.run_id]


def test_a_run_is_resumed_deleted_and_restored(client: MlflowClient) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("m", 1, step=1)
    with mlflow.start_run(run_id=run.info.run_id):
        assert client.get_run(run.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("m", 2, step=2)

    client.delete_run(run.info.run_id)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert mlflow.search_runs(["0"]).empty
    with pytest.raises(RestException, match="must be in the 'active' state"):
        client.log_metric(run.info.run_id, "m", 3)
    client.restore_run(run.info.run_id)

    assert [p.step for p in client.get_metric_history(run.info.run_id, "m")] == [1, 2]
    assert list(mlflow.search_runs(["0"])["run_id"]) == [run.info.run_id]


def test_a_pipelines_run_is_logged_to_and_never_ended_by_the_client(
    face: Face, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = face.project.tracking
    run = face.platform.ids.new()
    tracking.create_run(run, name="delay_model")
    monkeypatch.setenv("MLFLOW_RUN_ID", run)

    with mlflow.start_run() as active:
        mlflow.log_metric("auc", 0.7)
        mlflow.log_text("hello", "notes.txt")

    assert active.info.run_id == run
    named = mlflow.search_runs(["0"], "tags.mlflow.runName = 'delay_model'")
    assert list(named["tags.mlflow.runName"]) == ["delay_model"]
    assert tracking.get(run).status == "running"
    assert tracking.get(run).ended is None
    assert tracking.get(run).metrics["auc"].value == 0.7
    assert "notes.txt" in tracking.get(run).artifacts
    tracking.end_run(run, "cancelled")
    assert client.get_run(run).info.status == "KILLED"
    with pytest.raises(RestException, match="sealed"):
        client.log_metric(run, "auc", 0.9)


def test_sixteen_threads_log_at_once_and_nothing_is_lost(face: Face) -> None:
    client = MlflowClient(face.url)
    runs = [client.create_run("0").info.run_id for _ in range(2)]

    def log(thread: int) -> None:
        mine = MlflowClient(face.url)
        for step in range(10):
            mine.log_metric(runs[thread % 2], f"m{thread}", step, step=step)
            mine.log_metric(runs[0], "shared", thread, step=step)
            mine.set_tag(runs[1], f"t{thread}", str(step))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(log, range(16)))

    for thread in range(16):
        history = client.get_metric_history(runs[thread % 2], f"m{thread}")
        assert [p.value for p in history] == list(range(10))
    assert len(client.get_metric_history(runs[0], "shared")) == 16 * 10
    assert {client.get_run(runs[1]).data.tags[f"t{i}"] for i in range(16)} == {"9"}


LOG_SOME = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
for step in range(20):
    client.log_metric(sys.argv[2], "shared", int(sys.argv[3]), step=step)
    client.log_metric(sys.argv[2], "m" + sys.argv[3], step, step=step)
client.log_param(sys.argv[2], "p" + sys.argv[3], "x")
"""


def test_eight_processes_log_to_one_run_at_once(face: Face, client: MlflowClient) -> None:
    run = client.create_run("0").info.run_id

    children = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", LOG_SOME, face.url, run, str(n)])
        for n in range(8)
    ]

    assert [child.wait(120) for child in children] == [0] * 8
    assert len(client.get_metric_history(run, "shared")) == 160
    for n in range(8):
        assert [p.value for p in client.get_metric_history(run, f"m{n}")] == list(range(20))
    assert len(client.get_run(run).data.params) == 8


def test_a_killed_client_loses_nothing_that_was_answered_and_its_run_goes_on(
    face: Face, client: MlflowClient
) -> None:
    environment = {**os.environ, "MLFLOW_TRACKING_URI": face.url}

    def start(*arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LOG_FOREVER, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    first = start("", "0", "100000")
    assert first.stdout is not None
    seen = [first.stdout.readline().split() for _ in range(20)]
    first.send_signal(signal.SIGKILL)
    first.wait(10)
    first.stdout.close()
    run = seen[0][0]
    logged = [p.step for p in client.get_metric_history(run, "loss")]

    assert logged == list(range(len(logged)))
    assert len(logged) >= 20
    assert client.get_run(run).info.status == "RUNNING"
    second = start(run, str(len(logged)), str(len(logged) + 5))
    second.communicate(timeout=60)
    after = [p.step for p in client.get_metric_history(run, "loss")]
    assert after == list(range(len(logged) + 5))
    assert client.get_run(run).info.status == "FINISHED"
