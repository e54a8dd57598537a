"""Predictions go on whatever becomes of the rest, and what was answered is on record once."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from end_state import integrity
from load import ROWS, Load, left_out, recorded
from running_platform import RunningPlatform, alive, ask, get, port_of, running, tmpfs, wait_until
from small_driver import ENDPOINT, HISTORY
from small_world import DAY, START

from mainspring.api.client import Client
from mainspring.core.errors import MainspringError, StorageFull
from mainspring.core.home import Home
from mainspring.formats.worker import WorkerState, read_states

ADVANCE = {"endpoint": "failure", "until": (START + HISTORY * DAY).isoformat(), "wait_s": 0}

FORGETFUL = """
from mainspring.formats.segment import SegmentWriter

append_all, sync = SegmentWriter.append_all, SegmentWriter.sync
held = []

def hold(self, blocks):
    held.extend(blocks)
    return 0

def write(self):
    if held:
        append_all(self, list(held))
        held.clear()
    sync(self)

SegmentWriter.append_all, SegmentWriter.sync = hold, write
"""
"""A worker that answers first and writes at the next sync: what a kill must show."""


def write_refused(platform: RunningPlatform) -> bool:
    return ask(platform.url, "POST", "/api/v1/endpoint/advance", ADVANCE)[0] == 503


Experiment = Callable[[Path, Path, dict[str, str]], None]


def control_stands_still_or_is_dead(
    live_home: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Predictions go on, every one on record."""
    with (
        running(live_home, environment=environment) as platform,
        Load(platform.inference_url, tmp_path / "book") as load,
    ):
        load.goes_on()
        (control,) = platform.pids("control")
        os.kill(control, signal.SIGSTOP)

        assert get(platform.url, "/health", timeout_s=0.5)[0] == 0
        load.goes_on(100)
        os.kill(control, signal.SIGKILL)
        wait_until(lambda: not alive(control), "control is gone")
        load.goes_on(100)

        platform.wait_ready()
        assert platform.pids("control") != [control]
    assert_each_once(live_home, load.answered())
    assert load.repeats == 0


def the_database_is_deleted(live_home: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """Predictions go on, writes are refused, and both work when the file is back."""
    database = Home(live_home).database
    with (
        running(live_home, environment=environment) as platform,
        Load(platform.inference_url, tmp_path / "book") as load,
    ):
        load.goes_on()
        assert not write_refused(platform)
        database.rename(tmp_path / "taken")

        assert write_refused(platform)
        status, told = get(platform.url, "/ready")
        assert (status, "database" in told) == (503, True)
        assert get(platform.inference_url, "/ready")[0] == 200
        load.goes_on(100)

        # Put back, it is taken up again by the next control process.
        (tmp_path / "taken").rename(database)
        platform.signal("control", signal.SIGKILL)
        platform.wait_ready()
        assert not write_refused(platform)
    assert_each_once(live_home, load.answered())
    assert load.repeats == 0


def kill_workers_under_load(
    home: Path, book: Path, kills: int, environment: dict[str, str]
) -> list[str]:
    with running(home, environment=environment) as platform:
        with Load(platform.inference_url, book) as load:
            for number in range(kills):
                load.goes_on(40)
                workers = platform.pids("inference")
                killed = workers[number % len(workers)]
                os.kill(killed, signal.SIGKILL)
                load.goes_on(40)
                wait_until(partial(_replaced, platform, killed), "another worker has begun")
        platform.wait_ready()
    return load.answered()


def _replaced(platform: RunningPlatform, killed: int) -> bool:
    pids = platform.pids("inference")
    return killed not in pids and len(pids) == 2


def test_a_worker_killed_under_load_loses_no_answered_record(
    live_home: Path, tmp_path: Path
) -> None:
    answered = kill_workers_under_load(live_home, tmp_path / "book", 4, {})

    assert len(answered) >= 4 * 80 * ROWS
    assert_each_once(live_home, answered)


def test_a_worker_that_writes_after_it_answers_is_found_out(
    live_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORGETFUL)
    planted = {"PYTHONPATH": str(tmp_path)}

    answered = kill_workers_under_load(live_home, tmp_path / "book", 2, planted)

    found = recorded(live_home)
    assert [key for key in answered if not found[key]]


def assert_each_once(home: Path, answered: list[str]) -> None:
    """Every answered row is on record once, and nothing else of the load is."""
    found, wanted = recorded(home), Counter(answered)

    assert not wanted - found, "answered and not recorded"
    assert not found - wanted, "recorded twice, or never answered"


def gap_alarms(platform: RunningPlatform, *, ended: bool) -> bool:
    report = platform.client().endpoint(ENDPOINT)
    found = [alarm for alarm in report.alarms if alarm.monitor == "request_log"]
    return bool(found) and all((alarm.ended is not None) == ended for alarm in found)


def states(home: Path) -> tuple[WorkerState, ...]:
    return read_states(Home(home))


def the_disk_is_full_for_the_request_log(
    live_home: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """No answer fails, what is missing is counted and alarmed, and the log goes on."""
    segments = Home(live_home).segments
    segments.mkdir(exist_ok=True)
    if not tmpfs(segments, "64m"):
        pytest.skip("mount: a tmpfs cannot be mounted here")
    try:
        with running(live_home, environment=environment) as platform:
            with Load(platform.inference_url, tmp_path / "book", pause_s=0.005) as load:
                load.goes_on(10)
                ballast = segments / "ballast"
                fill(ballast)
                wait_until(
                    lambda: any(one.left_out for one in states(live_home)), "a gap is counted"
                )
                load.goes_on(50)
                told = " ".join(p for one in states(live_home) for p in one.problems)
                assert "log" in told
                metrics = get(platform.inference_url, "/metrics")[1]
                assert "left_out_rows_total" in metrics
                alarmed = platform.status()
                wait_until(lambda: gap_alarms(platform, ended=False), "the gap's alarm is open")
                ballast.unlink()
                wait_until(
                    lambda: not any(one.problems for one in states(live_home)), "it recovered"
                )
                load.goes_on(50)
                wait_until(lambda: gap_alarms(platform, ended=True), "the gap's alarm has ended")
            assert load.repeats == 0
        answered, found = load.answered(), recorded(live_home)
        missing = [key for key in answered if not found[key]]
        assert missing
        assert max(found.values()) == 1
        assert left_out(live_home) == len(missing)
        assert "left out" in alarmed or "request log" in alarmed, alarmed
    finally:
        subprocess.run(["umount", "--lazy", str(segments)], check=True)


def the_disk_is_full_for_everything(
    live_home: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Writes are refused by name, answers go on, and both recover when there is space."""
    if not tmpfs(live_home, "64m"):
        pytest.skip("mount: a tmpfs cannot be mounted here")
    try:
        with running(live_home, environment=environment) as platform:
            client = platform.client()
            with Load(platform.inference_url, tmp_path / "book", pause_s=0.01) as load:
                load.goes_on(10)
                fill(live_home / "ballast")

                with pytest.raises(StorageFull):
                    advance_day_by_day(client)
                status, told = ask(platform.url, "POST", "/api/v1/access/grant", GRANT)
                assert (status, "storage_full" in told) == (507, True)
                assert get(platform.url, "/health")[0] == 200
                load.goes_on(50)

                (live_home / "ballast").unlink()
                wait_until(lambda: granted(platform), "writes are taken again")
                load.goes_on(50)
                assert platform.roster.processes[0].restarts == 0
            assert load.repeats == 0
            assert client.verify().ok
        answered, found = load.answered(), recorded(live_home)
        missing = [key for key in answered if not found[key]]
        assert max(found.values()) == 1
        assert left_out(live_home) == len(missing)
        assert integrity(live_home) == "ok"
    finally:
        subprocess.run(["umount", "--lazy", str(live_home)], check=True)


GRANT = {"name": "ada", "role": "viewer"}


def granted(platform: RunningPlatform) -> bool:
    return ask(platform.url, "POST", "/api/v1/access/grant", GRANT)[0] == 200


def advance_day_by_day(client: Client) -> None:
    """Move the watermark until the disk has no room for it; pages that are there take some."""
    for day in range(1, 400):
        until = START + (HISTORY + day) * DAY
        client.advance("failure", until, settle=False)


def fill(ballast: Path) -> None:
    """Take all the room there is."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def a_second_is_started_on_the_home(
    live_home: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The second is told who has the home, and the first goes on undisturbed."""
    with (
        running(live_home, environment=environment) as platform,
        Load(platform.inference_url, tmp_path / "book") as load,
    ):
        holder = platform.pid
        told = refusal(RunningPlatform(live_home, environment=environment))
        assert "held by process" in told
        assert str(holder) in told
        assert platform.roster.pid == holder
        load.goes_on()
    assert_each_once(live_home, load.answered())


def another_is_started_on_the_port(
    live_home: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The other is told that the port is in use, and the first goes on undisturbed."""
    with (
        running(live_home, environment=environment) as platform,
        Load(platform.inference_url, tmp_path / "book") as load,
    ):
        ports = (port_of(platform.url), 0)
        told = refusal(RunningPlatform(tmp_path / "other", ports=ports, environment=environment))
        assert "port" in told
        load.goes_on()
    assert_each_once(live_home, load.answered())


def refusal(platform: RunningPlatform) -> str:
    """Give what an `up` says that must not come up."""
    process = platform.popen()
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    if line:
        process.terminate()
    assert (process.wait(30), line) == (1, "")
    return platform.said()


def test_with_the_supervisor_killed_nothing_is_left_and_the_next_takes_over(
    live_home: Path, tmp_path: Path
) -> None:
    with (
        running(live_home) as platform,
        Load(platform.inference_url, tmp_path / "book") as load,
    ):
        load.goes_on()
        platform.kill()
        platform.start()
        load.goes_on()
    assert_each_once(live_home, load.answered())


NEEDY = """
import os, sys, threading, time, urllib.request

def watch():
    import json
    home = os.environ["NEEDED_HOME"]
    while True:
        time.sleep(0.2)
        try:
            url = json.load(open(os.path.join(home, "up.json")))["url"]
        except (OSError, ValueError):
            continue
        try:
            urllib.request.urlopen(url + "/health", timeout=0.5).read()
        except OSError:
            os._exit(1)

if "mainspring.serving" in sys.orig_argv:
    threading.Thread(target=watch, daemon=True).start()
"""
"""A worker that cannot do without control."""

BLIND = """
from mainspring.store.database import Database

Database._check_present = lambda self: None
"""
"""Control that does not look whether its file is still the one at the path."""

SILENT = """
import msgspec
from mainspring.formats import worker

write = worker.write_state
worker.write_state = lambda home, state: write(
    home, msgspec.structs.replace(state, left_out=0, problems=())
)
"""
"""A worker that does not tell what it leaves out."""

NAMELESS = """
from mainspring.core.errors import Unavailable
from mainspring.store.database import Database

Database._lost = lambda self, error: Unavailable(str(error))
"""
"""Control that does not tell a full disk from another failure."""

OPEN = """
from mainspring.store import lock

lock.fcntl.flock = lambda *_: None
"""
"""A lock that keeps nobody out."""

SHARING = """
import socket

bind = socket.socket.bind

def share(self, address):
    self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bind(self, address)

socket.socket.bind = share
"""
"""A port that two may have."""

EXPERIMENTS: dict[Experiment, str] = {
    control_stands_still_or_is_dead: NEEDY,
    the_database_is_deleted: BLIND,
    the_disk_is_full_for_the_request_log: SILENT,
    the_disk_is_full_for_everything: NAMELESS,
    a_second_is_started_on_the_home: OPEN,
    another_is_started_on_the_port: SHARING,
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_answers_go_on_when(experiment: Experiment, live_home: Path, tmp_path: Path) -> None:
    experiment(live_home, tmp_path, {})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_planted_bug_is_found_out_when(
    experiment: Experiment, live_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(EXPERIMENTS[experiment])
    environment = {"PYTHONPATH": str(tmp_path), "NEEDED_HOME": str(live_home)}

    with pytest.raises((AssertionError, pytest.fail.Exception, MainspringError)):
        experiment(live_home, tmp_path, environment)
