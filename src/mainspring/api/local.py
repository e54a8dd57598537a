"""Open a home in this process: take its lock, build the platform, call verbs in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mainspring.api.caller import MemoryCaller
from mainspring.api.client import Client
from mainspring.api.execution import Workplace, execute
from mainspring.api.reports import VerbReports
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.config import Config
from mainspring.core.ids import Id
from mainspring.data.writing import RowWriter
from mainspring.formats.wire import Assignment
from mainspring.pipelines.log import RunLog
from mainspring.platform import Platform


@contextmanager
def open_local(config: Config, home: Path, *, clock: Clock | None = None) -> Iterator[Client]:
    """Own a home for the length of a block.

    Raises:
        Unavailable: Another process owns it; the message names which.
    """
    with Platform.open(config, home, clock=clock or SystemClock()) as platform:
        yield local_client(platform, config)


def local_client(platform: Platform, config: Config) -> Client:
    """Give a client of an opened platform, with runs executed in this process."""
    actor = platform.access(config.project).identify(config.token or None, local=True)
    caller = MemoryCaller(platform, actor)
    platform.run_by(lambda assignment: execute_run(platform, caller, assignment))
    writer = RowWriter(platform.project(config.project).tables)
    return Client(caller, writer, config.project)


def execute_run(platform: Platform, caller: MemoryCaller, assignment: Assignment) -> None:
    """Do the work of a leased attempt here and now; its end is reported whichever it is."""
    project, run = platform.project(assignment.project), Id(assignment.run)
    place = Workplace(
        home=platform.home,
        clock=platform.clock,
        blobs=project.blobs,
        tables=project.tables,
        log=RunLog(platform.home.runs(project.name) / f"{run}.log", platform.clock),
    )
    execute(caller, VerbReports(caller, project.name, run, assignment.token), place, assignment)
