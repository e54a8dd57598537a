"""An owned home behind its real HTTP application; attempts are real processes, started here."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import uvloop

from mainspring.api.client import Client
from mainspring.api.http import HttpCaller
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.ids import Id
from mainspring.data.writing import RowWriter
from mainspring.formats.wire import Assignment, Ready, Welcome, Wire
from mainspring.pipelines.runs import Runs
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control
from mainspring.server.listening import Server

PATIENCE_S = 60.0

T = TypeVar("T")


def until(look: Callable[[], T | None]) -> T:
    """Look until there is something, and give it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found


@dataclass
class Attempt:
    """A process that works on a run, and our end of its wire."""

    assignment: Assignment
    popen: "subprocess.Popen[bytes]"
    wire: Wire

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.popen.pid, number)

    def end(self) -> int:
        return self.popen.wait(PATIENCE_S)


@dataclass
class Station:
    """The platform as the control process has it, with the test as its supervisor."""

    home: Path
    config: Config = field(default_factory=Config)
    tick_s: float = 0.2

    def __post_init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.stopped: list[str] = []
        self.on_start: Callable[[Assignment], None] = self.launch
        self.platform = Platform.open(self.config, self.home, clock=SystemClock(), owned=True)
        self.platform.run_by(lambda assignment: self.on_start(assignment), self._stop_run)
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        control = Control(None, self.platform.clock.now())
        answers = threading.Event()
        self._server = Server(build_app(self.platform, control), drain_s=2, on_ready=answers.set)
        self._thread = threading.Thread(target=self._serve, args=(listening,))
        self._thread.start()
        assert answers.wait(20)
        self.caller = HttpCaller(self.url)
        project = self.platform.project("default")
        self.client = Client(self.caller, RowWriter(project.tables), "default")
        self.platform.drive(self.tick_s, serving=lambda _: True)

    @property
    def runs(self) -> Runs:
        return self.platform.project("default").stages.runs

    def log(self, run: str) -> str:
        path = self.platform.home.runs("default") / f"{run}.log"
        return path.read_text("utf-8") if path.exists() else ""

    def launch(self, assignment: Assignment) -> None:
        """Start a process as the supervisor does, and tell the loop when it is gone."""
        ours, theirs = socket.socketpair()
        arguments = ["-m", "mainspring.attempt", "--supervisor-fd", str(theirs.fileno())]
        with theirs, (self.home / "attempts.log").open("ab") as output:
            popen = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.home,
            )
        wire = Wire(ours)
        wire.send(
            Welcome(
                role="run",
                worker="",
                home=str(self.home),
                directory=str(self.home),
                config=self.config,
                url=self.url,
                inference_url="",
                assignment=assignment,
            )
        )
        attempt = Attempt(assignment, popen, wire)
        self.attempts.append(attempt)
        threading.Thread(target=self._tell, args=(attempt,), daemon=True).start()

    def nth(self, number: int) -> Attempt:
        """Wait for the n-th attempt, counted from 1, to be at work."""
        attempt = until(lambda: dict(enumerate(self.attempts, 1)).get(number))
        assert isinstance(attempt.wire.receive(), Ready)
        return attempt

    def run_of(self, attempt: Attempt) -> Id:
        return Id(attempt.assignment.run)

    def close(self) -> None:
        self.on_start = lambda _: None
        self.platform.rest()
        for attempt in self.attempts:
            if attempt.popen.poll() is None:
                attempt.kill()
            attempt.end()
            attempt.wire.close()
        self.caller.close()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.platform.close()

    def _tell(self, attempt: Attempt) -> None:
        attempt.popen.wait()
        driver = self.platform.project("default").driver
        driver.run_ended(attempt.assignment.run, attempt.assignment.token)

    def _stop_run(self, run: str) -> None:
        self.stopped.append(run)
        for attempt in self.attempts:
            if attempt.assignment.run == run and attempt.popen.poll() is None:
                attempt.kill(signal.SIGTERM)

    def _serve(self, listening: socket.socket) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._server.serve([listening]))
