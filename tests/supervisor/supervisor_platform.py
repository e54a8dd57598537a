"""A platform of stand-ins in a process of its own, as tests see it."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from mainspring.core.home import Home
from mainspring.formats.wire import Assignment, Message, Process, StartRun, encode
from mainspring.supervisor.roster import Roster, read_roster

DRIVER = Path(__file__).with_name("supervisor_driver.py")
PATIENCE_S = 20.0

T = TypeVar("T")


def until(look: Callable[[], T | None]) -> T:
    """Look until there is something, and give it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)
    return found


def gone(pid: int) -> bool:
    """Say whether a process is no more, or only waits to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@dataclass
class Platform:
    home: Home
    popen: subprocess.Popen[str] = field(repr=False)

    def ready(self) -> Roster:
        """Wait for the line that says that everything is ready."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        assert line, self.popen.communicate()[1]
        return msgspec.json.decode(line, type=Roster)

    def trace(self, event: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Give what the stand-ins noted, in order."""
        try:
            lines = (self.home.root / "trace").read_text().splitlines()
        except FileNotFoundError:
            return []
        noted = [json.loads(line) for line in lines]
        return [
            one for one in noted if event in (None, one["event"]) and name in (None, one["name"])
        ]

    def processes(self) -> dict[str, Process]:
        """Give what is in the roster, by name."""
        roster = read_roster(self.home)
        assert roster is not None
        return {one.name: one for one in roster.processes}

    def process(self, name: str) -> Process:
        """Give one process, once it is in the roster."""
        return until(lambda: self.processes().get(name))

    def notices(self) -> list[str]:
        """Give what the supervisor wrote into its log, without the times."""
        try:
            lines = (self.home.logs / "supervisor.log").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.partition(" ")[2] for line in lines]

    def ask(self, url: str, message: Message | None = None) -> int:
        """Connect to a listening socket, have control pass on a message; give who answered."""
        address = urlsplit(url)
        assert address.port is not None
        with (
            socket.create_connection((address.hostname, address.port), PATIENCE_S) as connection,
            connection.makefile("rwb") as file,
        ):
            file.write(encode(message) if message else b"\n")
            file.flush()
            return int(file.readline())

    def start_run(self, url: str, run: str, interpreter: str | None = None) -> None:
        assignment = Assignment("default", run, f"token-{run}", 1, interpreter)
        self.ask(url, StartRun(assignment))

    def terminate(self) -> None:
        self.popen.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, str]:
        """Wait for the end; give its exit code and what it said."""
        _, said = self.popen.communicate(timeout=PATIENCE_S)
        return self.popen.returncode, said
