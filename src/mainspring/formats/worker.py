"""What an inference worker tells of itself: a small file per worker, written by it alone."""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from mainspring.core.home import Home
from mainspring.core.ids import checked_name

BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper edges of the latency buckets; one more bucket is open."""


class Latency(msgspec.Struct, frozen=True):
    """How long the predictions of one endpoint took, since the worker's start."""

    seconds: float
    """Their sum."""
    counts: tuple[int, ...]
    """Requests per bucket of `BUCKETS_S` and the open one; not cumulated."""


class Work(msgspec.Struct, frozen=True):
    """What one version has done in one role, since the worker's start."""

    rows: int
    """Answered by it."""
    requests: int
    """With at least one row answered by it."""
    compute_s: float
    """Its scoring in those requests; what is scored together counts for each."""


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as of its last writing. Counts are since `started`."""

    worker: str
    pid: int
    started: datetime
    ready: bool
    """It serves every endpoint of the newest table, perhaps one of them by an earlier route."""
    routes: int
    """Number of the newest route table that it took over; 0 before the first."""
    in_flight: int
    """Requests begun and not answered."""
    requests: int
    """Requests answered, of every kind."""
    rows: int
    """Rows answered by a version; a repeat that got its first answer again is not counted."""
    failures: int
    """Requests answered with a status of 500 or above."""
    left_out: int
    """Rows answered that the disk refused to record."""
    problems: tuple[str, ...]
    """What is wrong with routes, models, request log or online tables."""
    by_version: dict[str, int]
    """Rows answered, by `project/endpoint/version/arm`."""
    work: dict[str, Work] = {}
    """The same with requests and time."""
    refused: int = 0
    """Requests answered with a status of 400 to 499."""
    fallbacks: int = 0
    """Rows answered by another version than their key chose."""
    failed_rows: int = 0
    """Rows that no arm could score."""
    connections: int = 0
    models: int = 0
    """Models loaded."""
    cpu_s: float = 0.0
    memory_bytes: int = 0
    """Resident."""
    latency: dict[str, Latency] = {}
    """By `project/endpoint`."""


def write_state(home: Home, state: WorkerState) -> None:
    """Replace a worker's file, atomically; it speaks of a live process, so it is not fsynced.

    On a full disk the file is overwritten where it is: that takes no new block, and this is when
    the state matters. A reader that meets it half written passes over it.

    Raises:
        OSError: There is no file yet and none can be made.
    """
    path, content = _path(home, state.worker), msgspec.json.encode(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One writer per worker name, so the temporary name needs no more than the pid.
    temporary = path.with_name(f".{path.name}.{state.pid}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def remove_state(home: Home, worker: str) -> None:
    """Take a worker's file away: it ends in order. Again is allowed."""
    with suppress(FileNotFoundError):
        _path(home, worker).unlink()


def read_states(home: Home) -> tuple[WorkerState, ...]:
    """Read all files that are there, by worker name; those of killed workers too (see `alive`)."""
    states = []
    for path in sorted(home.workers.glob("*.json")):
        # Gone since it was listed, or written by another version: it says nothing to us.
        with suppress(OSError, msgspec.MsgspecError):
            states.append(msgspec.json.decode(path.read_bytes(), type=WorkerState))
    return tuple(states)


def alive(state: WorkerState) -> bool:
    """Tell whether the process that wrote the file is there."""
    try:
        os.kill(state.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _path(home: Home, worker: str) -> Path:
    return home.workers / f"{checked_name(worker, what='worker')}.json"
