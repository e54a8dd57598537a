"""The life of a run process: told what to do, it does it, reports by HTTP, and ends."""

import os
import sys
from pathlib import Path

from mainspring.api.execution import Workplace, execute
from mainspring.api.http import HttpCaller
from mainspring.api.reports import VerbReports
from mainspring.attempt.ending import STOPPED, Ending
from mainspring.attempt.libraries import load, loaded
from mainspring.core.clock import SystemClock
from mainspring.core.errors import StaleToken
from mainspring.core.home import Home
from mainspring.core.ids import DEFAULT_PROJECT, Id
from mainspring.formats.wire import Assignment, Ready, Welcome, Wire
from mainspring.pipelines.log import RunLog
from mainspring.pipelines.runner import PASSING
from mainspring.store.blobs import FolderBlobs
from mainspring.store.tables import DeltaTables

PATIENCE_S = 300.0
"""How long the control process may be away before an attempt is given up."""


class ProcessReports(VerbReports):
    """Reports of a process that has nothing else to do: it ends when its attempt is over."""

    def __init__(self, caller: HttpCaller, assignment: Assignment, ending: Ending) -> None:
        super().__init__(caller, assignment.project, Id(assignment.run), assignment.token)
        self._ending = ending

    def renew(self) -> None:
        """Give a sign of life; an orphan stops in the middle of its step."""
        try:
            super().renew()
        except StaleToken as error:
            self._ending.now(f"this attempt stops: {error}")


def run_process(wire: Wire) -> int:
    """Work on the attempt that the supervisor assigns; gives the exit code.

    0 when the run's end was reported, whichever it is; 75 when the attempt ended without one.
    """
    welcome = wire.receive()
    if isinstance(welcome, Welcome) and welcome.assignment is None:
        load(welcome.modules)
        wire.send(Ready())
        welcome = wire.receive()
    if not isinstance(welcome, Welcome) or welcome.assignment is None:
        return STOPPED
    assignment, home, clock = welcome.assignment, Home(Path(welcome.home)), SystemClock()
    bearer = f"run.{assignment.run}.{assignment.token}"
    _tell_mlflow(welcome.url, bearer, assignment)
    log = RunLog(home.runs(assignment.project) / f"{assignment.run}.log", clock)
    ending = Ending(wire, log, lambda: _leave(welcome.url, bearer, assignment))
    ending.watch()
    wire.send(Ready())
    log.line("", "run", f"attempt {assignment.attempt} begins")
    caller = HttpCaller(welcome.url, bearer, patience_s=PATIENCE_S)
    place = Workplace(
        home=home,
        clock=clock,
        blobs=FolderBlobs(home.blobs(assignment.project)),
        tables=DeltaTables(home.tables(assignment.project)),
        log=log,
    )
    try:
        execute(caller, ProcessReports(caller, assignment, ending), place, assignment)
    except PASSING as error:
        sys.stderr.write(f"run {assignment.run}: {type(error).__name__}: {error}\n")
        return STOPPED
    wire.send(loaded(home.root))
    return 0


def _leave(url: str, bearer: str, assignment: Assignment) -> None:
    with HttpCaller(url, bearer, patience_s=0.0, timeout_s=1.5) as caller:
        VerbReports(caller, assignment.project, Id(assignment.run), assignment.token).leave()


def _tell_mlflow(url: str, bearer: str, assignment: Assignment) -> None:
    """Let an unmodified `mlflow` in the project's code log into this very run."""
    face = url if assignment.project == DEFAULT_PROJECT else f"{url}/p/{assignment.project}"
    os.environ["MLFLOW_TRACKING_URI"] = face
    os.environ["MLFLOW_TRACKING_TOKEN"] = bearer
    os.environ["MLFLOW_RUN_ID"] = assignment.run
