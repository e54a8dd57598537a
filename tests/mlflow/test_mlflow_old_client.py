"""A client of 2.9, in an environment of its own, in front of the face."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_face import Face

PYTHON = Path(os.environ.get("OLD_MLFLOW_PYTHON", f"{sys.prefix}/old-client/bin/python"))

pytestmark = pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("ALL_PARTS_MANDATORY") != "1",
    reason="no client of 2.9: `make old-client` installs it, OLD_MLFLOW_PYTHON names its Python",
)


def test_a_client_of_2_9_logs_reads_registers_and_searches(face: Face) -> None:
    script = Path(__file__).parent / "served" / "old_client.py"

    ended = subprocess.run(
        [PYTHON, "-W", "ignore", script, face.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.stdout.split() == ["done", "2.9.2"], ended.stderr[-2000:]
