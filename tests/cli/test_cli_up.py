"""`up`, `down` and `status`, and commands that speak to the platform that is up."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Shell

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform
from mainspring.store.lock import HomeLock

MAINSPRING = Path(sys.executable).with_name("mainspring")

PORTS = ("--port", "--inference-port")

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `mainspring up` in a shell's directory; it is gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def up(shell: Shell, *arguments: str, within: str = ".") -> subprocess.Popen[str]:
        free = [part for flag in PORTS if flag not in arguments for part in (flag, "0")]
        command = [str(MAINSPRING), "up", *free, *arguments]
        started.append(
            subprocess.Popen(
                command,
                cwd=shell.directory / within,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield up

    for process in started:
        process.kill()
        process.communicate()


def _refusal(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, ""), err
    return err


def _addresses(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    answer: dict[str, Any] = json.loads(line)
    return answer


def test_the_platform_is_up_from_a_line_of_addresses_until_down(
    applied: Shell, start: Start
) -> None:
    (applied.directory / "below").mkdir()
    process = start(applied, "--workers", "1", "--json", within="below")
    addresses = _addresses(process)

    home = applied.directory / ".mainspring"
    assert addresses.keys() == {"url", "inference_url", "pid", "home"}
    assert (addresses["pid"], addresses["home"]) == (process.pid, str(home))

    before = applied.facts()
    applied.done("apply")
    applied.done("data", "commit", "stops", "stops.csv")
    assert applied.facts() > before

    status = applied.json("status")
    platform = status["platform"]
    assert [one["endpoint"] for one in status["endpoints"]] == ["stop"]
    assert platform["url"] == addresses["url"]
    processes = {one["process"]: one for one in platform["processes"]}
    assert processes.keys() == {"supervisor", "control", "inference-1"}
    assert processes["supervisor"]["pid"] == process.pid
    assert {one["state"] for one in processes.values()} == {"ready"}
    assert 0 < processes["supervisor"]["memory_mib"] < platform["memory_mib"]
    shown = applied.done("status", "--home", str(home))
    assert addresses["url"] in shown
    assert "inference-1" in shown
    assert "stop" in shown

    maps = Path(f"/proc/{process.pid}/maps").read_text()
    assert not [name for name in ("polars", "numpy", "onnx", "deltalake") if name in maps]

    assert f"held by process {process.pid} (supervisor)" in _refusal(start(applied))

    assert applied.json("down") == {"ended": process.pid}
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert not (home / "up.json").exists()
    assert applied.json("down") == {"ended": None}
    assert "nothing is up" in applied.done("down")
    assert "platform" not in applied.json("status")


def test_up_is_told_which_command_has_the_home(applied: Shell, start: Start) -> None:
    with HomeLock(applied.directory / ".mainspring" / "lock", role="command"):
        said = _refusal(start(applied))

    assert f"held by process {os.getpid()} (command)" in said


def test_a_port_in_use_is_told_before_anything_starts(applied: Shell, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refusal(start(applied, "--port", str(port)))

    assert f"port {port} of 127.0.0.1: in use" in said
    assert "`--port 0`" in said
    assert not list((applied.directory / ".mainspring" / "logs").glob("control*"))


def test_a_host_for_everybody_needs_a_token_in_the_home(applied: Shell, start: Start) -> None:
    # An address for documentation, never this machine's: nothing is opened to the network.
    elsewhere = "192.0.2.1"
    assert "no access token" in _refusal(start(applied, "--host", elsewhere))

    with Platform.open(
        Config(), applied.directory / ".mainspring", clock=SystemClock()
    ) as platform:
        access = platform.access("default")
        access.grant("ann", "admin", actor="local")
        access.issue("ann", actor="local")

    assert "cannot listen at '192.0.2.1'" in _refusal(start(applied, "--host", elsewhere))


def test_ctrl_c_while_starting_ends_it_and_leaves_the_home_free(
    applied: Shell, start: Start
) -> None:
    process = start(applied, "--workers", "1")
    roster = applied.directory / ".mainspring" / "up.json"
    while not roster.exists():
        assert process.poll() is None

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)

    assert process.returncode == 0
    assert not roster.exists()
    with HomeLock(applied.directory / ".mainspring" / "lock", role="next"):
        pass
