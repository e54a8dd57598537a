"""How a run process ends before its work does: told by a signal, or left by the supervisor."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType

from mainspring.core.errors import MainspringError
from mainspring.formats.wire import Drain, Wire
from mainspring.pipelines.log import RunLog

STOPPED = 75
"""Exit code of an attempt that ended without a report on its run."""

GRACE_S = 2.0


class Ending:
    """Watches the supervisor's wire and SIGTERM from threads of its own.

    The main thread may be deep in a library for minutes, where no signal handler runs, so the
    process is ended from here.

    Args:
        leave: Says to the platform that the attempt is over.
    """

    def __init__(self, wire: Wire, log: RunLog, leave: Callable[[], None]) -> None:
        self._wire = wire
        self._log = log
        self._leave = leave
        self._ending = threading.Lock()
        self._told, self._tell = socket.socketpair()

    def watch(self) -> None:
        """Begin to watch; to be called from the main thread."""
        # Written to by the signal itself, whatever the main thread does.
        self._tell.setblocking(False)
        signal.set_wakeup_fd(self._tell.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, _heard)
        for watched in (self._watch_wire, self._watch_signals):
            threading.Thread(target=watched, name="attempt-ending", daemon=True).start()

    def now(self, why: str) -> None:
        """End the process without a report."""
        self._log.line("", "run", why)
        _exit()

    def _watch_wire(self) -> None:
        while (message := self._wire.receive()) is not None:
            if isinstance(message, Drain):
                self._stop()
        self.now("this attempt stops: the platform is gone")

    def _watch_signals(self) -> None:
        while True:
            if signal.SIGTERM in self._told.recv(64):
                self._stop()

    def _stop(self) -> None:
        if not self._ending.acquire(blocking=False):
            return
        late = threading.Timer(GRACE_S, _exit)
        late.daemon = True
        late.start()
        self._log.line("", "run", "this attempt stops: it was told to")
        with contextlib.suppress(MainspringError, OSError):
            self._leave()
        _exit()


def _heard(number: int, frame: FrameType | None) -> None:
    """Take a signal without ending: the thread that watches does that."""


def _exit() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(STOPPED)
