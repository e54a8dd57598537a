"""When to look, and who looks: one thread at a time for each endpoint, and nobody misses a wake."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from mainspring.core.errors import MainspringError, NotFound, StaleToken
from mainspring.core.ids import Id
from mainspring.formats import routes
from mainspring.formats.wire import Assignment
from mainspring.loop import state
from mainspring.loop.run import Looked, failed_times, record_error, settle
from mainspring.loop.stages import Stages
from mainspring.pipelines import runs
from mainspring.store.leases import Lease

IN_PROCESS = "in-process"
"""Owner of the leases of work inside the process that owns the home."""

RUN_PROCESS = "run-process"
"""Owner of the leases of attempts in processes of their own."""

LONGEST_WAIT_S = 60.0
ANSWERED_AFTER = timedelta(seconds=10)
"""Event times this old, in wall time, count as answered: far beyond any arm's time limit."""

SERVING_POLL_S = 0.02
BACKOFF_AT_MOST_S = 300.0
JOIN_S = 5.0

_log = logging.getLogger("mainspring.loop")


@dataclass(frozen=True, slots=True)
class Settled:
    """How a settling ended.

    Attributes:
        steps: All steps since the call began, whoever took them.
        at_rest: No step to take, no open run, and every worker serves the newest routes.
    """

    steps: tuple[str, ...]
    waiting: str
    error: str | None
    at_rest: bool


@dataclass(slots=True)
class _Endpoint:
    """What the driver keeps of one endpoint."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    wakes: int = 0
    listeners: list[list[str]] = field(default_factory=list)


class Driver:
    """Turns the loops of one project's endpoints. Thread-safe.

    Without `start` it looks when asked to: a run is executed inside the settling that began it.
    With it, a thread for each endpoint looks when woken, and at every tick where time alone may
    have changed something.

    Args:
        owner: Of the leases of attempts.
        start_attempt: Begins a leased attempt; may return before it ends.
        stop_attempt: Ends the process of a run, if there is one.

    Attributes:
        serving: Tells whether all that answers predictions has a route table of at least this
            number.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        owner: str,
        start_attempt: Callable[[Assignment], None],
        stop_attempt: Callable[[str], None],
    ) -> None:
        self.serving: Callable[[int], bool] = lambda _: True
        self._stages = stages
        self._owner = owner
        self._start_attempt = start_attempt
        self._stop_attempt = stop_attempt
        self._changed = threading.Condition()
        self._endpoints: dict[str, _Endpoint] = {}
        self._wakes = 0
        self._threads: dict[str, threading.Thread] = {}
        self._tick_s: float | None = None
        self._stopped = False

    # --- looking

    def settle(self, endpoint: str, *, wait_s: float = 0.0) -> Settled:
        """Take all steps there are; then wait for the open run and for the workers, and go on.

        Args:
            wait_s: After this long it returns as things stand, 0 to 60.
        """
        ends = time.monotonic() + min(max(wait_s, 0.0), LONGEST_WAIT_S)
        with self._heard(endpoint) as steps:
            while True:
                seen = self._seen(endpoint)
                looked = self._look(endpoint)
                # Its own steps wake the others, not itself.
                seen += 1 if looked.steps else 0
                while True:
                    rest = looked.error is None and not self._pending(looked) and self._served()
                    left = 0.0 if self._stopped else ends - time.monotonic()
                    if rest or looked.error is not None or left <= 0:
                        return Settled(tuple(steps), looked.waiting, looked.error, rest)
                    pause = left if self._pending(looked) else min(left, SERVING_POLL_S)
                    if self._woken(endpoint, seen, pause):
                        break

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """Keep everybody else from taking a step of an endpoint's loop within the block."""
        with self._changed:
            mine = self._of(endpoint)
        with mine.turn:
            yield

    def wake(self, endpoint: str | None = None) -> None:
        """Say that something changed for an endpoint, or for all of them."""
        with self._changed:
            if endpoint is None:
                self._wakes += 1
            else:
                self._of(endpoint).wakes += 1
            self._changed.notify_all()

    def _look(self, endpoint: str) -> Looked:
        with self._changed:
            mine = self._of(endpoint)
        with mine.turn:
            looked = settle(self._stages, endpoint)
            with self._changed:
                for listener in mine.listeners:
                    listener.extend(looked.steps)
                if looked.steps:
                    mine.wakes += 1
                    self._changed.notify_all()
        return looked

    @contextmanager
    def _heard(self, endpoint: str) -> Iterator[list[str]]:
        """Collect the steps that anybody takes within the block."""
        steps: list[str] = []
        with self._changed:
            listeners = self._of(endpoint).listeners
            listeners.append(steps)
        try:
            yield steps
        finally:
            with self._changed:
                listeners[:] = [one for one in listeners if one is not steps]

    def _pending(self, looked: Looked) -> bool:
        """Tell whether a run works elsewhere; one in this process has ended with its step."""
        return looked.run is not None and self._owner == RUN_PROCESS

    def _served(self) -> bool:
        try:
            number = routes.load(self._stages.home.routes).number
        except NotFound:
            return True
        return self.serving(number)

    def _of(self, endpoint: str) -> _Endpoint:
        return self._endpoints.setdefault(endpoint, _Endpoint())

    def _seen(self, endpoint: str) -> int:
        with self._changed:
            return self._wakes + self._of(endpoint).wakes

    def _woken(self, endpoint: str, seen: int, timeout_s: float) -> bool:
        """Wait until something was said since `seen`; false when the time is over."""
        with self._changed:
            of = self._of(endpoint)
            return self._changed.wait_for(lambda: self._wakes + of.wakes != seen, timeout_s)

    # --- attempts

    def begin(self, run: Id) -> None:
        """Take the lease of a run's next attempt and have it begun."""
        stages = self._stages
        lease = stages.runs.lease(run, owner=self._owner)
        interpreter = stages.config.interpreter or None
        try:
            self._start_attempt(
                Assignment(stages.project, run, lease.token, lease.attempt, interpreter)
            )
        except BaseException:
            stages.leases.release(lease)
            raise

    def stop_run(self, run: Id) -> None:
        """End the process of a run that was closed from outside."""
        self._stop_attempt(run)

    def run_ended(self, run: str, token: str) -> None:
        """Hear that a run's process is gone: its lease ends now, and the next attempt may begin."""
        stages = self._stages
        self._end_lease(run, token)
        try:
            endpoint = stages.runs.get(Id(run)).endpoint
        except NotFound:
            return
        if endpoint is not None:
            self.wake(endpoint)

    def adopt(self, live_run_tokens: Sequence[tuple[str, str]]) -> None:
        """Take over from a predecessor, told which run processes (run, token) are alive.

        Leases of the others end; those of the living are renewed, because nobody could hear them
        meanwhile; a living one whose attempt is over is stopped.
        """
        stages, alive = self._stages, set(live_run_tokens)
        for lease in stages.leases.live_of(stages.project, runs.KIND):
            if lease.owner == RUN_PROCESS and (lease.name, lease.token) not in alive:
                stages.leases.release(lease)
        for run, token in sorted(alive):
            try:
                stages.runs.renew(Id(run), token=token)
            except (StaleToken, NotFound):
                self._stop_attempt(run)

    def _end_lease(self, run: str, token: str) -> None:
        stages = self._stages
        now = stages.clock.now()
        stages.leases.release(Lease(stages.project, runs.KIND, run, RUN_PROCESS, 0, token, now))

    # --- by itself

    def start(self, tick_s: float) -> None:
        """Look from now on without being asked; again does nothing."""
        with self._changed:
            if self._tick_s is not None:
                return
            self._tick_s = tick_s
        self._begin_thread("", self._watch_endpoints)

    def stop(self) -> None:
        """Stop looking by itself and waiting; what is under way is given a few seconds."""
        with self._changed:
            self._tick_s = None
            self._stopped = True
            self._wakes += 1
            self._changed.notify_all()
            threads = list(self._threads.values())
        ends = time.monotonic() + JOIN_S
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def alive(self) -> bool:
        """Tell whether it looks by itself, if it was started."""
        with self._changed:
            watching = self._threads.get("")
            return self._tick_s is None or (watching is not None and watching.is_alive())

    def _begin_thread(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=f"loop-{name}", daemon=True)
        with self._changed:
            if name in self._threads and self._threads[name].is_alive():
                return
            self._threads[name] = thread
        thread.start()

    def _watch_endpoints(self) -> None:
        """Have a thread for each declared endpoint."""
        while (tick_s := self._tick_s) is not None:
            seen = self._seen("")
            try:
                with self._stages.database.read() as connection:
                    declared = state.endpoints(connection, self._stages.project)
            except Exception:
                _log.exception("endpoints of project %s cannot be read", self._stages.project)
                declared = []
            for spec in declared:
                self._begin_thread(spec.name, lambda name=spec.name: self._drive(name))  # type: ignore[misc]
            self._woken("", seen, tick_s)

    def _drive(self, endpoint: str) -> None:
        """Look at one endpoint until it is declared no more."""
        due, failures = True, 0
        while (tick_s := self._tick_s) is not None:
            seen = self._seen(endpoint)
            try:
                self._follow_clock(endpoint)
                if due or self._time_matters(endpoint):
                    looked = self._look(endpoint)
                    seen += 1 if looked.steps else 0
                    failures = failures + 1 if looked.error is not None else 0
            except NotFound:
                return
            except Exception as error:
                failures += 1
                self._note(endpoint, error)
            due = self._woken(endpoint, seen, min(tick_s * 2**failures, BACKOFF_AT_MOST_S))

    def _follow_clock(self, endpoint: str) -> None:
        """Move the watermark of an endpoint in wall time along: nobody else sends it one."""
        stages = self._stages
        with stages.database.read() as connection:
            spec = state.endpoint(connection, stages.project, endpoint)
        if spec.time == "wall":
            stages.monitoring.advance(endpoint, stages.clock.now() - ANSWERED_AFTER)

    def _time_matters(self, endpoint: str) -> bool:
        """Tell whether time alone may have changed an endpoint's world."""
        stages = self._stages
        with stages.database.read() as connection:
            spec = state.endpoint(connection, stages.project, endpoint)
        if spec.time != "event" or stages.runs.open_run(endpoint) is not None:
            return True
        return failed_times(stages, endpoint) > 0 or stages.monitoring.unheard(endpoint)

    def _note(self, endpoint: str, error: Exception) -> None:
        _log.error("the loop of endpoint %s cannot be looked at: %s", endpoint, error)
        with suppress(MainspringError):
            record_error(self._stages, endpoint, "Look", f"{type(error).__name__}: {error}")
