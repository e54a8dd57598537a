"""A small platform in this process, and callers of every role."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest

from mainspring.access.actors import Actor
from mainspring.access.permissions import Role
from mainspring.api.caller import MemoryCaller
from mainspring.api.client import Client
from mainspring.api.local import local_client
from mainspring.cli.starter import rows
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.data.writing import RowWriter
from mainspring.platform import Platform

sys.path.insert(0, str(Path(__file__).parent / "bodies"))

STARTER = Path(rows.__file__).with_name("project.py")


class World:
    """An opened home with the starter project, its local client, and callers of other roles."""

    def __init__(self, home: Path) -> None:
        self.config = Config()
        self.platform = Platform.open(self.config, home, clock=SystemClock())
        self.client = local_client(self.platform, self.config)

    def caller(self, role: Role | None, name: str = "somebody") -> MemoryCaller:
        """Give a caller of a role, as the wire's identification would."""
        return MemoryCaller(self.platform, Actor(name, role))

    def client_of(self, role: Role, name: str) -> Client:
        """Give a client of a role."""
        writer = RowWriter(self.platform.project("default").tables)
        return Client(self.caller(role, name), writer, "default")

    def facts(self) -> int:
        """Count the facts."""
        return len(self.platform.ledger.facts(limit=10_000))


@pytest.fixture(scope="session")
def asked_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose first version is weak and live, and whose second waits for a person."""
    folder = tmp_path_factory.mktemp("asked")
    text = STARTER.read_text("utf-8")
    for old, new in (
        ("strength: float = 1.0", "strength: float = 1e-5"),
        ('{"auc": 0.7}', '{"auc": 0.6}'),
        ('deadline="30d"', 'deadline="30d", approval="3d"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "project.py").write_text(text, "utf-8")
    rows.write_rows(folder)
    world = World(folder / "home")
    with world.platform:
        world.client.apply(folder / "project.py")
        for name in ("readings", "stops"):
            world.client.commit_file(name, folder / f"{name}.csv", token=f"test-{name}:1")
        advanced = world.client.advance("stop", datetime(2026, 4, 1, tzinfo=UTC))
        assert advanced.error is None, advanced.error
        started = world.client.start_run("stop", ["strength=1.0"], token="second")
        assert started.error is None, started.error
        assert started.waiting == "version 2 waits for an approval"
    return folder / "home"


@pytest.fixture
def asked(asked_home: Path, tmp_path: Path) -> Iterator[World]:
    """A copy of that home, opened."""
    copytree(asked_home, tmp_path / "home")
    world = World(tmp_path / "home")
    with world.platform:
        yield world


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[World]:
    """A home with the starter project applied, and nothing else."""
    world = World(tmp_path / "home")
    with world.platform:
        world.client.apply(STARTER)
        yield world
