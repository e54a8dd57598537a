import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.supervisor.supervisor_platform import DRIVER, Platform, gone, until

from mainspring.core.config import Config
from mainspring.core.home import Home

Up = Callable[..., Platform]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Start platforms of stand-ins; all are gone after the test."""
    started: list[Platform] = []

    def start(
        *, start_limit_s: float = 20.0, ways: dict[str, str] | None = None, **settings: Any
    ) -> Platform:
        home = Home(tmp_path / "home")
        config = Config(**{"port": 0, "inference_port": 0, "workers": 2, **settings})
        asked = {"home": str(home.root), "config": config, "start_limit_s": start_limit_s}
        environment = {f"STAND_IN_{name}": way for name, way in (ways or {}).items()}
        popen = subprocess.Popen(
            [sys.executable, str(DRIVER), msgspec.json.encode(asked).decode()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MAINSPRING_TOKEN": "secret", **environment},
        )
        started.append(Platform(home, popen))
        return started[-1]

    yield start

    for platform in started:
        pids = {one["pid"] for one in platform.trace()}
        platform.popen.kill()
        platform.popen.communicate()
        until(lambda pids=pids: all(gone(pid) for pid in pids))  # type: ignore[misc]
