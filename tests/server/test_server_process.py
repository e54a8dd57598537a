"""The control process itself: what the supervisor starts, and how it ends."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from shutil import copytree

import pytest

from mainspring.api import access
from mainspring.api.http import HttpCaller
from mainspring.core.config import Config
from mainspring.formats.wire import (
    Drain,
    Message,
    Process,
    Processes,
    Ready,
    RunEnded,
    RunProcess,
    StartRun,
    StopRun,
    Welcome,
    Wire,
)

AT = "2026-04-01T00:00:00Z"


class Supervised:
    """One control process with this test as its supervisor."""

    def __init__(self, home: Path, listening: socket.socket, *runs: RunProcess) -> None:
        ours, theirs = socket.socketpair()
        self.wire = Wire(ours)
        self.port = listening.getsockname()[1]
        self.log = home.parent / f"control-{os.urandom(4).hex()}.log"
        command = [sys.executable, "-m", "mainspring.server"]
        command += ["--supervisor-fd", str(theirs.fileno()), "--listen-fd", str(listening.fileno())]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno(), listening.fileno()],
                stdout=log,
                stderr=log,
                cwd=home.parent,
            )
        theirs.close()
        url = f"http://127.0.0.1:{self.port}"
        config = replace(Config(), drain_s=5.0)
        self.wire.send(Welcome("control", "", str(home), str(home.parent), config, url, "", runs))

    def hear(self) -> Message | None:
        return self.wire.receive()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def ready(self) -> None:
        assert isinstance(self.hear(), Ready), self.log.read_text()

    def end(self) -> int:
        self.wire.close()
        return self.process.wait(20)


class Supervisor:
    """Holds the listening socket, as the supervisor does, and starts control processes at it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.started: list[Supervised] = []

    def start(self, *runs: RunProcess) -> Supervised:
        one = Supervised(self.home, self.listening, *runs)
        self.started.append(one)
        return one

    def close(self) -> None:
        self.listening.close()
        for one in self.started:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait(20)
            one.wire.close()


@pytest.fixture
def supervisor(tmp_path: Path, started_home: Path) -> Iterator[Supervisor]:
    copytree(started_home, tmp_path / "home")
    supervisor = Supervisor(tmp_path / "home")
    yield supervisor
    supervisor.close()


def test_it_says_when_it_answers_and_drains_when_told(supervisor: Supervisor) -> None:
    control = supervisor.start()
    control.ready()

    assert control.ask("GET", "/health") == (200, b"OK")
    status, ready = control.ask("GET", "/ready")
    assert (status, json.loads(ready)["ready"]) == (200, True)
    arguments = Path(f"/proc/{control.process.pid}/cmdline").read_bytes().split(b"\0")[:-1]
    assert arguments[1:4] == [b"-m", b"mainspring.server", b"--supervisor-fd"]
    assert len(arguments) == 7, "nothing secret is in the arguments"
    control.wire.send(Drain())

    assert control.process.wait(20) == 0
    assert control.hear() is None
    assert "Traceback" not in control.log.read_text()
    assert supervisor.listening.fileno() >= 0


def test_a_signal_drains_it_and_what_is_asked_next_waits_for_the_next(
    supervisor: Supervisor,
) -> None:
    first = supervisor.start()
    first.ready()

    with HttpCaller(f"http://127.0.0.1:{first.port}") as caller:
        before = caller(access.GRANT, access.Grant(name="ann", role="viewer")).fact
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(20) == 0
        answers: list[int] = []
        grant = access.Grant(name="ben", role="viewer")
        asking = threading.Thread(target=lambda: answers.append(caller(access.GRANT, grant).fact))
        asking.start()
        second = supervisor.start()
        second.ready()
        asking.join(20)

    assert answers == [before + 1]


def test_what_was_acknowledged_before_a_kill_is_there_after_it(supervisor: Supervisor) -> None:
    first = supervisor.start()
    first.ready()
    with HttpCaller(f"http://127.0.0.1:{first.port}") as caller:
        fact = caller(access.GRANT, access.Grant(name="ann", role="viewer")).fact
        first.process.kill()
        first.process.wait(20)
        supervisor.start().ready()
        actors = caller(access.LIST, access.LIST.request()).actors

    assert fact > 0
    assert [actor.name for actor in actors] == ["ann"]


def test_it_ends_at_once_when_its_supervisor_is_gone(supervisor: Supervisor) -> None:
    control = supervisor.start()
    control.ready()

    assert control.end() == 1


def test_a_run_is_asked_for_and_its_end_brings_the_next_attempt(supervisor: Supervisor) -> None:
    control = supervisor.start()
    control.ready()
    body = {"endpoint": "stop", "until": AT, "wait_s": 0}

    assert control.ask("POST", "/api/v1/endpoint/advance", body)[0] == 200
    first = control.hear()
    assert isinstance(first, StartRun)
    gone = first.assignment
    control.wire.send(RunEnded(gone.project, gone.run, gone.token, 1, None, 9))
    second = control.hear()

    assert isinstance(second, StartRun)
    assert second.assignment.run == gone.run
    assert second.assignment.attempt == gone.attempt + 1
    cancel = {"run": gone.run, "comment": "enough"}
    assert control.ask("POST", "/api/v1/run/cancel", cancel)[0] == 200
    assert isinstance(control.hear(), StopRun)


def test_a_call_that_waits_for_a_run_is_answered_when_the_process_drains(
    supervisor: Supervisor,
) -> None:
    control = supervisor.start()
    control.ready()
    body = {"endpoint": "stop", "until": AT, "wait_s": 60}
    answers: list[tuple[int, bytes]] = []
    asking = threading.Thread(
        target=lambda: answers.append(control.ask("POST", "/api/v1/endpoint/advance", body))
    )
    asking.start()
    assert isinstance(control.hear(), StartRun)

    control.wire.send(Drain())
    asking.join(20)

    assert control.process.wait(20) == 0
    assert [status for status, _ in answers] == [200]
    assert json.loads(answers[0][1])["settled"] is False


def test_a_restarted_one_keeps_the_runs_that_live_and_ends_the_others(
    supervisor: Supervisor,
) -> None:
    control = supervisor.start()
    control.ready()
    control.ask("POST", "/api/v1/endpoint/advance", {"endpoint": "stop", "until": AT, "wait_s": 0})
    begun = control.hear()
    assert isinstance(begun, StartRun)
    run, token = begun.assignment.run, begun.assignment.token
    control.process.kill()
    control.process.wait(20)

    second = supervisor.start(RunProcess("default", run, token, os.getpid()))
    second.ready()
    renewed = second.ask("POST", "/api/v1/run/renew", {"run": run, "token": token})
    second.process.kill()
    second.process.wait(20)
    third = supervisor.start()
    third.ready()
    again = third.hear()

    assert renewed[0] == 200
    assert isinstance(again, StartRun)
    assert (again.assignment.run, again.assignment.attempt) == (run, 2)


def test_processes_as_told_are_in_the_numbers(supervisor: Supervisor) -> None:
    control = supervisor.start()
    control.ready()
    started = datetime(2026, 4, 1, tzinfo=UTC)
    one = Process("inference", "w1", control.process.pid, "ready", 3, started)

    control.wire.send(Processes((one,)))
    line = b'mainspring_process_restarts_total{name="w1",role="inference"} 3.0'
    for _ in range(100):
        if line in (text := control.ask("GET", "/metrics")[1]):
            break
        threading.Event().wait(0.05)

    assert line in text


def test_a_database_that_is_gone_is_told_and_health_goes_on(supervisor: Supervisor) -> None:
    control = supervisor.start()
    control.ready()
    assert control.ask("POST", "/api/v1/access/grant", {"name": "ann", "role": "viewer"})[0] == 200

    (supervisor.home / "mainspring.db").unlink()
    answers = [
        control.ask("POST", "/api/v1/access/grant", {"name": "ben", "role": "viewer"}),
        control.ask("GET", "/api/v1/access/list"),
    ]
    status, ready = control.ask("GET", "/ready")

    for code, content in answers:
        assert code == 503
        assert json.loads(content)["error"]["code"] == "unavailable"
        assert str(supervisor.home) not in content.decode()
    assert (status, json.loads(ready)["ready"]) == (503, False)
    assert "no longer the one at the path" in json.loads(ready)["database"]
    assert control.ask("GET", "/health") == (200, b"OK")
