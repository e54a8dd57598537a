"""The platform as a user runs it: `mainspring up` in a process of its own, and ways to hurt it."""

import http.client
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from small_driver import PROJECT_FILE

from mainspring.api.client import Client
from mainspring.api.http import HttpCaller
from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.data.writing import RowWriter
from mainspring.store.tables import DeltaTables
from mainspring.supervisor import spare
from mainspring.supervisor.roster import Roster, read_roster

COMMAND = Path(sys.executable).with_name("mainspring")
PIPELINE = "    pipeline=failure_model,"
END_S = 30.0


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the platform's session."""

    pid: int
    words: str


class RunningPlatform:
    """One home with `mainspring up` on it.

    All its processes are of one session, so that none of them can be overlooked afterwards.
    """

    def __init__(
        self,
        home: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        ports: tuple[int, int] = (0, 0),
    ) -> None:
        self.home = Home(home)
        self._options = options
        self._environment = dict(environment or {})
        self._ports = ports
        self._process: subprocess.Popen[str] | None = None
        self._callers: list[HttpCaller] = []
        self.url = self.inference_url = ""

    # --- start and end

    def start(self) -> None:
        """Start, and wait until everything is ready; a second start takes the same ports."""
        assert self._process is None
        self._process = self.popen()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"it did not come up: {self.said()}\n{self.logs()}")
        told = json.loads(line)
        self.url, self.inference_url = told["url"], told["inference_url"]
        self._ports = (port_of(self.url), port_of(self.inference_url))

    def popen(self) -> "subprocess.Popen[str]":
        """Run `mainspring up` on this home."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MAINSPRING_")}
        ports = ["--port", str(self._ports[0]), "--inference-port", str(self._ports[1])]
        # A file, because nobody empties a pipe while it runs.
        with self._errors.open("ab") as errors:
            return subprocess.Popen(
                [COMMAND, "up", "--json", "--home", self.home.root, *ports, *self._options],
                cwd=self.home.root.parent,
                env={**kept, **self._environment},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Tell the supervisor to end; nothing may be left."""
        process = self._ended_with(signal.SIGTERM)
        assert process.returncode == 0, (process.returncode, self.said(), self.logs())
        assert self.left(process.pid) == []

    def kill(self) -> None:
        """SIGKILL the supervisor; nothing may be left a moment later."""
        process = self._ended_with(signal.SIGKILL)
        wait_until(lambda: not self.left(process.pid), "all children are gone")

    def clear(self) -> None:
        """Close what speaks to it, and end whatever a failed test has left."""
        for caller in self._callers:
            caller.close()
        if self._process is not None:
            for member in [Member(self._process.pid, ""), *self.left(self._process.pid)]:
                with suppress(ProcessLookupError):
                    os.kill(member.pid, signal.SIGKILL)
            self._process.wait(END_S)
            self._forget()

    def _ended_with(self, number: int) -> "subprocess.Popen[str]":
        process = self._process
        assert process is not None
        process.send_signal(number)
        process.wait(END_S)
        self._forget()
        return process

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    # --- its processes

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None
        return self._process.pid

    @property
    def roster(self) -> Roster:
        """What it says is up."""
        found = read_roster(self.home)
        assert found is not None, "nothing is up"
        return found

    def pids(self, role: str) -> list[int]:
        """Give the processes of a role: control, inference, or run, without the spare."""
        processes = [one for one in self.roster.processes if one.name != spare.NAME]
        return [one.pid for one in processes if one.role == role and one.pid]

    def signal(self, role: str, number: int) -> int | None:
        """Send a signal to the first process of a role; give its pid, none if there is none."""
        for pid in self.pids(role):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                return pid
        return None

    def left(self, session: int | None = None) -> list[Member]:
        """List the processes of a session apart from the supervisor itself."""
        if session is None:
            assert self._process is not None
            session = self._process.pid
        return [one for one in _session(session) if one.pid != session]

    def wait_ready(self) -> None:
        """Wait until control and a worker say that they are ready."""
        for url in (self.url, self.inference_url):
            wait_until(partial(_is_ready, url), f"{url} is ready")

    # --- what it knows

    def client(self, *, patience_s: float = 60.0) -> Client:
        """Speak to it as a user's program does."""
        writer = RowWriter(DeltaTables(self.home.tables("default")))
        self._callers.append(HttpCaller(self.url, patience_s=patience_s))
        return Client(self._callers[-1], writer, Config().project)

    def events(self, after: int = 0) -> list[tuple[int, str]]:
        """Read number and kind of the newest facts past the platform, which may be down."""
        uri = f"file:{self.home.database}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                query = "SELECT seq, event FROM ledger WHERE seq > ? ORDER BY seq"
                return connection.execute(query, (after,)).fetchall()
        except sqlite3.OperationalError:
            return []

    def status(self) -> str:
        """Give what `mainspring status` prints."""
        done = subprocess.run(
            [COMMAND, "status", "--home", self.home.root],
            cwd=self.home.root.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout + done.stderr

    def said(self) -> str:
        """Give what the command printed to its error stream."""
        return self._errors.read_text("utf-8")

    def logs(self) -> str:
        """Give the ends of its processes' logs."""
        files = sorted(self.home.logs.glob("*.log"))
        return "\n".join(f"--- {one.name}\n{one.read_text('utf-8')[-3000:]}" for one in files)

    @property
    def _errors(self) -> Path:
        return self.home.root.with_name(f"{self.home.root.name}.errors")


@contextmanager
def running(
    home: Path, *options: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningPlatform]:
    """Keep a platform up for the length of a block; at its end nothing may be left."""
    platform = RunningPlatform(home, *options, environment=environment)
    try:
        platform.start()
        yield platform
        platform.stop()
    except BaseException:
        if platform.home.logs.is_dir():
            print(platform.logs())
        raise
    finally:
        platform.clear()


def project_beside(home: Path) -> Path:
    """Write the small project beside a home: outside of any repository, so that it has no commit.

    A storm of kills may end more attempts at a run than a project would stand for.
    """
    file = home.with_name("project.py")
    text = PROJECT_FILE.read_text("utf-8")
    assert PIPELINE in text
    file.write_text(text.replace(PIPELINE, f"{PIPELINE}\n    attempts=50,"), "utf-8")
    return file


def get(url: str, path: str, *, timeout_s: float = 5.0) -> tuple[int, str]:
    """GET a path on a connection of its own; status 0 if nobody answers."""
    return ask(url, "GET", path, timeout_s=timeout_s)


def ask(
    url: str, method: str, path: str, body: Any = None, *, timeout_s: float = 5.0
) -> tuple[int, str]:
    """Send a request with a JSON body; status 0 if nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def wait_until(true: Callable[[], bool], what: str, *, within_s: float = 30.0) -> None:
    """Wait for something that must become so."""
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends, f"not so after {within_s:g} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Say whether a process runs; one that has ended and is not reaped does not."""
    try:
        return _fields(pid)[0] not in ("Z", "X")
    except OSError:
        return False


def tmpfs(folder: Path, size: str) -> bool:
    """Put a small file system over a folder, with what lay in it; say whether that is allowed."""
    kept = folder.with_name(f"{folder.name}.kept")
    folder.rename(kept)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        kept.rename(folder)
        return False
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return True


def _is_ready(url: str) -> bool:
    return get(url, "/ready")[0] == 200


def _session(session: int) -> list[Member]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            state, _, _, of = _fields(int(name))[:4]
            words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        if int(of) == session and state not in ("Z", "X"):
            found.append(Member(int(name), words.decode("utf-8", "replace")))
    return found


def _fields(pid: int) -> list[str]:
    # Behind the name, which may hold anything: state, parent, group, session.
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()


def port_of(url: str) -> int:
    """Give the port of an address."""
    return urlsplit(url).port or 0
