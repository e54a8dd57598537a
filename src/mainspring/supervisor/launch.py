"""Starting one child: its wire, its log, and its death with the supervisor."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.formats.wire import Assignment, Loaded, Role, RunProcess, Welcome
from mainspring.supervisor.channel import Channel

LOG_LIMIT_BYTES = 10 << 20
LOG_KEPT_BYTES = 1 << 20

_PR_SET_PDEATHSIG = 1
Listeners = tuple[tuple[str, socket.socket], ...]
"""Sockets that a child serves on, each with the option that tells its descriptor."""
_SECRET = "MAINSPRING_TOKEN"


@dataclass(frozen=True, slots=True)
class Commands:
    """How each role's process is started, without its interpreter."""

    # -P: the current directory is the user's, and its files must not stand in for libraries.
    control: tuple[str, ...] = ("-P", "-m", "mainspring.server")
    inference: tuple[str, ...] = ("-P", "-m", "mainspring.serving")
    run: tuple[str, ...] = ("-P", "-m", "mainspring.attempt")

    def of(self, role: Role) -> tuple[str, ...]:
        """Give one role's."""
        match role:
            case "control":
                return self.control
            case "inference":
                return self.inference
            case "run":
                return self.run


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be up."""

    config: Config
    home: Home
    """Absolute."""
    directory: Path
    """The project's."""
    environment: Mapping[str, str]
    public: bool = False
    """Whether others than this machine may be let in: the home has access tokens."""
    commands: Commands = Commands()
    start_limit_s: float = 60.0
    """Seconds after which a process that is not ready counts as hung."""


class Launched:
    """A child process, in a session of its own: a terminal's Ctrl-C is for the supervisor."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self._process = process
        self.channel = channel

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """Give the exit code, negative for a signal, once the process is gone."""
        return self._process.poll()

    def clear(self) -> None:
        """Once it is gone: end what it left running, close its wire."""
        self._signal_group(signal.SIGKILL)
        self.channel.close()

    def terminate(self) -> None:
        """Ask the process to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process and all that it started."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts children and tells them what they need to know."""

    plan: Plan
    url: str
    inference_url: str

    def start(
        self,
        role: Role,
        name: str,
        *,
        listeners: Listeners = (),
        runs: tuple[RunProcess, ...] = (),
    ) -> Launched:
        """Start a child that the platform keeps.

        Args:
            role: What it is.
            name: Of a worker.
            listeners: Where it serves.
            runs: Run processes that are alive.

        Raises:
            OSError: The system refused.
        """
        launched = self._spawned(role, None, listeners=listeners)
        launched.channel.send(self._welcome(role, worker=name, runs=runs))
        return launched

    def start_run(self, assignment: Assignment, ready: Launched | None) -> Launched:
        """Start an attempt, in a spare process if there is one.

        Raises:
            OSError: The system refused, or there is no such interpreter.
        """
        launched = ready or self._spawned("run", assignment.interpreter)
        launched.channel.send(self._welcome("run", assignment=assignment))
        return launched

    def start_spare(self, interpreter: str | None, loaded: Loaded) -> Launched:
        """Start a run process that loads modules and waits for its assignment; raises as above."""
        launched = self._spawned("run", interpreter)
        launched.channel.send(self._welcome("run", modules=loaded.modules))
        return launched

    def _spawned(
        self, role: Role, interpreter: str | None, *, listeners: Listeners = ()
    ) -> Launched:
        configured = self.plan.config.interpreter if role == "run" else ""
        return _spawn(
            [interpreter or configured or sys.executable, *self.plan.commands.of(role)],
            listeners=listeners,
            log=self.plan.home.logs / f"{role}.log",
            environment=self._environment(role),
            directory=self.plan.directory,
        )

    def _welcome(
        self,
        role: Role,
        *,
        worker: str = "",
        runs: tuple[RunProcess, ...] = (),
        assignment: Assignment | None = None,
        modules: tuple[str, ...] = (),
    ) -> Welcome:
        config = self.plan.config
        return Welcome(
            role=role,
            worker=worker if role == "inference" else "",
            home=str(self.plan.home.root),
            directory=str(self.plan.directory),
            config=config if role == "control" else replace(config, token=""),
            url=self.url,
            inference_url=self.inference_url,
            runs=runs,
            assignment=assignment,
            modules=modules,
        )

    def _environment(self, role: Role) -> dict[str, str]:
        """Hand on our own; what runs and answers for others does not get the user's secret."""
        kept = {
            name: value
            for name, value in self.plan.environment.items()
            if role == "control" or name != _SECRET
        }
        # What a killed process printed last is what its log is read for.
        return kept | {"PYTHONUNBUFFERED": "1"}


def _spawn(
    command: Sequence[str],
    *,
    listeners: Listeners,
    log: Path,
    environment: Mapping[str, str],
    directory: Path,
) -> Launched:
    ours, theirs = socket.socketpair()
    with theirs:
        handed = [theirs.fileno()]
        arguments = [*command, "--supervisor-fd", str(theirs.fileno())]
        for option, listener in listeners:
            handed.append(listener.fileno())
            arguments += [option, str(listener.fileno())]
        try:
            with open_log(log) as output:
                process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=directory,
                    env=environment,
                    pass_fds=handed,
                    start_new_session=True,
                    # Safe here: the supervisor has one thread.
                    preexec_fn=_dying_with(os.getpid()),
                )
        except (OSError, ValueError):
            ours.close()
            raise
    return Launched(process, Channel(ours))


def open_log(path: Path) -> BinaryIO:
    """Open a log for appending; of one that has grown long only the newest part is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    if file.tell() > LOG_LIMIT_BYTES:
        with path.open("rb") as old:
            old.seek(-LOG_KEPT_BYTES, os.SEEK_END)
            newest = old.read()
        file.truncate(0)
        file.write(newest.partition(b"\n")[2])
        file.flush()
    return file


def _dying_with(parent: int) -> Callable[[], None]:
    """Make what a new child does before its program: the kernel is to kill it after its parent."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os._exit(1)

    return prepare
