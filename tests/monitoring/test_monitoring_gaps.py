"""Answers that nobody records raise an alarm while it lasts."""

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mainspring.core.home import Home
from mainspring.formats.worker import WorkerState, write_state
from mainspring.monitoring.gaps import signal

WELL = WorkerState(
    worker="inference-1",
    pid=os.getpid(),
    started=datetime(2026, 1, 1, tzinfo=UTC),
    ready=True,
    routes=1,
    in_flight=0,
    requests=9,
    rows=9,
    failures=0,
    left_out=0,
    problems=(),
    by_version={},
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_nobody_who_answers_leaves_nothing_out(home: Home) -> None:
    assert signal(home, "1") is None


def test_workers_that_record_all_they_answer_are_quiet(home: Home) -> None:
    write_state(home, WELL)
    write_state(home, msgspec.structs.replace(WELL, worker="inference-2", problems=("routes: x",)))

    found = signal(home, "1")

    assert found is not None
    assert (found.firing, found.quiet) == (False, True)


def test_one_worker_whose_disk_is_full_fires_and_is_named_with_what_is_missing(home: Home) -> None:
    full = ("request log: No space left on device",)
    write_state(home, WELL)
    write_state(
        home, msgspec.structs.replace(WELL, worker="inference-2", problems=full, left_out=7)
    )

    found = signal(home, "3")

    assert found is not None
    assert (found.firing, found.quiet, found.version, found.monitor) == (
        True,
        False,
        "3",
        "request_log",
    )
    assert "inference-2: request log: No space left" in found.message
    assert "7 rows" in found.message


def test_what_a_killed_worker_left_behind_does_not_count(home: Home) -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    full = ("request log: No space left on device",)
    write_state(home, msgspec.structs.replace(WELL, pid=gone, problems=full, left_out=7))

    assert signal(home, "1") is None


def test_before_the_first_version_there_is_nothing_to_speak_of(home: Home) -> None:
    write_state(home, WELL)

    assert signal(home, None) is None
