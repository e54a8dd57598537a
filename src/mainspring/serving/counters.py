"""What a worker counts of its requests, and the state that it tells of itself."""

import os
import resource
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.core.clock import Instant
from mainspring.formats.worker import BUCKETS_S, Latency, Work, WorkerState
from mainspring.serving.door import Door
from mainspring.serving.engine import Engine

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class _Times:
    seconds: float = 0.0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))


@dataclass(slots=True)
class Counters:
    """Counts since the worker's start."""

    requests: int = 0
    refused: int = 0
    failures: int = 0
    latency: dict[tuple[str, str], _Times] = field(default_factory=dict)

    def answered(self, status: int) -> None:
        """Count an answer."""
        self.requests += 1
        if status >= 500:
            self.failures += 1
        elif status >= 400:
            self.refused += 1

    def predicted(self, project: str, endpoint: str, seconds: float) -> None:
        """Count the time of an answered prediction."""
        times = self.latency.get((project, endpoint))
        if times is None:
            times = self.latency[project, endpoint] = _Times()
        times.seconds += seconds
        times.counts[bisect_left(BUCKETS_S, seconds)] += 1


def state_of(
    engine: Engine, counters: Counters, door: Door | None, *, started: Instant, ready: bool
) -> WorkerState:
    """Put together what a worker tells."""
    status = engine.status()
    endpoints = [
        f"{e.project}/{e.endpoint}: {e.problem}" for e in status.endpoints if e.problem is not None
    ]
    gap = [f"request log: {status.rows_missing} rows are not recorded"] * bool(status.rows_missing)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    away = {} if door is None else door.turned_away
    return WorkerState(
        worker=status.worker,
        pid=os.getpid(),
        started=started,
        ready=ready,
        routes=status.routes,
        in_flight=0 if door is None else door.in_flight,
        requests=counters.requests + sum(away.values()),
        rows=engine.tally.rows,
        failures=counters.failures + sum(n for status, n in away.items() if status >= 500),
        left_out=status.rows_left_out,
        problems=(*status.problems, *gap, *endpoints),
        by_version={"/".join(name): t.rows for name, t in engine.tally.by_version.items()},
        work={
            "/".join(name): Work(t.rows, t.requests, t.compute_us / 1e6)
            for name, t in engine.tally.by_version.items()
        },
        refused=counters.refused + sum(n for status, n in away.items() if status < 500),
        fallbacks=engine.tally.fallbacks,
        failed_rows=engine.tally.failed_rows,
        connections=0 if door is None else len(door.open),
        models=status.loaded_models,
        cpu_s=round(usage.ru_utime + usage.ru_stime, 3),
        memory_bytes=_resident_bytes(),
        latency={
            "/".join(name): Latency(round(times.seconds, 6), tuple(times.counts))
            for name, times in counters.latency.items()
        },
    )


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
