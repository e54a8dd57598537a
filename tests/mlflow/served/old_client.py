"""What a client of 2.9 does with the server that its first argument names; run by its Python."""

import pathlib
import sys
import tempfile

import mlflow
from mlflow import MlflowClient


def main(uri: str) -> None:
    """Log, read back, register and load; say `done` at the end."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    mlflow.set_experiment("old")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_param("p", "1")
        mlflow.log_params({"q": 2})
        mlflow.log_metric("loss", 0.5, step=1)
        mlflow.log_metrics({"loss": 0.25, "auc": 0.9}, step=2)
        mlflow.set_tag("t", "v")
        mlflow.log_dict({"a": 1}, "deep/told.json")
        with mlflow.start_run(nested=True):
            pass
    found = client.get_run(run.info.run_id)
    assert found.data.metrics == {"loss": 0.25, "auc": 0.9}, found.data.metrics
    assert found.data.params == {"p": "1", "q": "2"}
    assert found.info.status == "FINISHED"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [0.5, 0.25]
    assert len(client.search_runs([run.info.experiment_id], "metrics.loss < 0.3")) == 1
    with tempfile.TemporaryDirectory() as folder:
        path = client.download_artifacts(run.info.run_id, "deep", folder)
        assert (pathlib.Path(path) / "told.json").is_file()
    client.create_registered_model("old")
    version = client.create_model_version("old", f"{run.info.artifact_uri}/deep", run.info.run_id)
    client.transition_model_version_stage("old", version.version, "Production")
    assert [v.version for v in client.get_latest_versions("old", ["Production"])] == ["1"]
    client.set_registered_model_alias("old", "best", "1")
    assert client.get_model_version_by_alias("old", "best").version == "1"
    assert client.search_model_versions("name = 'old'")[0].run_id == run.info.run_id
    client.delete_run(run.info.run_id)
    client.restore_run(run.info.run_id)
    print("done", mlflow.__version__)


if __name__ == "__main__":
    main(sys.argv[1])
