"""Programs that log, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


class Training:
    """Runs programs that log, each in a process of its own."""

    def __init__(self, root: Path, url: str) -> None:
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MAINSPRING_SPOOL": str(root),
        }

    def begin(self, program: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, **environment: str) -> tuple[str, str]:
        """Give what it prints, on both channels."""
        process = self.begin(program, **environment)
        out, error = process.communicate(timeout=90)
        assert process.returncode == 0, error
        return out, error
