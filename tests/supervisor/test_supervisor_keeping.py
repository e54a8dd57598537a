"""What is kept up: processes, sockets, runs, and what each is told."""

import os
import signal
import threading
from collections.abc import Callable

from tests.supervisor.supervisor_platform import Platform, gone, until

from mainspring.formats.wire import StopRun
from mainspring.supervisor.roster import read_roster

Up = Callable[..., Platform]


def test_all_is_ready_before_it_is_announced_and_every_process_is_listed(up: Up) -> None:
    platform = up(workers=3)

    roster = platform.ready()

    names = ["control", "inference-1", "inference-2", "inference-3"]
    assert [one.name for one in roster.processes] == names
    assert {one.state for one in roster.processes} == {"ready"}
    assert roster.pid == platform.popen.pid
    assert read_roster(platform.home) == roster
    assert platform.ask(roster.url) == roster.processes[0].pid
    assert platform.ask(roster.inference_url) in {one.pid for one in roster.processes[1:]}


def test_a_child_learns_where_it_is_and_only_control_gets_the_secret(up: Up) -> None:
    platform = up(workers=1, token="secret", arm_timeout_s=0.25)
    roster = platform.ready()
    platform.start_run(roster.url, "r1")
    until(lambda: platform.trace("Welcome", "r1"))

    told = {one["name"]: one["detail"] for one in platform.trace("Welcome")}

    for name, secret in (("control", "secret"), ("inference-1", None), ("r1", None)):
        welcome = told[name]["welcome"]
        assert told[name]["secret"] == secret
        assert welcome["config"]["token"] == (secret or "")
        assert welcome["config"]["arm_timeout_s"] == 0.25
        assert (welcome["url"], welcome["inference_url"]) == (roster.url, roster.inference_url)
        assert welcome["home"] == str(platform.home.root)
        assert welcome["directory"] == str(platform.home.root.parent)
    assert told["inference-1"]["welcome"]["role"] == "inference"
    assert told["r1"]["welcome"]["assignment"]["token"] == "token-r1"


def test_a_killed_control_starts_again_and_a_client_waits_for_it(up: Up) -> None:
    platform = up()
    roster = platform.ready()
    first = roster.processes[0].pid

    os.kill(first, signal.SIGKILL)
    until(lambda: platform.process("control").pid != first)
    answered = [platform.ask(roster.url) for _ in range(3)]

    assert len(set(answered)) == 1
    assert answered[0] != first
    control = until(lambda: _ready_again(platform, "control", 1))
    assert control == answered[0]
    assert platform.popen.poll() is None


def test_a_worker_that_dies_again_and_again_waits_longer_each_time(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()

    for restarts in (1, 2, 3):
        os.kill(platform.process("inference-1").pid, signal.SIGKILL)
        until(lambda restarts=restarts: _ready_again(platform, "inference-1", restarts))  # type: ignore[misc]

    waits = [f"inference-1: ended by SIGKILL, starts again in {s} s" for s in ("0.1", "0.2", "0.4")]
    assert platform.notices() == waits
    assert platform.process("control").restarts == 0
    assert platform.ask(roster.inference_url) == platform.process("inference-1").pid


def test_control_is_told_of_every_change(up: Up) -> None:
    platform = up(workers=1)
    platform.ready()
    os.kill(platform.process("inference-1").pid, signal.SIGKILL)
    until(lambda: _ready_again(platform, "inference-1", 1))

    def heard() -> bool:
        newest = platform.trace("Processes", "control")[-1]["detail"]["processes"]
        return bool((newest[1]["state"], newest[1]["restarts"]) == ("ready", 1))

    until(heard)
    told = platform.trace("Processes", "control")
    states = [one["detail"]["processes"][1]["state"] for one in told]
    assert "backoff" in states


def test_a_child_that_closes_its_wire_is_replaced(up: Up) -> None:
    platform = up(workers=1, ways={"INFERENCE_1": "mute"}, drain_s=0.5)

    ended = until(lambda: platform.trace("Welcome", "inference-1")[1:])

    assert gone(platform.trace("Welcome", "inference-1")[0]["pid"])
    assert len({one["pid"] for one in ended}) == len(ended)
    assert platform.notices()[0] == "inference-1: closed its wire, killed"


def test_a_run_outlives_control_and_the_next_one_is_told(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()
    platform.start_run(roster.url, "r1")
    run = until(lambda: platform.trace("Welcome", "r1"))[0]["pid"]

    os.kill(roster.processes[0].pid, signal.SIGKILL)
    second = until(lambda: platform.trace("Welcome", "control")[1:])[0]["detail"]["welcome"]

    expected = {"project": "default", "run": "r1", "token": "token-r1", "pid": run}
    assert second["runs"] == [expected]
    assert not gone(run)


def test_the_end_of_a_run_waits_for_a_control_that_listens(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()
    control = roster.processes[0].pid
    platform.start_run(roster.url, "r1")
    run = until(lambda: platform.trace("Welcome", "r1"))[0]["pid"]

    # Two quick deaths, so that the wait before the next control is long enough to die in.
    os.kill(control, signal.SIGKILL)
    second = until(lambda: _ready_again(platform, "control", 1))
    assert second is not None
    os.kill(second, signal.SIGKILL)
    os.kill(run, signal.SIGKILL)
    end = until(lambda: platform.trace("RunEnded", "control"))

    assert len(end) == 1
    assert end[0]["pid"] == _ready_again(platform, "control", 2)
    assert end[0]["detail"] == {
        "type": "RunEnded",
        "project": "default",
        "run": "r1",
        "token": "token-r1",
        "pid": run,
        "code": None,
        "signal": int(signal.SIGKILL),
        "reason": "",
    }


def test_a_run_ends_with_its_code_and_is_not_started_again(up: Up) -> None:
    platform = up(workers=1, ways={"R1": "code-7"})
    roster = platform.ready()

    platform.start_run(roster.url, "r1")
    end = until(lambda: platform.trace("RunEnded"))[0]["detail"]

    assert (end["code"], end["signal"]) == (7, None)
    assert len(platform.trace("Welcome", "r1")) == 1
    assert set(platform.processes()) == {"control", "inference-1"}


def test_a_run_whose_interpreter_is_not_there_ends_at_once_with_the_reason(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()

    platform.start_run(roster.url, "r1", interpreter="/nowhere/python")
    end = until(lambda: platform.trace("RunEnded"))[0]["detail"]

    assert (end["pid"], end["code"]) == (0, 127)
    assert "/nowhere/python" in end["reason"]


def test_the_same_attempt_asked_for_twice_is_one_process(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()

    for _ in range(2):
        platform.start_run(roster.url, "r1")
    platform.start_run(roster.url, "r2")
    platform.process("run-r2")

    now = read_roster(platform.home)
    assert now is not None
    assert [one.name for one in now.processes if one.role == "run"] == ["run-r1", "run-r2"]


def test_a_run_that_does_not_heed_a_stop_is_killed_after_the_grace(up: Up) -> None:
    platform = up(workers=1, ways={"R1": "deaf"})
    roster = platform.ready()
    for run in ("r1", "r2"):
        platform.start_run(roster.url, run)
        until(lambda run=run: platform.process(f"run-{run}").state == "ready")  # type: ignore[misc]

    for run in ("r1", "r2"):
        platform.ask(roster.url, StopRun(run, 0.3))
    until(lambda: len(platform.trace("RunEnded")) == 2)

    ends = platform.trace("RunEnded")
    how = {one["detail"]["run"]: (one["detail"]["code"], one["detail"]["signal"]) for one in ends}
    assert how == {"r1": (None, int(signal.SIGKILL)), "r2": (0, None)}


def test_what_is_not_a_workers_to_say_is_not_done(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()

    platform.start_run(roster.inference_url, "r1")
    notice = "inference-1: said StartRun, which is not its to say"
    until(lambda: notice in platform.notices())

    assert not platform.trace("Welcome", "r1")


def test_what_children_print_is_in_the_log_of_their_role(up: Up) -> None:
    platform = up(workers=2)
    platform.ready()

    assert (platform.home.logs / "control.log").read_text() == "printed by control\n"
    printed = (platform.home.logs / "inference.log").read_text().splitlines()
    assert sorted(printed) == ["printed by inference-1", "printed by inference-2"]


def test_many_clients_connect_while_nobody_serves(up: Up) -> None:
    platform = up(workers=1)
    roster = platform.ready()
    answers: list[int] = []

    first = roster.processes[1].pid
    os.kill(first, signal.SIGKILL)
    until(lambda: platform.process("inference-1").pid != first)
    clients = [
        threading.Thread(target=lambda: answers.append(platform.ask(roster.inference_url)))
        for _ in range(20)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert len(answers) == 20


def _ready_again(platform: Platform, name: str, restarts: int) -> int | None:
    """Give the process's id once it is ready after so many restarts."""
    process = platform.process(name)
    return process.pid if (process.state, process.restarts) == ("ready", restarts) else None
