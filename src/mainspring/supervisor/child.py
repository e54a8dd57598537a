"""One place for a process that is kept running: control, or a worker."""

import signal
from collections.abc import Callable

from mainspring.core.clock import Clock
from mainspring.formats.wire import Drain, Message, Process, Role, State
from mainspring.supervisor.backoff import Backoff
from mainspring.supervisor.launch import Launched

Say = Callable[[str], None]

_MUTE_S = 1.0


class Child:
    """Starts its process, and starts it again with back-off whenever it ends."""

    def __init__(
        self,
        role: Role,
        name: str,
        *,
        launch: Callable[[], Launched],
        clock: Clock,
        say: Say,
        start_limit_s: float,
    ) -> None:
        self.role = role
        self.name = name
        self.launched: Launched | None = None
        self.state: State = "stopped"
        self.failed_starts = 0
        """Processes in a row that ended before they were ready."""
        self._launch = launch
        self._clock = clock
        self._say = say
        self._start_limit_s = start_limit_s
        self._backoff = Backoff()
        self._restarts = -1
        self._started = clock.now()
        self._since_s = 0.0
        self._due_s: float | None = None
        self._mute = False
        self._retired = False

    @property
    def process(self) -> Process:
        """The process as it is now."""
        pid = 0 if self.launched is None else self.launched.pid
        restarts = max(self._restarts, 0)
        return Process(self.role, self.name, pid, self.state, restarts, self._started)

    @property
    def due_s(self) -> float | None:
        """When there is something to do although nothing happened, by the monotonic clock."""
        return self._due_s

    def start(self) -> None:
        """Start the process; if the system refuses, wait as after an end."""
        self._started = self._clock.now()
        self._since_s = self._clock.monotonic_s()
        self._due_s = self._since_s + self._start_limit_s
        self._restarts += 1
        self._mute = False
        self.state = "starting"
        try:
            self.launched = self._launch()
        except OSError as error:
            self._wait_after(f"could not be started ({error})")

    def ready(self) -> None:
        """Note that the process does its work."""
        if self.state == "starting":
            self.state = "ready"
            self.failed_starts = 0
            self._due_s = None

    def send(self, message: Message) -> None:
        """Send to the process, if there is one."""
        if self.launched is not None:
            self.launched.channel.send(message)

    def mute(self) -> None:
        """Note that the process closed its wire: it is about to end, or of no use."""
        if not self._mute and not self._retired:
            self._mute = True
            self._due_s = self._clock.monotonic_s() + _MUTE_S

    def act(self) -> None:
        """Do what is due: the next start, or the end of a process that hangs."""
        if self._due_s is None or self._clock.monotonic_s() < self._due_s:
            return
        self._due_s = None
        if self.state == "backoff":
            self.start()
        elif self.launched is not None:
            why = "closed its wire" if self._mute else f"not ready after {self._start_limit_s:g} s"
            self._say(f"{self.name}: {why}, killed")
            self.launched.kill()

    def gone(self, code: int) -> None:
        """Note that the process ended, with its exit code or minus its signal."""
        assert self.launched is not None, "only a process that was there ends"
        self.launched.clear()
        self.launched = None
        self._wait_after(how_ended(code))

    def retire(self) -> None:
        """From now on, do not start the process again when it ends."""
        self._retired = True
        self._due_s = None
        if self.launched is None:
            self.state = "stopped"

    def drain(self) -> None:
        """Let the process finish its work and end; it is not started again."""
        self.retire()
        if self.launched is None:
            return
        if self.state == "ready":
            self.launched.channel.send(Drain())
        else:
            # It may not listen yet, and has no work that could be finished.
            self.launched.terminate()

    def kill(self) -> None:
        """End the process at once."""
        if self.launched is not None:
            self.launched.kill()

    def _wait_after(self, how: str) -> None:
        if self._retired:
            self.state, self._due_s = "stopped", None
            return
        if self.state == "starting":
            self.failed_starts += 1
        now_s = self._clock.monotonic_s()
        wait_s = self._backoff.after(lived_s=now_s - self._since_s)
        self._say(f"{self.name}: {how}, starts again in {wait_s:g} s")
        self.state, self._due_s = "backoff", now_s + wait_s


def how_ended(code: int) -> str:
    """Put an exit code, or minus a signal, into words.

    >>> how_ended(3), how_ended(-9)
    ('ended with code 3', 'ended by SIGKILL')
    """
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
