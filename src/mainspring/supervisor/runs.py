"""Run processes: one per attempt, started when control asks, never started again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from mainspring.core.clock import Clock
from mainspring.formats.wire import Assignment, Process, RunEnded, RunProcess
from mainspring.supervisor.child import Say, how_ended
from mainspring.supervisor.launch import Launched

NO_PROCESS = 127
"""Exit code of what could not be started, as shells have it."""

_REPEAT_S = 10.0


@dataclass(slots=True)
class RunChild:
    """The process of one attempt."""

    assignment: Assignment
    launched: Launched
    started: datetime
    ready: bool = False
    kill_s: float | None = None
    """When the grace of a stop is over, by the monotonic clock."""


class RunChildren:
    """The attempts that are alive, and the ends that control has not heard of."""

    def __init__(self, launch: Callable[[Assignment], Launched], *, clock: Clock, say: Say) -> None:
        self._launch = launch
        self._clock = clock
        self._say = say
        self._alive: list[RunChild] = []
        self._ends: list[RunEnded] = []
        self._told: list[tuple[float, RunEnded]] = []

    def __iter__(self) -> Iterator[RunChild]:
        return iter(tuple(self._alive))

    def __len__(self) -> int:
        return len(self._alive)

    @property
    def processes(self) -> list[Process]:
        """The processes as they are now."""
        return [
            Process(
                "run",
                f"run-{run.assignment.run}",
                run.launched.pid,
                "ready" if run.ready else "starting",
                0,
                run.started,
            )
            for run in self._alive
        ]

    @property
    def alive(self) -> tuple[RunProcess, ...]:
        """What the next control is told of."""
        return tuple(
            RunProcess(
                run.assignment.project, run.assignment.run, run.assignment.token, run.launched.pid
            )
            for run in self._alive
        )

    @property
    def due_s(self) -> float | None:
        """When the next grace is over, by the monotonic clock."""
        return min((run.kill_s for run in self._alive if run.kill_s is not None), default=None)

    def start(self, assignment: Assignment) -> None:
        """Start an attempt; asked again for one that is alive, nothing happens."""
        if any(run.assignment.token == assignment.token for run in self._alive):
            return
        try:
            launched = self._launch(assignment)
        except OSError as error:
            self._say(f"run {assignment.run}: could not be started ({error})")
            self._ends.append(_end(assignment, 0, NO_PROCESS, reason=str(error)))
            return
        self._alive.append(RunChild(assignment, launched, self._clock.now()))

    def stop(self, run: str | None, grace_s: float) -> None:
        """Ask a run's processes to end, or those of all runs, and kill them after the grace."""
        kill_s = self._clock.monotonic_s() + grace_s
        for one in self._alive:
            if run in (None, one.assignment.run):
                one.launched.terminate()
                one.kill_s = kill_s if one.kill_s is None else min(one.kill_s, kill_s)

    def act(self) -> None:
        """Kill those whose grace is over."""
        now_s = self._clock.monotonic_s()
        for run in self._alive:
            if run.kill_s is not None and run.kill_s <= now_s:
                run.kill_s = None
                run.launched.kill()

    def kill(self) -> None:
        """End all at once."""
        for run in self._alive:
            run.launched.kill()

    def gone(self, run: RunChild, code: int) -> None:
        """Note that a process ended, with its exit code or minus its signal."""
        run.launched.clear()
        self._alive.remove(run)
        if code != 0:
            self._say(f"run {run.assignment.run}: {how_ended(code)}")
        self._ends.append(_end(run.assignment, run.launched.pid, code))

    def take_ends(self) -> list[RunEnded]:
        """Give the ends not given yet: for a control that listens."""
        now_s = self._clock.monotonic_s()
        ends, self._ends = self._ends, []
        recent = [(at_s, end) for at_s, end in self._told if now_s - at_s < _REPEAT_S]
        self._told = recent + [(now_s, end) for end in ends]
        return ends

    def control_is_gone(self) -> None:
        """Give the next control again what the last one may not have come to act on.

        An end that is told twice does no harm: its lease is over by the first.
        """
        now_s = self._clock.monotonic_s()
        self._ends = [end for at_s, end in self._told if now_s - at_s < _REPEAT_S] + self._ends
        self._told = []


def _end(assignment: Assignment, pid: int, code: int, *, reason: str = "") -> RunEnded:
    return RunEnded(
        project=assignment.project,
        run=assignment.run,
        token=assignment.token,
        pid=pid,
        code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        reason=reason,
    )
