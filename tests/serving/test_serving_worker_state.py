"""The file in which a worker tells how it is, and the metrics made from such files."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainspring.core.errors import InvalidInput
from mainspring.core.home import Home
from mainspring.formats.worker import (
    BUCKETS_S,
    Latency,
    Work,
    WorkerState,
    alive,
    read_states,
    remove_state,
    write_state,
)
from mainspring.serving.metrics import prometheus_text


def told(worker: str = "w1", *, rows: int = 0, pid: int | None = None) -> WorkerState:
    return WorkerState(
        worker=worker,
        pid=os.getpid() if pid is None else pid,
        started=datetime(2013, 1, 1, tzinfo=UTC),
        ready=True,
        routes=3,
        in_flight=0,
        requests=rows,
        rows=rows,
        failures=0,
        left_out=0,
        problems=(),
        by_version={"default/delay/1/live": rows},
        work={"default/delay/1/live": Work(rows, 3, 0.25)},
        latency={"default/delay": Latency(0.5, (0,) * len(BUCKETS_S) + (rows,))},
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_what_was_written_last_is_read_until_it_is_removed(home: Home) -> None:
    write_state(home, told("w2"))
    write_state(home, told("w1", rows=1))
    write_state(home, told("w1", rows=2))

    assert read_states(home) == (told("w1", rows=2), told("w2"))
    remove_state(home, "w1")
    remove_state(home, "w1")
    assert read_states(home) == (told("w2"),)
    assert [path.name for path in home.workers.iterdir()] == ["w2.json"]


def test_a_file_that_is_no_state_is_passed_over(home: Home) -> None:
    write_state(home, told("w1"))
    (home.workers / "w0.json").write_text('{"worker": "w0"', "utf-8")

    assert read_states(home) == (told("w1"),)
    assert read_states(Home(home.root / "none")) == ()


def test_a_worker_is_alive_as_long_as_its_process(home: Home) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        write_state(home, told(pid=process.pid))
        (state,) = read_states(home)
        assert alive(state)
        process.kill()
        process.wait()
        assert not alive(state)


def test_a_name_that_is_a_path_is_refused(home: Home) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        write_state(home, told("../w1"))


def test_the_state_is_written_where_it_is_when_no_file_can_be_made(home: Home) -> None:
    write_state(home, told("w1", rows=1))
    # A folder in the way of the temporary file stands for a disk without a free block.
    (home.workers / f".w1.json.{os.getpid()}").mkdir()

    write_state(home, told("w1", rows=20_000))
    assert read_states(home) == (told("w1", rows=20_000),)
    write_state(home, told("w1", rows=2))
    assert read_states(home) == (told("w1", rows=2),)


def test_metrics_of_odd_names_pass_the_linter() -> None:
    states = [told('w"1\\', rows=5), told("w2", rows=7)]

    text = prometheus_text(states)

    linter = subprocess.run(
        ["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False
    )
    assert (linter.returncode, linter.stdout, linter.stderr) == (0, b"", b"")
    name = 'project="default",endpoint="delay"'
    assert f'rows_total{{worker="w2",{name},version="1",arm="live"}} 7\n' in text
    of_triton = 'worker="w2",project="default",model="delay",version="1"'
    assert f"nv_inference_count{{{of_triton}}} 7\n" in text
    assert f"nv_inference_request_success{{{of_triton}}} 3\n" in text
    assert f'compute_seconds_total{{worker="w2",{name},version="1"}} 0.25\n' in text
    assert f'duration_seconds_bucket{{worker="w2",{name},le="2.5"}} 0\n' in text
    assert f'duration_seconds_bucket{{worker="w2",{name},le="+Inf"}} 7\n' in text
    assert f'duration_seconds_sum{{worker="w2",{name}}} 0.5\n' in text
