"""A worker that is killed, or whose disk is full, and what it loads."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serving.serving_world import World, constant, live, rows

ROOT = str(Path(__file__).parents[2])
START = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.serving.serving_world import World, rows
world = World(Path(sys.argv[1]))
engine = world.engine(sync_s=0.0)
"""
SERVE = (
    START
    + """
while True:
    answer = engine.predict("default", "delay", rows("JFK", "LGA"))
    print(answer.prediction, flush=True)
"""
)
FULL = (
    START
    + """
size = 0
for _ in range(3):
    engine.predict("default", "delay", rows("JFK", "LGA"))
size = next(world.home.segments.iterdir()).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
for _ in range(5):
    assert engine.predict("default", "delay", rows("JFK", "LGA")).outputs == [0.5, 0.5]
assert engine.status().rows_missing == 10
assert engine.status().problems
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for _ in range(2):
    engine.predict("default", "delay", rows("JFK", "LGA"))
assert engine.status().rows_missing == 0
assert not engine.status().problems
"""
)
NOT_IN_A_WORKER = (
    "polars",
    "sqlalchemy",
    "deltalake",
    "fastapi",
    "scipy",
    "sklearn",
    "pandas",
    "onnx",
    "skl2onnx",
    "onnxmltools",
    "lightgbm",
    "yaml",
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    return world


def test_every_answer_given_before_kill_9_is_in_the_log_once(world: World) -> None:
    command = [sys.executable, "-c", SERVE, str(world.root), ROOT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        answered = [worker.stdout.readline().strip() for _ in range(50)]
        worker.send_signal(signal.SIGKILL)
        answered += worker.stdout.read().split("\n")[:-1]

    logged = [block.prediction for block in world.blocks()]

    assert logged[: len(answered)] == answered
    assert len(logged) <= len(answered) + 1


def test_a_full_disk_stops_no_answer_and_the_gap_is_counted(world: World) -> None:
    command = [sys.executable, "-c", FULL, str(world.root), ROOT]
    worker = subprocess.run(command, check=False, capture_output=True, text=True)

    assert worker.returncode == 0, worker.stderr
    assert [block.missing_before for block in world.blocks()] == [0, 0, 0, 10, 0]


def test_a_worker_loads_no_library_of_the_control_plane_or_of_training() -> None:
    program = """
import sys
import mainspring.serving, mainspring.serving.engine, mainspring.formats.routes
print(" ".join(sorted({name.split(".")[0] for name in sys.modules})))
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    loaded = set(answer.stdout.split())
    assert "numpy" in loaded
    assert not loaded.intersection(NOT_IN_A_WORKER)


@pytest.mark.parametrize(("sync_s", "synced"), [(0.0, 3), (-1.0, 0)])
def test_records_are_synced_as_often_as_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync_s: float, synced: int
) -> None:
    world, calls = World(tmp_path), 0
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine(sync_s=sync_s)

    def count(_: int) -> None:
        nonlocal calls
        calls += 1

    monkeypatch.setattr("mainspring.formats.frame.os.fdatasync", count)
    for _ in range(3):
        engine.predict("default", "delay", rows("JFK"))
        engine.sync()

    assert calls == synced
