"""The control process's application on a real socket, in a thread of this process."""

import asyncio
import http.client
import json
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import uvloop

from mainspring.access.permissions import Role
from mainspring.api.client import Client
from mainspring.api.http import HttpCaller
from mainspring.api.local import local_client
from mainspring.cli.starter import rows
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.data.writing import RowWriter
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control
from mainspring.server.listening import Server
from mainspring.server.routing import Face

sys.path.insert(0, str(Path(__file__).parents[1] / "api" / "bodies"))

STARTER = Path(rows.__file__).with_name("project.py")


class Answered:
    """One answer, read whole."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.content = answer.read()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.json["error"]["code"])


class Served:
    """A home with the application in front of it; runs are executed in this process."""

    def __init__(self, home: Path, *, config: Config | None = None) -> None:
        self.config = config or Config()
        self.platform = Platform.open(self.config, home, clock=SystemClock())
        self.local = local_client(self.platform, self.config)
        self.control = Control(None, self.platform.clock.now())
        self.port = 0
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, faces: Sequence[Face] = ()) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        answers = threading.Event()
        app = build_app(self.platform, self.control, faces=faces)
        self._server = Server(app, drain_s=2, on_ready=answers.set)
        self._thread = threading.Thread(target=self._run, args=(listening,))
        self._thread.start()
        assert answers.wait(10)

    def _run(self, listening: socket.socket) -> None:
        assert self._server is not None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve([listening]))

    def stop(self) -> None:
        """Drain, as the process does."""
        if self._server is not None and self._thread is not None:
            self.control.draining.set()
            self._server.should_exit = True
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._server = None

    def close(self) -> None:
        self.stop()
        self.platform.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answered:
        """Send one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, body, headers or {})
            return Answered(connection.getresponse())

    def post(self, verb: str, body: Any, **headers: str) -> Answered:
        """Call a verb with JSON."""
        path = f"/api/v1/{verb.replace('.', '/')}"
        given = {"Content-Type": "application/json", **headers}
        return self.ask("POST", path, json.dumps(body).encode(), given)

    def raw(self, content: bytes, *, then_close: bool = False) -> bytes:
        """Send bytes as they are, and give all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(content)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def client(self, caller: HttpCaller, project: str = "default") -> Client:
        """Give a client of the address; rows of commits it writes itself."""
        return Client(caller, RowWriter(self.platform.project(project).tables), project)

    def token(self, name: str, role: Role, project: str = "default") -> str:
        """Give a role and a token of it."""
        access = self.platform.access(project)
        access.grant(name, role, actor="local")
        return access.issue(name, actor="local").secret

    def content(self) -> list[str]:
        """Give the whole database as text."""
        with closing(sqlite3.connect(self.platform.home.database)) as connection:
            return list(connection.iterdump())


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def started_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the starter project, its rows, and a version that is live."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "project.py").write_text(STARTER.read_text("utf-8"), "utf-8")
    rows.write_rows(folder)
    config = Config()
    with Platform.open(config, folder / "home", clock=SystemClock()) as platform:
        client = local_client(platform, config)
        client.apply(folder / "project.py")
        for name in ("readings", "stops"):
            client.commit_file(name, folder / f"{name}.csv", token=f"test-{name}:1")
    return folder / "home"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Give what opens and serves homes, and closes them all."""
    open_now: list[Served] = []

    def serving(home: Path | None = None, *, faces: Sequence[Face] = (), **settings: Any) -> Served:
        place = tmp_path / f"home{len(open_now)}"
        if home is not None:
            copytree(home, place)
        served = Served(place, config=replace(Config(), **settings))
        open_now.append(served)
        served.start(faces)
        return served

    yield serving
    for served in open_now:
        served.close()


@pytest.fixture
def fresh(serve: Serve) -> Served:
    """A home with the starter project applied, and nothing else."""
    served = serve()
    served.local.apply(STARTER)
    return served


@pytest.fixture
def started(serve: Serve, started_home: Path) -> Served:
    """A home with rows."""
    return serve(started_home)
