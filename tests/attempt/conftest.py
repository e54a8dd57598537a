"""Homes whose runs are processes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "story"))
sys.path.insert(0, str(Path(__file__).parent / "station"))

from attempt_station import Station


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    home = tmp_path / "home"
    home.mkdir()
    opened = Station(home)
    yield opened
    opened.close()
