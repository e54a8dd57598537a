"""The MLflow face on a real socket, in a thread of this process."""

import asyncio
import http.client
import json
import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control
from mainspring.server.listening import Server
from mainspring.server.mlflow.face import faces


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
    def told(self) -> tuple[int, str]:
        """Status and MLflow's code of an error."""
        return self.status, str(self.json["error_code"])


class Served:
    """A home with the face in front of it."""

    def __init__(self, home: Path, config: Config | None = None, *, port: int = 0) -> None:
        self.platform = Platform.open(config or Config(), home, clock=SystemClock())
        self.home = home
        listening = socket.create_server(("127.0.0.1", port))
        self.port = listening.getsockname()[1]
        answers = threading.Event()
        control = Control(None, self.platform.clock.now())
        app = build_app(self.platform, control, faces=faces())
        self._server = Server(app, drain_s=2, on_ready=answers.set)
        self._thread = threading.Thread(target=self._run, args=(listening,))
        self._thread.start()
        assert answers.wait(10)

    def _run(self, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve([listening]))

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.platform.close()


class Face:
    """The face of one project of a served home; `default` is at the root."""

    def __init__(self, served: Served, project: str) -> None:
        self.platform = served.platform
        self.home = served.home
        self.port = served.port
        self.prefix = "" if project == "default" else f"/p/{project}"
        self.url = f"http://127.0.0.1:{self.port}{self.prefix}"
        self.project = served.platform.project(project)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answered:
        """Send one request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, self.prefix + path, body, headers or {})
            return Answered(connection.getresponse())

    def post(self, path: str, body: Any, method: str = "POST") -> Answered:
        """Ask with JSON below the protocol's prefix."""
        return self.ask(method, f"/api/2.0/mlflow/{path}", json.dumps(body).encode())

    def get(self, path: str, **query: Any) -> Answered:
        """Ask with a query below the protocol's prefix."""
        return self.ask("GET", f"/api/2.0/mlflow/{path}?{urlencode(query, doseq=True)}")
