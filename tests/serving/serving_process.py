"""Worker processes for the tests, started as the supervisor does: on one listening socket."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.formats.wire import Drain, Ready, Welcome, Wire

Json = dict[str, Any]


@dataclass
class Child:
    """One worker process and the supervisor's end of its socket pair."""

    process: subprocess.Popen[bytes]
    wire: Wire

    def drain(self) -> int:
        """Ask it to end, and wait."""
        self.wire.send(Drain())
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self.wire.close()


@dataclass
class Workers:
    """Workers that share one listening socket, as below a supervisor."""

    home: Home
    config: Config = field(default_factory=Config)

    def __post_init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.listening.getsockname()[1]
        self.calls = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.grpc_port: int = self.calls.getsockname()[1]
        self.children: list[Child] = []

    def start(self, worker: str = "w1") -> Child:
        """Start a worker and wait until it is ready."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "mainspring.serving"]
        command += ["--supervisor-fd", str(theirs.fileno())]
        command += ["--listen-fd", str(self.listening.fileno())]
        command += ["--grpc-fd", str(self.calls.fileno())]
        fds = (theirs.fileno(), self.listening.fileno(), self.calls.fileno())
        process = subprocess.Popen(command, pass_fds=fds)
        theirs.close()
        ours.settimeout(20)
        child = Child(process, Wire(ours))
        self.children.append(child)
        root = str(self.home.root.resolve())
        child.wire.send(Welcome("inference", worker, root, root, self.config, "", ""))
        assert isinstance(child.wire.receive(), Ready)
        return child

    def close(self) -> None:
        """End all that still run."""
        for child in self.children:
            if child.process.poll() is None:
                child.kill()
            child.wire.close()
        self.listening.close()
        self.calls.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def infer(self, body: Json, *, path: str = "/v2/models/delay/infer") -> tuple[int, Json]:
        """Ask for predictions."""
        status, _, content = self.ask("POST", path, json.dumps(body).encode())
        found: Json = json.loads(content)
        return status, found

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        """Open a plain connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            yield sock


def tensor(name: str, datatype: str, data: list[Any]) -> Json:
    return {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}


def flight(origin: str | None = "JFK", hour: int = 1, distance: float | None = 100.0) -> Json:
    """The body of one row at half past midnight of April the first."""
    return {
        "parameters": {"key": "f1", "event_time": "2013-04-01T00:30:00Z"},
        "inputs": [
            tensor("origin", "BYTES", [origin]),
            tensor("distance", "FP64", [distance]),
            tensor("hour", "INT64", [hour]),
        ],
    }


def received(sock: socket.socket, *, upto: bytes | None = None) -> bytes:
    """Read until a text came, or until the other side ended."""
    found = bytearray()
    while upto is None or upto not in found:
        part = sock.recv(1 << 16)
        if not part:
            break
        found += part
    return bytes(found)


def wait_until(holds: Any, *, seconds: float = 10.0) -> None:
    """Wait for something that another process does."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.01)


def pss_mib(pid: int) -> float:
    """Measure a process's share of memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
