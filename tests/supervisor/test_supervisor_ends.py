"""How a platform does not begin, and how it ends."""

import os
import signal
import socket
import time
from collections.abc import Callable

import pytest
from tests.supervisor.supervisor_platform import Platform, gone, until

from mainspring.supervisor.roster import read_roster

Up = Callable[..., Platform]


def test_sigterm_ends_workers_and_runs_first_then_control_and_leaves_nothing(up: Up) -> None:
    platform = up(workers=2)
    roster = platform.ready()
    platform.start_run(roster.url, "r1")
    until(lambda: platform.process("run-r1").state == "ready")

    platform.terminate()
    code, said = platform.end()

    assert (code, said) == (0, "")
    ends = [(one["event"], one["name"]) for one in platform.trace()]
    ends = [one for one in ends if one[0] in ("drained", "SIGTERM", "RunEnded")]
    assert set(ends[:-1]) == {
        ("SIGTERM", "r1"),
        ("RunEnded", "control"),
        ("drained", "inference-1"),
        ("drained", "inference-2"),
    }
    assert ends[-1] == ("drained", "control")
    assert not platform.home.roster.exists()
    assert read_roster(platform.home) is None
    assert all(gone(one["pid"]) for one in platform.trace())


def test_who_does_not_end_is_killed_at_the_deadline_and_control_is_told_before(up: Up) -> None:
    platform = up(workers=1, drain_s=4.0, ways={"INFERENCE_1": "deaf"})
    platform.ready()

    platform.terminate()
    code, _ = platform.end()

    assert code == 0
    assert platform.trace("drained", "control")
    assert not platform.trace("drained", "inference-1")
    assert all(gone(one["pid"]) for one in platform.trace())


def test_a_second_signal_ends_all_at_once(up: Up) -> None:
    platform = up(workers=1, drain_s=60.0, ways={"INFERENCE_1": "deaf", "CONTROL": "deaf"})
    platform.ready()
    platform.terminate()
    until(lambda: platform.trace("Drain", "inference-1"))

    platform.popen.send_signal(signal.SIGINT)
    code, _ = platform.end()

    assert code == 1
    assert not platform.home.roster.exists()
    assert all(gone(one["pid"]) for one in platform.trace())


def test_a_control_that_dies_once_the_end_has_begun_is_not_started_again(up: Up) -> None:
    platform = up(workers=1, drain_s=60.0, ways={"INFERENCE_1": "deaf"})
    roster = platform.ready()
    platform.terminate()
    until(lambda: platform.trace("Drain", "inference-1"))

    os.kill(roster.processes[0].pid, signal.SIGKILL)
    until(lambda: platform.process("control").state == "stopped")
    os.kill(roster.processes[1].pid, signal.SIGKILL)
    code, said = platform.end()

    assert (code, said) == (0, "")
    assert len(platform.trace("Welcome")) == 2


def test_no_client_is_let_in_once_the_end_has_begun(up: Up) -> None:
    platform = up(workers=1, drain_s=60.0, ways={"CONTROL": "deaf"})
    roster = platform.ready()
    platform.terminate()
    until(lambda: platform.trace("drained", "inference-1"))

    with pytest.raises(ConnectionError):
        until(lambda: platform.ask(roster.inference_url))

    platform.terminate()
    assert platform.end()[0] == 1


def test_sigterm_while_starting_ends_what_was_started(up: Up) -> None:
    platform = up(workers=1, ways={"CONTROL": "hang"})
    until(lambda: platform.trace("Welcome", "control") and platform.trace("Welcome", "inference-1"))

    platform.terminate()
    code, said = platform.end()

    assert (code, said) == (0, "")
    assert not platform.home.roster.exists()
    assert all(gone(one["pid"]) for one in platform.trace())


def test_children_are_gone_when_the_supervisor_is_killed(up: Up) -> None:
    platform = up(workers=2, ways={"R1": "deaf"})
    roster = platform.ready()
    platform.start_run(roster.url, "r1")
    until(lambda: platform.process("run-r1").state == "ready")
    pids = {one["pid"] for one in platform.trace("Welcome")}
    assert len(pids) == 4

    platform.popen.kill()
    platform.popen.wait()

    until(lambda: all(gone(pid) for pid in pids))
    assert read_roster(platform.home) is None
    again = up(workers=1)
    assert read_roster(platform.home) is None or again.ready().pid == again.popen.pid


def test_a_child_that_never_gets_ready_is_killed_and_started_again(up: Up) -> None:
    platform = up(workers=1, start_limit_s=0.5, ways={"INFERENCE_1": "hang"})

    code, said = platform.end()

    assert code == 1
    assert said.count("inference-1: not ready after 0.5 s, killed") == 5
    assert said.count("inference-1: ended by SIGKILL") == 5
    assert "process 'inference-1': did not start in 5 attempts" in said


def test_a_child_that_cannot_start_ends_up_with_its_log_named(up: Up) -> None:
    platform = up(workers=1, ways={"CONTROL": "exit"})

    code, said = platform.end()

    assert code == 1
    assert "control: ended with code 3, starts again in 0.1 s" in said
    last = said.splitlines()[-1]
    assert last.startswith("unavailable: process 'control': did not start in 5 attempts")
    assert str(platform.home.logs / "control.log") in last
    assert not platform.home.roster.exists()
    assert all(gone(one["pid"]) for one in platform.trace())


def test_a_second_up_is_told_who_has_the_home_and_disturbs_nothing(up: Up) -> None:
    first = up(workers=1)
    roster = first.ready()

    second = up(workers=1)
    code, said = second.end()

    assert code == 1
    assert f"held by process {first.popen.pid} (supervisor)" in said
    assert read_roster(first.home) == roster


@pytest.mark.parametrize("setting", ["port", "inference_port"])
def test_a_port_in_use_is_named_with_its_setting_and_the_way_out(up: Up, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, said = up(workers=1, **{setting: port}).end()

    flag = f"--{setting.replace('_', '-')}"
    assert code == 1
    assert f"port {port} of 127.0.0.1: in use" in said
    assert f"set {setting!r}" in said
    assert f"`{flag} 0`" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_host_that_others_reach_is_refused_without_tokens(up: Up, host: str) -> None:
    platform = up(workers=1, host=host)

    code, said = platform.end()

    assert code == 1
    assert said.startswith("refused: host")
    assert not platform.trace()


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"host": ""}, "'host'"), ({"port": 65536}, "'port'"), ({"workers": 0}, "'workers'")],
)
def test_what_cannot_be_is_refused_by_the_name_of_its_setting(
    up: Up, settings: dict[str, object], named: str
) -> None:
    code, said = up(**settings).end()

    assert code == 1
    assert said.startswith(f"misconfigured: setting {named}")


def test_a_rest_of_a_killed_platform_is_not_taken_for_one_that_is_up(up: Up) -> None:
    first = up(workers=1)
    first.ready()
    first.popen.kill()
    first.popen.wait()
    left = first.home.roster.read_bytes()

    second = up(workers=1)
    roster = second.ready()

    assert left
    assert roster.pid == second.popen.pid
    os.kill(second.popen.pid, signal.SIGTERM)
    assert second.end()[0] == 0
    assert time.time() > roster.started.timestamp()
