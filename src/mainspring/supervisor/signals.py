"""Signals as something to wait for among other things."""

import os
import signal
from types import FrameType, TracebackType
from typing import Self

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Receives the signals to stop, and the ends of children, while its block lasts.

    To be entered in the main thread.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._reading, writing = os.pipe()
        for descriptor in (self._reading, writing):
            os.set_blocking(descriptor, False)
        self._writing = writing
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for one in (*STOP, signal.SIGCHLD):
            # Started by nohup, it is to outlive the terminal.
            if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN:
                self._before[one] = signal.signal(one, _noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(-1)
        os.close(self._reading)
        os.close(self._writing)

    def fileno(self) -> int:
        """Give the descriptor that becomes readable, to wait on."""
        return self._reading

    def stops(self) -> int:
        """Count the signals to stop since the last time."""
        try:
            return sum(number in STOP for number in os.read(self._reading, 4096))
        except BlockingIOError:
            return 0


def _noted(number: int, frame: FrameType | None) -> None:
    """Do nothing here: the byte in the pipe is what counts, and a handler is needed for it."""
