"""Do the work of one leased attempt: in the owner's process or in one of its own, the same way."""

from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import msgspec

from mainspring.api import attempts
from mainspring.api.attempts import RunSources
from mainspring.api.reports import Caller
from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidDeclaration, MainspringError, NotFound, Refused
from mainspring.core.home import Home
from mainspring.core.ids import Digest, Id
from mainspring.data.pinned import read_pinned
from mainspring.formats.wire import Assignment
from mainspring.loop.declaration import unpack
from mainspring.loop.sources import training_rows
from mainspring.pipelines.context import RunContext
from mainspring.pipelines.environment import Commit, as_json, capture
from mainspring.pipelines.log import RunLog
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.project import load
from mainspring.pipelines.run import RunReport, RunReports
from mainspring.pipelines.runner import PASSING, Runner
from mainspring.pipelines.sources import Sources
from mainspring.store.blobs import Blobs
from mainspring.store.tables import DeltaTables

BEATS_PER_LEASE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What an attempt works with: the home's files, and none of its database."""

    home: Home
    clock: Clock
    blobs: Blobs
    tables: DeltaTables
    log: RunLog


def execute(call: Caller, reports: RunReports, place: Workplace, assignment: Assignment) -> None:
    """Work on a run until its end is reported, whichever it is.

    Raises:
        StaleToken: The attempt is over; a successor does the work.
        StorageFull, Unavailable: The machine is at fault: the run stays open for the next attempt.
    """
    try:
        asked = attempts.Named(project=assignment.project, run=Id(assignment.run))
        given = call(attempts.SOURCES, asked)
        _check_version(given.mainspring)
        runner, pipeline = _prepare(reports, place, assignment, given)
    except PASSING:
        raise
    except MainspringError as error:
        place.log.line("", "run", f"failed: {error}")
        reports.finish(RunReport(outcome="failed", message=f"{error.code}: {error}"))
        return
    runner.execute(pipeline, given.run.parameters, until=given.run.until)


def _check_version(wanted: str) -> None:
    found = version("mainspring")
    if found != wanted:
        raise Refused(
            f"the run's interpreter has mainspring {found}, the platform is {wanted}; install "
            f"mainspring=={wanted} where runs execute"
        )


def _version_of(given: RunSources, reference: str) -> tuple[str, Digest]:
    pinned = given.aliases.get(reference, reference)
    if pinned not in given.models:
        raise NotFound(
            f"{reference!r}: no such model version, expected models:/name/version or "
            "models:/name@alias; see the versions there are"
        )
    return pinned, given.models[pinned]


def _prepare(
    reports: RunReports, place: Workplace, assignment: Assignment, given: RunSources
) -> tuple[Runner, Pipeline[..., object]]:
    """Load the code that was applied, and set up what its steps may ask."""
    folder = place.home.sources(assignment.project, given.bundle)
    files = msgspec.json.decode(place.blobs.get(given.bundle), type=dict[str, str])
    unpack(files, folder)
    loaded = load(folder / given.source)
    found = {pipeline.name: pipeline for pipeline in loaded.of(Pipeline)}
    if given.run.pipeline not in found:
        raise InvalidDeclaration(
            f"pipeline {given.run.pipeline!r} is not in {given.source} as it was applied; "
            f"there: {', '.join(sorted(found)) or 'none'}"
        )
    environment, _ = capture(folder)
    code = None if given.code is None else msgspec.convert(given.code, Commit)
    environment = msgspec.structs.replace(environment, code=code)
    run, read = given.run, partial(read_pinned, place.tables)
    context = RunContext(
        project=assignment.project,
        run=run.run,
        name=run.endpoint or run.pipeline,
        blobs=place.blobs,
        clock=place.clock,
        environment=as_json(environment),
        rows=lambda endpoint, until: training_rows(
            given.rows, read, endpoint, as_of=run.as_of, until=until
        ),
        rows_digest=lambda endpoint: given.rows.digest(endpoint, run.as_of),
        models=partial(_version_of, given),
    )
    runner = Runner(
        reports=reports,
        context=context,
        sources=Sources(loaded.root),
        log=place.log,
        beat_s=given.lease_s / BEATS_PER_LEASE,
    )
    return runner, found[run.pipeline]
