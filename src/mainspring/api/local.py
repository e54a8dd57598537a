"""Open a home in this process: take its lock, build the platform, call verbs in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mainspring.api import runs
from mainspring.api.caller import MemoryCaller
from mainspring.api.client import Client
from mainspring.api.reports import VerbReports
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.config import Config
from mainspring.core.errors import InvalidDeclaration, MainspringError
from mainspring.core.events import Applied
from mainspring.core.ids import Id
from mainspring.data.writing import RowWriter
from mainspring.loop.declaration import unpack
from mainspring.loop.rows import rows_digest, training_rows
from mainspring.pipelines.context import RunContext
from mainspring.pipelines.environment import Commit, as_json, capture
from mainspring.pipelines.log import RunLog
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.project import load
from mainspring.pipelines.run import RunReport, RunRow
from mainspring.pipelines.runner import Runner
from mainspring.pipelines.sources import Sources
from mainspring.platform import Platform, Project

OWNER = "in-process"
"""Owner of leases taken by work inside the process that owns the home."""

BEATS_PER_LEASE = 4


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
    platform.run_by(lambda project, run: execute_run(platform, caller, project, run))
    writer = RowWriter(platform.project(config.project).tables)
    return Client(caller, writer, config.project)


def execute_run(platform: Platform, caller: MemoryCaller, project: Project, run: Id) -> None:
    """Make one attempt at an open run, here and now; its end is reported whichever it is."""
    leased = caller(runs.LEASE, runs.Lease(project=project.name, run=run, owner=OWNER))
    reports = VerbReports(caller, project.name, run, leased.token)
    log = RunLog(platform.home.runs(project.name) / f"{run}.log", platform.clock)
    try:
        runner, pipeline = _prepare(platform, project, leased.run, reports, log)
    except MainspringError as error:
        log.line("", "run", f"failed: {error}")
        reports.finish(RunReport(outcome="failed", message=f"{error.code}: {error}"))
        return
    runner.execute(pipeline, leased.run.parameters, until=leased.run.until)


def _prepare(
    platform: Platform, project: Project, run: RunRow, reports: VerbReports, log: RunLog
) -> tuple[Runner, Pipeline[..., object]]:
    """Load the code that was applied, and set up what its steps may ask."""
    applied = project.applied()
    folder = platform.home.sources(project.name, applied.bundle)
    files = msgspec.json.decode(project.blobs.get(applied.bundle), type=dict[str, str])
    unpack(files, folder)
    loaded = load(folder / applied.source)
    found = {pipeline.name: pipeline for pipeline in loaded.of(Pipeline)}
    if run.pipeline not in found:
        raise InvalidDeclaration(
            f"pipeline {run.pipeline!r} is not in {applied.source} as it was applied; "
            f"there: {', '.join(sorted(found)) or 'none'}"
        )
    runner = Runner(
        reports=reports,
        context=_context(platform, project, run, applied, folder),
        sources=Sources(loaded.root),
        log=log,
        beat_s=project.lease_s / BEATS_PER_LEASE,
    )
    return runner, found[run.pipeline]


def _context(
    platform: Platform, project: Project, run: RunRow, applied: Applied, folder: Path
) -> RunContext:
    environment, _ = capture(folder)
    code = None if applied.code is None else msgspec.convert(applied.code, Commit)
    environment = msgspec.structs.replace(environment, code=code)
    return RunContext(
        project=project.name,
        run=run.run,
        name=run.endpoint or run.pipeline,
        blobs=project.blobs,
        clock=platform.clock,
        environment=as_json(environment),
        rows=lambda endpoint, until: training_rows(project.stages, endpoint, run, until),
        rows_digest=lambda endpoint: rows_digest(project.stages, endpoint, run),
    )
