"""The real client in front of the MLflow face."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parent / "served"))

from mlflow_face import Face, Served

_numbers = itertools.count()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One home for all tests: each has a project of its own."""
    opened = Served(tmp_path_factory.mktemp("mlflow") / "home")
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def face(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Face]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    # The client keeps the experiment for the life of its process, and for its children.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
    opened = Face(served, f"test{next(_numbers)}")
    mlflow.set_tracking_uri(opened.url)
    yield opened
    while mlflow.active_run() is not None:
        mlflow.end_run()
    # An address that nothing is at: what forgets to set its own fails at once.
    mlflow.set_tracking_uri("http://127.0.0.1:9")


@pytest.fixture
def client(face: Face) -> MlflowClient:
    return MlflowClient(face.url)
