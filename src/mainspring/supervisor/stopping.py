"""The order in which a platform ends."""

from collections.abc import Sequence

from mainspring.core.clock import Clock
from mainspring.supervisor.child import Child
from mainspring.supervisor.runs import RunChildren

_SHARE_BEFORE_CONTROL = 0.75


class Stopping:
    """Workers and runs end first, while control can still hear of them; then control.

    Who is not gone at the deadline is killed; control is told in time to finish before it.
    """

    def __init__(
        self,
        *,
        control: Child,
        workers: Sequence[Child],
        runs: RunChildren,
        clock: Clock,
        drain_s: float,
    ) -> None:
        self._control = control
        self._workers = workers
        self._runs = runs
        self._clock = clock
        now_s = clock.monotonic_s()
        self._deadline_s: float | None = now_s + drain_s
        self._control_s: float | None = now_s + drain_s * _SHARE_BEFORE_CONTROL
        control.retire()
        for worker in workers:
            worker.drain()
        runs.stop(None, drain_s)

    @property
    def due_s(self) -> float | None:
        """When the next thing is due, by the monotonic clock."""
        return self._deadline_s if self._control_s is None else self._control_s

    @property
    def done(self) -> bool:
        """Whether everything is gone."""
        return self._first_gone and self._control.state == "stopped"

    @property
    def _first_gone(self) -> bool:
        return not self._runs and all(worker.state == "stopped" for worker in self._workers)

    def act(self) -> None:
        """Do what is due."""
        now_s = self._clock.monotonic_s()
        if self._control_s is not None and (self._first_gone or now_s >= self._control_s):
            self._control_s = None
            self._control.drain()
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self.kill()

    def kill(self) -> None:
        """End everything at once."""
        self._deadline_s = self._control_s = None
        if self._control.state != "stopped":
            self._control.drain()
        for child in (self._control, *self._workers):
            child.kill()
        self._runs.kill()
