"""What the control process knows of itself and its siblings."""

import threading
from dataclasses import dataclass, field
from datetime import datetime

from mainspring.core.home import Home
from mainspring.formats.wire import Assignment, Process, StartRun, StopRun, Wire
from mainspring.formats.worker import alive, read_states

GRACE_S = 10.0
"""Seconds a run's process has to end by itself when its run was closed from outside."""


@dataclass(slots=True)
class Control:
    """One control process. Thread-safe.

    Attributes:
        wire: To the supervisor; none where the process has none, as in tests.
        started: When this process began to serve.
        url: Where clients reach it.
        processes: All processes under the supervisor, as last told.
        draining: It ends: streams stop, what comes is told to come again.
    """

    wire: Wire | None
    started: datetime
    url: str = ""
    inference_url: str = ""
    processes: tuple[Process, ...] = ()
    draining: threading.Event = field(default_factory=threading.Event)

    def start_run(self, assignment: Assignment) -> None:
        """Ask for a process that makes an attempt."""
        if self.wire is not None:
            self.wire.send(StartRun(assignment))

    def stop_run(self, run: str) -> None:
        """Ask that a run's process be ended."""
        if self.wire is not None:
            self.wire.send(StopRun(run, GRACE_S))


def all_serve(home: Home, number: int) -> bool:
    """Tell whether every inference worker that lives has routes of this number or a newer one."""
    return all(state.routes >= number for state in read_states(home) if alive(state))
