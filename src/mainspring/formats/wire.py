"""What the supervisor and its children say to each other: one JSON object per line, tagged.

Each child has one end of a socket pair. The end of the stream at a child means that the
supervisor is gone: the child stops at once.
"""

import os
import socket
import threading
from datetime import datetime
from typing import Literal, Self

import msgspec

from mainspring.core.config import Config

Role = Literal["control", "inference", "run"]
State = Literal["starting", "ready", "backoff", "stopped"]

_CHUNK = 1 << 16


class Assignment(msgspec.Struct, frozen=True):
    """The attempt that a run process is for."""

    project: str
    run: str
    token: str
    """The lease's token: what the process's reports must show."""
    attempt: int
    interpreter: str | None = None
    """Python to run in; none: the configured one, else the platform's own."""


class RunProcess(msgspec.Struct, frozen=True):
    """A run process that is alive."""

    project: str
    run: str
    token: str
    pid: int


class Process(msgspec.Struct, frozen=True):
    """One of the supervisor's children, as it is now."""

    role: Role
    name: str
    pid: int
    """0 while there is none: between an end and the next start."""
    state: State
    restarts: int
    started: datetime


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The first message to every child: all it needs to know."""

    role: Role
    worker: str
    """Name of an inference worker; empty for the others."""
    home: str
    """Absolute."""
    directory: str
    """The project's directory; absolute."""
    config: Config
    url: str
    inference_url: str
    runs: tuple[RunProcess, ...] = ()
    """For control: the run processes that outlived its predecessor."""
    assignment: Assignment | None = None
    """For a run process; one that has none yet is a spare: it loads `modules` and waits."""
    modules: tuple[str, ...] = ()


class Drain(msgspec.Struct, frozen=True, tag=True):
    """To every child: take no new work, finish what is begun, end."""


class RunEnded(msgspec.Struct, frozen=True, tag=True):
    """To control: a run process is gone, or could not be started (then pid is 0)."""

    project: str
    run: str
    token: str
    pid: int
    code: int | None
    """Exit code; none when a signal ended it."""
    signal: int | None
    reason: str = ""
    """Why it could not be started."""


class Processes(msgspec.Struct, frozen=True, tag=True):
    """To control, when anything changed: all processes but the supervisor itself."""

    processes: tuple[Process, ...]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a child: it does its work now."""


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """From a run process at its end: what the next one may load ahead of its assignment."""

    modules: tuple[str, ...]
    """Names of imported modules, in the order in which they came; none of the project's own."""
    folders: tuple[str, ...]
    """Where they may come from: a change in one of these makes what was loaded stale."""


class StartRun(msgspec.Struct, frozen=True, tag=True):
    """From control: start a process for this attempt."""

    assignment: Assignment


class StopRun(msgspec.Struct, frozen=True, tag=True):
    """From control: end a run's processes; SIGTERM, and SIGKILL after the grace."""

    run: str
    grace_s: float


Message = Welcome | Drain | RunEnded | Processes | Ready | Loaded | StartRun | StopRun


def encode(message: Message) -> bytes:
    """Give a message as its line."""
    return _encoder.encode(message) + b"\n"


def decode(line: bytes) -> Message:
    """Read a line; msgspec's errors say what is wrong with it."""
    return _decoder.decode(line)


class Wire:
    """One end of the pair, for blocking use. Sending is thread-safe; one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._read = bytearray()

    @classmethod
    def inherited(cls, descriptor: int) -> Self:
        """Take over the descriptor named in `--supervisor-fd`; own children do not get it."""
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(True)
        return cls(sock)

    def send(self, message: Message) -> None:
        """Send a message; to a side that is gone it is dropped, and `receive` will say so."""
        line = encode(message)
        with self._sending:
            try:
                self._sock.sendall(line)
            except ConnectionError:
                return

    def receive(self) -> Message | None:
        """Wait for the next message; None when the other side is gone."""
        while (end := self._read.find(b"\n")) < 0:
            try:
                chunk = self._sock.recv(_CHUNK)
            except ConnectionError:
                return None
            if not chunk:
                return None
            self._read += chunk
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return decode(line)

    def fileno(self) -> int:
        """Give the descriptor, to wait on."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close this end."""
        self._sock.close()


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
