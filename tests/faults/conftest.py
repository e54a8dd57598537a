"""The driver and the small project of the story tests are used here too."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "wire"))
sys.path.insert(1, str(Path(__file__).parents[1] / "story"))


@pytest.fixture(scope="session")
def answering_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of the small project whose endpoint has its first version; to be copied."""
    from small_driver import HISTORY, SmallDriver
    from small_world import SmallWorld

    from mainspring.api.local import local_client
    from mainspring.core.clock import SystemClock
    from mainspring.core.config import Config
    from mainspring.platform import Platform

    home = tmp_path_factory.mktemp("answering") / "home"
    clock, config = SystemClock(), Config()
    with Platform.open(config, home, clock=clock) as platform:
        client = local_client(platform, config)
        SmallDriver(platform, client, SmallWorld(), clock).run(HISTORY)
    return home


@pytest.fixture
def live_home(answering_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A home of its own whose endpoint answers."""
    home = tmp_path / "home"
    shutil.copytree(answering_home, home)
    yield home
    shutil.rmtree(home, ignore_errors=True)
