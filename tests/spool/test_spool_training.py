"""Training that logs through a spool: unmodified mlflow, an absent server, killed processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_face import Face, Served
from training_process import Training

from mainspring.spool.folder import spools

KILLS = int(os.environ.get("MAINSPRING_TEST_KILLS", "3"))

WHOLE = """
import json, mlflow, numpy
with mlflow.start_run(run_name="whole") as run:
    for step in range(300):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metric("odd", float("nan"))
    mlflow.log_metric("far", float("-inf"), step=numpy.int64(3))
    mlflow.log_metrics({"a": numpy.float32(0.5), "b": 2})
    mlflow.log_params({"depth": 6, "name": "x"})
    mlflow.set_tag("stage", "test")
    mlflow.log_input(mlflow.data.from_numpy(numpy.zeros((3, 2)), name="zeros"), context="training")
    seen = mlflow.get_run(run.info.run_id)
    print(json.dumps([run.info.run_id, run.info.artifact_uri, seen.data.params]))
"""


def client(served: Served) -> MlflowClient:
    return MlflowClient(f"http://127.0.0.1:{served.port}")


def test_a_program_that_knows_nothing_of_it_logs_the_same(
    training: Training, served: Served, root: Path
) -> None:
    out, error = training.run(WHOLE)

    run_id, location, seen = json.loads(out)
    found = client(served).get_run(run_id)
    assert error == ""
    assert seen == {"depth": "6", "name": "x"}
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "whole"
    assert found.info.artifact_uri == location
    assert found.data.params == seen
    assert found.data.tags["stage"] == "test"
    assert found.data.metrics["far"] == float("-inf")
    assert found.data.metrics["odd"] != found.data.metrics["odd"]
    assert (found.data.metrics["a"], found.data.metrics["b"]) == (0.5, 2)
    assert found.inputs is not None
    assert [one.dataset.name for one in found.inputs.dataset_inputs] == ["zeros"]
    steps = [point.step for point in client(served).get_metric_history(run_id, "loss")]
    assert steps == list(range(300))
    assert spools(root) == []


AWAY = """
import mlflow
with mlflow.start_run(run_name="away") as run:
    for step in range(50):
        mlflow.log_metric("loss", 0.5, step=step)
print(run.info.run_id)
"""


def test_training_goes_on_while_the_server_is_away_and_the_next_process_sends(
    training: Training, served: Served, root: Path, tmp_path: Path
) -> None:
    # What the server is, and its experiments, are known from an earlier training.
    training.run(AWAY)
    served.close()

    out, error = training.run(AWAY, MAINSPRING_SPOOL_EXIT_S="0.2", MAINSPRING_SPOOL_WAIT_S="0.2")
    run_id = out.strip()

    assert "mainspring spool flush" in error
    (left,) = spools(root)
    assert left.pending()[0] == 52
    with closing(Served(tmp_path / "home", port=served.port)) as again:
        out, _ = training.run(AWAY)
        other = out.strip()
        found = client(again)
        for one in (run_id, other):
            assert found.get_run(one).info.status == "FINISHED"
            assert len(found.get_metric_history(one, "loss")) == 50
        assert spools(root) == []


KILLED = """
import os, sys, mlflow
run = mlflow.start_run().info.run_id
print(run, flush=True)
client = mlflow.MlflowClient()
step = 0
while True:
    client.log_metric(run, "loss", step / 7, step=step)
    step += 1
    if step % 100 == 0:
        os.write(1, b"%d\\n" % step)
"""


@pytest.mark.slow
def test_what_was_logged_before_a_kill_is_there_once(
    training: Training, served: Served, root: Path
) -> None:
    pick = random.Random(7)
    runs: dict[str, int] = {}
    for _ in range(KILLS):
        process = training.begin(KILLED)
        assert process.stdout is not None
        assert process.stderr is not None
        run_id = process.stdout.readline().strip()
        time.sleep(pick.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
        process.stderr.close()
        process.stdout.close()
        process.wait()
        runs[run_id] = int(told[-1]) if told else 0

    command = [str(Path(sys.executable).with_name("mainspring")), "spool", "flush", str(root)]
    answered = subprocess.run(
        [*command, "--json"], env=training.environment, capture_output=True, text=True, check=True
    )

    assert json.loads(answered.stdout)["failed"] == []
    for run_id, acknowledged in runs.items():
        points = client(served).get_metric_history(run_id, "loss")
        steps = [point.step for point in points]
        assert steps == list(range(len(steps)))
        assert len(steps) >= acknowledged
    assert spools(root) == []


REFUSED = """
import mlflow
with mlflow.start_run() as run:
    mlflow.log_param("depth", 1)
    mlflow.MlflowClient().log_batch(run.info.run_id, params=[mlflow.entities.Param("depth", "2")])
    mlflow.log_metric("after", 1)
print(run.info.run_id)
"""


def test_what_the_server_refuses_is_named_and_stops_nothing(
    training: Training, served: Served, root: Path
) -> None:
    out, error = training.run(REFUSED)

    found = client(served).get_run(out.strip())
    assert found.data.params == {"depth": "1"}
    assert found.data.metrics == {"after": 1}
    assert "Changing param values is not allowed" in error
    (left,) = spools(root)
    (refused,) = left.refusals()
    assert refused.path == "runs/log-batch"
    assert '"value":"2"' in refused.body


UNKNOWN = """
import mlflow
from mlflow.exceptions import MlflowException
try:
    mlflow.MlflowClient().create_run("12345")
except MlflowException as error:
    print(error.error_code, error)
"""


def test_a_run_that_cannot_begin_is_refused_at_once(training: Training) -> None:
    out, _ = training.run(UNKNOWN)

    assert out.startswith("RESOURCE_DOES_NOT_EXIST No Experiment with id=12345 exists")


FORKED = """
import os, mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("parent", 1)
    child = os.fork()
    if child == 0:
        client = mlflow.MlflowClient()
        for step in range(20):
            client.log_metric(run.info.run_id, "child", step, step=step)
        # As DataLoader's workers end: without the interpreter's own end.
        from mainspring.spool import live
        live._end()
        os._exit(0)
    os.waitpid(child, 0)
    for step in range(20):
        mlflow.log_metric("parent", step, step=step + 1)
print(run.info.run_id)
"""


def test_a_forked_process_has_a_spool_of_its_own(
    training: Training, served: Served, root: Path
) -> None:
    out, _ = training.run(FORKED)

    run_id = out.strip()
    assert len(client(served).get_metric_history(run_id, "child")) == 20
    assert len(client(served).get_metric_history(run_id, "parent")) == 21
    assert spools(root) == []


def test_a_spool_is_listed_and_none_is_an_error(training: Training, root: Path) -> None:
    command = [str(Path(sys.executable).with_name("mainspring")), "spool", "list"]
    absent = subprocess.run(
        command, env=training.environment, capture_output=True, text=True, check=False
    )
    root.mkdir()
    empty = subprocess.run(
        command, env=training.environment, capture_output=True, text=True, check=True
    )

    assert absent.returncode == 1
    assert "not_found" in absent.stderr
    assert empty.stdout.strip() == "nothing waits"


def test_entries_that_were_answered_for_are_not_logged_again(served: Served) -> None:
    face = Face(served, "default")
    run = face.post("runs/create", {"experiment_id": "0", "start_time": 1}).json["run"]["info"][
        "run_id"
    ]
    spool = "ab" * 16

    def entry(step: int) -> list[object]:
        body = {"run_id": run, "key": "loss", "value": 1, "timestamp": 1, "step": step}
        return ["runs/log-metric", body]

    first = face.post(
        "mainspring/spool", {"spool": spool, "first": 0, "entries": [entry(0), entry(1)]}
    )
    again = face.post(
        "mainspring/spool",
        {"spool": spool, "first": 1, "entries": [entry(1), ["runs/delete", {}], entry(2)]},
    )
    gap = face.post("mainspring/spool", {"spool": spool, "first": 9, "entries": [entry(3)]})

    assert first.json == {"next": 2, "refused": [], "unseen": 0}
    assert again.json["next"] == 4
    assert [one["number"] for one in again.json["refused"]] == [2]
    assert gap.json["unseen"] == 5
    assert face.get("mainspring/spool", spool=spool).json["next"] == 10
    points = face.get("metrics/get-history", run_id=run, metric_key="loss").json["metrics"]
    assert [point.get("step", 0) for point in points] == [0, 1, 2, 3]
    wrong = face.post("mainspring/spool", {"spool": "x", "first": 0, "entries": []})
    assert wrong.told == (400, "INVALID_PARAMETER_VALUE")
