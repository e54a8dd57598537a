"""A project's monitoring over a real database."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.monitoring.monitoring_bench import Bench, open_bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with open_bench(tmp_path) as made:
        yield made
