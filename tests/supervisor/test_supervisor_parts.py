"""The parts by themselves: back-off, channel, logs, roster, size."""

import os
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.supervisor.supervisor_platform import DRIVER

from mainspring.core.errors import Misconfigured, Refused
from mainspring.core.home import Home
from mainspring.formats.wire import Drain, Processes, Ready, StopRun, Wire
from mainspring.store.lock import HomeLock
from mainspring.supervisor.backoff import Backoff
from mainspring.supervisor.channel import Channel
from mainspring.supervisor.launch import LOG_KEPT_BYTES, LOG_LIMIT_BYTES, open_log
from mainspring.supervisor.memory import memory_mib
from mainspring.supervisor.roster import Roster, read_roster, supervisor_of, write_roster
from mainspring.supervisor.sockets import is_loopback, listen, url_of

HEAVY = {"polars", "sqlalchemy", "numpy", "scipy", "deltalake", "onnxruntime", "starlette", "ssl"}


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_long_life() -> None:
    backoff = Backoff()

    waits = [backoff.after(lived_s=29.9) for _ in range(9)]

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.after(lived_s=30.0) == 0.1


def test_a_channel_never_blocks_and_loses_nothing_to_a_slow_reader() -> None:
    ours, theirs = socket.socketpair()
    channel, wire = Channel(ours), Wire(theirs)
    sent = [StopRun(f"run-{number}", 1.0) for number in range(20_000)]

    for message in sent:
        channel.send(message)
    assert channel.blocked
    received = []
    for _ in sent:
        received.append(wire.receive())
        channel.flush()

    assert received == sent
    assert not channel.blocked
    channel.close()
    assert wire.receive() is None
    wire.close()


def test_messages_come_whole_however_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)
        theirs.sendall(b'{"type":"Re')
        assert channel.receive() == []
        theirs.sendall(b'ady"}\n{"type":"Drain"}\n')
        assert channel.receive() == [Ready(), Drain()]
        assert channel.open
    assert channel.receive() == []
    assert not channel.open
    channel.close()


def test_a_child_that_talks_nonsense_counts_as_gone() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)

        theirs.sendall(b"hello\n")

        assert channel.receive() == []
        assert not channel.open
        channel.close()


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs:
        channel = Channel(ours)

        sent = 0
        while channel.open and sent < 8 << 20:
            with suppress(BlockingIOError):
                sent += theirs.send(b"x" * 65536)
            assert channel.receive() == []

        assert not channel.open
        assert sent < 2 << 20
        channel.close()


def test_sending_to_a_side_that_is_gone_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    channel, wire = Channel(ours), Wire(theirs)
    channel.close()

    wire.send(Ready())
    wire.send(Processes(()))

    assert wire.receive() is None
    wire.close()


def test_a_long_log_keeps_its_newest_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "control.log"
    with open_log(log) as file:
        file.write(b"x" * 99 + b"\n")
        file.write((b"y" * 99 + b"\n") * (LOG_LIMIT_BYTES // 100 + 1))
        file.write(b"the last\n")

    with open_log(log) as file:
        file.write(b"after\n")

    lines = log.read_bytes().splitlines()
    assert lines[-2:] == [b"the last", b"after"]
    assert set(lines[:-2]) == {b"y" * 99}
    assert log.stat().st_size <= LOG_KEPT_BYTES + 6


def test_a_roster_says_nothing_once_its_supervisor_is_gone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    roster = Roster(os.getpid(), "http://a", "http://b", datetime.now(UTC), ())
    write_roster(home, roster)

    assert read_roster(home) is None
    with HomeLock(home.lock, role="command"):
        assert read_roster(home) is None
        assert supervisor_of(home) is None
    with HomeLock(home.lock, role="supervisor"):
        assert read_roster(home) == roster
        home.roster.write_text("{")
        assert read_roster(home) is None


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("localhost", True), ("127.0.0.9", True), ("0.0.0.0", False)],
)
def test_only_loopback_is_this_machine_alone(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_a_socket_for_everybody_needs_the_word_and_has_an_address_from_here() -> None:
    with pytest.raises(Refused, match="no access token"):
        listen("0.0.0.0", 0, setting="port", public=False)

    with listen("0.0.0.0", 0, setting="port", public=True) as sock:
        assert url_of(sock) == f"http://127.0.0.1:{sock.getsockname()[1]}"


def test_a_port_that_cannot_be_is_refused() -> None:
    with pytest.raises(Misconfigured, match="'port': found 70000"):
        listen("127.0.0.1", 70_000, setting="port", public=False)


def test_memory_is_told_of_what_is_there() -> None:
    mine = memory_mib(os.getpid())

    assert mine is not None
    assert 5 < mine < 5_000
    assert memory_mib(2**22 + 1) is None


def test_the_supervisor_loads_nothing_heavy() -> None:
    answer = subprocess.run(
        [sys.executable, str(DRIVER), "--modules"], capture_output=True, text=True, check=True
    )

    loaded = {name.partition(".")[0] for name in answer.stdout.split()}
    assert "msgspec" in loaded
    assert not loaded & HEAVY
