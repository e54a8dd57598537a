"""The platform as the demo runs it: real processes in a fresh home, watched and killed."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mainspring.core.errors import Unavailable
from mainspring.core.home import Home
from mainspring.supervisor.memory import memory_mib
from mainspring.supervisor.roster import Roster, read_roster

SAMPLE_S = 2.0
STOP_S = 30.0


class Started(msgspec.Struct, frozen=True):
    """What `mainspring up --json` says when it is ready."""

    url: str
    inference_url: str
    pid: int
    home: str


class RunningPlatform:
    """`mainspring up` as a child of this process, on ports that are free.

    Attributes:
        started: Its addresses.
        peak_mib: The most memory that all its processes and this one held together, sampled.
    """

    def __init__(self, directory: Path, home: Path, *, workers: int) -> None:
        self.home = Home(home.absolute())
        self.peak_mib = 0.0
        self._ended = threading.Event()
        command = [
            str(Path(sys.executable).with_name("mainspring")),
            *("up", "--json", "--port", "0", "--inference-port", "0"),
            *("--workers", str(workers), "--home", str(home.absolute())),
        ]
        # A session of its own: Ctrl-C reaches the demo, which then stops the platform in order.
        self._process = subprocess.Popen(
            command, cwd=directory, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Unavailable("the platform did not start; see the lines above and its logs")
        self.started = msgspec.json.decode(line, type=Started)
        self._sampler = threading.Thread(target=self._sample, name="memory", daemon=True)
        self._sampler.start()

    def roster(self) -> Roster:
        """Give the processes as they are now."""
        roster = read_roster(self.home)
        if roster is None:
            raise Unavailable("the platform is gone; see the logs in its home")
        return roster

    def kill(self, role: str) -> int:
        """End the first process of a role as a failing machine would; gives its pid."""
        pid = next(p.pid for p in self.roster().processes if p.role == role and p.pid)
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarts(self) -> dict[str, int]:
        """Count how often each process was started again."""
        return {process.name: process.restarts for process in self.roster().processes}

    def memory_mib(self) -> dict[str, float]:
        """Give each process's memory, by name and pid."""
        roster = self.roster()
        pids = {"supervisor": roster.pid, "client": os.getpid()}
        pids |= {f"{p.role} {p.name}": p.pid for p in roster.processes if p.pid}
        measured = {name: memory_mib(pid) for name, pid in pids.items()}
        return {name: mib for name, mib in measured.items() if mib is not None}

    def stop(self) -> None:
        """Let it drain and end. Idempotent."""
        self._ended.set()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait(self) -> None:
        """Wait until somebody ends it."""
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            with suppress(Unavailable):
                self.peak_mib = max(self.peak_mib, sum(self.memory_mib().values()))
