"""A served home, and training processes that log to it through a spool."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "mlflow" / "served"))
sys.path.insert(1, str(Path(__file__).parent / "training"))

from mlflow_face import Served
from training_process import Training


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with closing(Served(tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def training(root: Path, served: Served) -> Training:
    return Training(root, f"http://127.0.0.1:{served.port}")
