"""Running pipelines: each step once per key, words kept, failures named."""

import logging
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mainspring.core.clock import Instant
from mainspring.core.errors import (
    InvalidInput,
    NotReproducible,
    Refused,
    StaleToken,
    StepFailed,
    StorageFull,
)
from mainspring.core.ids import Digest, Id
from mainspring.pipelines.artifact import StepOutputs, intact, loaded, stored
from mainspring.pipelines.builtin import (
    log_artifact,
    log_metrics,
    log_params,
    log_tags,
    training_rows,
)
from mainspring.pipelines.context import Logged
from mainspring.pipelines.pipeline import Pipeline, pipeline
from mainspring.pipelines.run import Closed, RunReport
from mainspring.pipelines.runner import RunResult
from mainspring.pipelines.step import step

if TYPE_CHECKING:
    from tests.pipelines.conftest import Workshop

START = datetime(2013, 4, 1, tzinfo=UTC)


@step
def load(rows: int = 10) -> pl.DataFrame:
    return pl.DataFrame({"x": list(range(rows))}).cast(pl.Int64)


@step
def scale(frame: pl.DataFrame, by: int) -> pl.DataFrame:
    log_metrics({"rows": frame.height}, step=by)
    return frame * by


@step(outputs=["head", "count"])
def cut(frame: pl.DataFrame, at: int) -> Any:
    return frame.head(at), {"rows": at, "at": (START, float("nan"))}


@step
def report(frame: pl.DataFrame, count: Any) -> dict[str, Any]:
    return {"sum": frame["x"].sum(), **count}


@pipeline
def chain(rows: int = 10, by: int = 2, at: int = 3) -> Any:
    head, count = cut(scale(load(rows), by), at)
    return report(head, count)


def run(workshop: "Workshop", which: Pipeline[..., Any], /, **given: Any) -> RunResult:
    return workshop.runner().run(which, which.bind(given))


def executed(result: RunResult) -> list[str]:
    return [done.name for done in result.steps if done.executed]


def test_a_run_gives_what_the_plain_call_gives(workshop: "Workshop") -> None:
    value = run(workshop, chain).value

    assert repr(value) == repr(chain())
    assert value["sum"] == 6


def test_the_second_run_executes_no_step(workshop: "Workshop") -> None:
    first = run(workshop, chain)
    second = run(workshop, chain)

    assert executed(first) == ["load", "scale", "cut", "report"]
    assert executed(second) == []
    assert repr(second.value) == repr(first.value)
    assert [s.key for s in first.steps] == [s.key for s in second.steps]


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ({"rows": 11}, ["load", "scale", "cut"]),
        ({"by": 3}, ["scale", "cut", "report"]),
        ({"at": 4}, ["cut", "report"]),
    ],
)
def test_one_changed_parameter_runs_exactly_what_is_downstream(
    workshop: "Workshop", given: dict[str, int], again: list[str]
) -> None:
    run(workshop, chain)

    # A longer load is cut to the same head, so nothing changes for what comes after the cut.
    assert executed(run(workshop, chain, **given)) == again


def test_a_damaged_output_runs_its_step_again_and_heals(workshop: "Workshop") -> None:
    lease = workshop.begin()
    first = workshop.runner(lease).run(chain, chain.bind({}))
    key = first.steps[1].key
    assert key is not None
    kept = workshop.runs.step_outputs(key)
    assert kept is not None
    damaged = workshop.blobs.path(kept.results["result"].digest)
    content = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(bytes([content[0] ^ 1]) + content[1:])

    second = run(workshop, chain)

    assert executed(second) == ["scale"]
    assert repr(second.value) == repr(first.value)
    assert damaged.read_bytes() == content
    assert executed(run(workshop, chain)) == []


def test_a_missing_output_runs_its_step_again(workshop: "Workshop") -> None:
    first = run(workshop, chain)
    key = first.steps[2].key
    assert key is not None
    kept = workshop.runs.step_outputs(key)
    assert kept is not None
    workshop.blobs.delete(kept.results["count"].digest)

    assert executed(run(workshop, chain)) == ["cut"]


def test_a_step_that_is_never_kept_runs_every_time(workshop: "Workshop") -> None:
    @step(cache=False)
    def act(frame: pl.DataFrame) -> int:
        return frame.height

    @pipeline
    def acting() -> Any:
        return act(load())

    assert executed(run(workshop, acting)) == ["load", "act"]
    assert executed(run(workshop, acting)) == ["act"]


def test_what_a_kept_step_logged_is_in_the_second_run_too(workshop: "Workshop") -> None:
    first, second = workshop.begin(), workshop.begin()

    workshop.runner(first).run(chain, chain.bind({}))
    workshop.runner(second).run(chain, chain.bind({}))

    tracked = [workshop.tracking.get(Id(lease.name)) for lease in (first, second)]
    assert tracked[0].metrics["rows"].value == 10
    assert tracked[0].metrics == tracked[1].metrics
    assert tracked[0].params == tracked[1].params == {"rows": "10", "by": "2", "at": "3"}
    assert workshop.tracking.digest(Id(first.name)) == workshop.tracking.digest(Id(second.name))


def test_a_step_notes_parameters_tags_and_files_in_its_run(workshop: "Workshop") -> None:
    @step
    def noting() -> int:
        log_params({"trees": {"depth": 6}})
        log_tags({"kind": "trees"})
        log_artifact("notes/readme.txt", b"hello")
        return 1

    @pipeline
    def noted() -> Any:
        return noting()

    lease = workshop.begin()
    workshop.runner(lease).run(noted, {})

    tracked = workshop.tracking.get(Id(lease.name))
    assert tracked.params == {"trees.depth": "6"}
    assert tracked.tags["kind"] == "trees"
    assert tracked.tags["mainspring.commit"] == "none"
    assert workshop.blobs.get(tracked.artifacts["notes/readme.txt"].digest) == b"hello"
    assert "environment.json" in tracked.artifacts


def test_notes_outside_a_run_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_metrics({"auc": 0.7})
        log_params({"depth": 6})
        log_tags({"a": "b"})
        assert log_artifact("a", b"") is None

    assert "auc" in caplog.text
    assert "outside a run" in caplog.text


def test_training_rows_are_asked_for_once_per_pins_and_until(workshop: "Workshop") -> None:
    asked: list[Instant] = []

    def rows(endpoint: str, until: Instant) -> pl.DataFrame:
        assert endpoint == "delay"
        asked.append(until)
        return pl.DataFrame({"x": [1, 2, len(asked)]})

    @pipeline
    def trained(until: Instant) -> Any:
        return scale(training_rows("delay", until), 2)

    workshop.rows = rows
    for until in (START, START, START + timedelta(days=1)):
        run(workshop, trained, until=until)
    assert asked == [START, START + timedelta(days=1)]

    workshop.pins = 2
    run(workshop, trained, until=START)
    assert len(asked) == 3


def test_training_rows_outside_a_run_say_what_is_missing() -> None:
    with pytest.raises(Refused, match="found no run around the call"):
        training_rows("delay", START)


def test_a_step_that_raises_is_named_with_the_log(workshop: "Workshop") -> None:
    @step
    def failing(frame: pl.DataFrame) -> int:
        print("before it breaks")
        raise ValueError(f"{frame.height} is too few")

    @pipeline
    def broken() -> Any:
        return failing(load())

    lease = workshop.begin()
    with pytest.raises(StepFailed, match=r"step 'failing' raised ValueError: 10 is too few.*log"):
        workshop.runner(lease).run(broken, {})

    log = workshop.log_of(Id(lease.name)).read_text()
    assert "failing out | before it breaks" in log
    assert 'raise ValueError(f"{frame.height} is too few")' in log
    assert "pipelines/runner.py" not in log
    assert log.startswith("2013-04-01T00:00:00.000+00:00 load run |")


def test_a_failed_run_is_closed_as_failed_and_keeps_its_finished_steps(
    workshop: "Workshop",
) -> None:
    @step
    def leaving(frame: pl.DataFrame) -> int:
        sys.exit(frame.height)

    @pipeline
    def broken() -> Any:
        return leaving(load())

    lease = workshop.begin()
    closed = workshop.runner(lease).execute(broken, {})

    row = workshop.runs.get(Id(lease.name))
    assert row.state == "failed"
    assert "step_failed: run" in row.message
    assert "SystemExit" in row.message
    assert closed.version is None
    assert workshop.tracking.get(Id(lease.name)).status == "failed"
    assert executed(run(workshop, chain)) == ["scale", "cut", "report"]


def test_a_full_disk_ends_the_attempt_and_not_the_run(workshop: "Workshop") -> None:
    @step
    def writing() -> int:
        raise StorageFull("no room; free space and repeat")

    @pipeline
    def full() -> Any:
        return writing()

    lease = workshop.begin()
    with pytest.raises(StorageFull, match="free space"):
        workshop.runner(lease).execute(full, {})

    assert workshop.runs.get(Id(lease.name)).state == "open"
    assert "this attempt stops: no room" in workshop.log_of(Id(lease.name)).read_text()


def test_wrong_parameters_fail_the_run_with_their_name(workshop: "Workshop") -> None:
    lease = workshop.begin()

    workshop.runner(lease).execute(chain, {"rowz": 3}, until=START)

    row = workshop.runs.get(Id(lease.name))
    assert (row.state, "unknown parameter 'rowz'" in row.message) == ("failed", True)


def test_an_output_without_encoding_is_named(workshop: "Workshop") -> None:
    @step
    def making() -> Any:
        return object()

    @pipeline
    def made() -> Any:
        return making()

    with pytest.raises(InvalidInput, match=r"step 'making'.*type builtins.object.*log_model"):
        run(workshop, made)


def test_a_value_without_encoding_stops_before_anything_runs(workshop: "Workshop") -> None:
    lock = threading.Lock()

    @step
    def locked() -> Any:
        return lock

    @pipeline
    def locking() -> Any:
        return locked()

    with pytest.raises(NotReproducible, match="'lock' captured by"):
        run(workshop, locking)


def test_prints_and_logs_of_other_threads_stay_out_of_the_log(
    workshop: "Workshop", capsys: pytest.CaptureFixture[str]
) -> None:
    inside, outside = threading.Event(), threading.Event()

    @step(cache=False)
    def talking() -> None:
        inside.set()
        assert outside.wait(10)
        print("partial", end="")
        print(" line")
        print("to err", file=sys.stderr)
        logging.getLogger("train").info("progress")

    @pipeline
    def talk() -> Any:
        return talking()

    def other() -> None:
        assert inside.wait(10)
        print("from another thread")
        outside.set()

    lease = workshop.begin()
    thread = threading.Thread(target=other)
    thread.start()
    workshop.runner(lease).run(talk, {})
    thread.join()

    log = workshop.log_of(Id(lease.name)).read_text()
    assert "talking out | partial line\n" in log
    assert "talking err | to err\n" in log
    assert "talking log | INFO train: progress\n" in log
    assert "another thread" not in log
    assert "from another thread" in capsys.readouterr().out


class _Reports:
    """Reports in memory that lose the lease when told to."""

    def __init__(self) -> None:
        self.lost = threading.Event()
        self.beats = threading.Semaphore(0)

    def step_outputs(self, key: Digest) -> StepOutputs | None:
        raise AssertionError(f"nothing was kept under {key}")

    def record_step(self, *, key: Digest, step: str, outputs: StepOutputs) -> None:
        raise AssertionError(f"an orphan recorded {step} {key}: {outputs}")

    def log(self, logged: Logged) -> None:
        pass

    def renew(self) -> None:
        self.beats.release()
        if self.lost.is_set():
            raise StaleToken("its successor has begun")

    def finish(self, report: RunReport) -> Closed:
        raise AssertionError(f"an orphan reported {report}")


def test_the_lease_is_renewed_while_a_step_works_and_its_loss_stops_the_attempt(
    workshop: "Workshop",
) -> None:
    reports = _Reports()

    @step(cache=False)
    def slow() -> int:
        for _ in range(5):
            assert reports.beats.acquire(timeout=10)
        reports.lost.set()
        for _ in range(2):
            reports.beats.acquire(timeout=0.5)
        return 1

    @pipeline
    def working() -> Any:
        return scale(load(slow()), 2)

    with pytest.raises(StaleToken, match="successor"):
        workshop.runner(reports=reports, beat_s=0.01).execute(working, {})

    log = next((workshop.folder / "runs").iterdir()).read_text()
    assert "this attempt stops" in log


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        1.5,
        float("inf"),
        "text",
        b"bytes",
        START,
        [1, (2, "a"), {"b": [None]}],
        {1: "a", "$": "dict", "z": 0, "a": 1},
        {"$": "tuple", "v": [1]},
    ],
)
def test_plain_outputs_come_back_equal(workshop: "Workshop", value: Any) -> None:
    artifact = stored(value, workshop.blobs, subject="here")

    back = loaded(artifact, workshop.blobs)

    assert back == value
    assert type(back) is type(value)
    if isinstance(value, dict):
        assert list(back) == list(value)
    assert stored(value, workshop.blobs, subject="here") == artifact


def test_frames_come_back_equal_and_with_equal_bytes(workshop: "Workshop") -> None:
    frame = pl.DataFrame(
        {
            "x": [1.5, None, float("nan")],
            "s": ["a", None, ""],
            "t": pl.Series([START, None, START]).cast(pl.Datetime("us", "UTC")),
            "l": [[1], [], None],
        }
    )
    pieces = pl.concat([frame[:1], frame[1:]], rechunk=False)

    artifact = stored(frame, workshop.blobs, subject="here")

    assert_frame_equal(loaded(artifact, workshop.blobs), frame)
    assert stored(pieces, workshop.blobs, subject="here") == artifact
    assert stored(frame.lazy(), workshop.blobs, subject="here") == artifact


def test_arrays_and_graphs_come_back_equal(workshop: "Workshop") -> None:
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    model = helper.make_model(helper.make_graph([], "g", [info], [info]))
    values = np.asfortranarray(np.arange(6.0).reshape(2, 3))

    graph = stored(model, workshop.blobs, subject="here")
    array = stored(values, workshop.blobs, subject="here")

    assert loaded(graph, workshop.blobs) == model
    np.testing.assert_array_equal(loaded(array, workshop.blobs), values)
    assert intact(graph, workshop.blobs)


SCRIPT = """
import os, runpy, sys
from pathlib import Path
workshop_of = runpy.run_path(sys.argv[1])["opened_workshop"]
folder = Path(sys.argv[2])

from mainspring.pipelines.project import load

with workshop_of(folder / "state") as workshop:
    project = load(folder / "project.py")
    lease = workshop.begin()
    (folder / "run").write_text(lease.name)
    runner = workshop.runner(lease, root=project.root)
    runner.execute(project.values["chain"], {})
"""

PROJECT = """
import os
import signal
from pathlib import Path

from mainspring.pipelines.pipeline import pipeline
from mainspring.pipelines.step import step

def note(name):
    with open(os.environ["NOTES"], "a") as file:
        file.write(name + "\\n")

@step
def first():
    note("first")
    return 1

@step
def second(x):
    note("second")
    return x + 1

@step
def third(x):
    note("third")
    if os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    return x + 1

@pipeline
def chain():
    return third(second(first()))
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mainspring.pipelines.project import load as load_project

    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "state").mkdir()
    notes = tmp_path / "notes"
    conftest = str(Path(__file__).with_name("conftest.py"))
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, conftest, str(tmp_path)],
        env={**os.environ, "NOTES": str(notes), "KILL": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert notes.read_text().split() == ["first", "second", "third"]
    notes.write_text("")
    monkeypatch.setenv("NOTES", str(notes))

    import runpy

    with runpy.run_path(conftest)["opened_workshop"](tmp_path / "state") as workshop:
        run = Id((tmp_path / "run").read_text())
        assert workshop.runs.get(run).state == "open"
        workshop.clock.advance(timedelta(minutes=2))
        lease = workshop.runs.lease(run, owner="successor")
        project = load_project(tmp_path / "project.py")
        workshop.runner(lease, root=project.root).execute(project.values["chain"], {})

        assert notes.read_text().split() == ["third"]
        assert lease.attempt == 2
        assert workshop.runs.get(run).state == "finished"
