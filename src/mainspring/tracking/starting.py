"""The beginning of runs: one, or many that share a write."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from sqlalchemy import Connection, insert

from mainspring.core.errors import AlreadyExists, InvalidInput, MainspringError
from mainspring.core.ids import Id, IdSource
from mainspring.store.bulk import BulkStatement
from mainspring.store.database import Database
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.inputs import Inputs
from mainspring.tracking.limits import checked_time, instant, millis
from mainspring.tracking.run import NAME_TAG, FoundRun
from mainspring.tracking.state import run_exists
from mainspring.tracking.tables import RUN_RECORD
from mainspring.tracking.texts import add_tags, check_tags


class Start(NamedTuple):
    """A run that its client will end, as it is asked for; it starts now unless told when.

    `run` is an id that the client drew; without one the server draws it.
    """

    experiment: str
    name: str
    person: str
    started_ms: int | None
    tags: Mapping[str, str]
    run: Id | None = None


class Starting:
    """Begins runs of one project. Thread-safe."""

    def __init__(
        self, project: str, database: Database, ids: IdSource, experiments: Experiments
    ) -> None:
        self._project = project
        self._database = database
        self._ids = ids
        self._experiments = experiments

    def begin_together(self, starts: Sequence[Start]) -> Future[list[FoundRun | MainspringError]]:
        """Have runs begun in one write; once the answer is there they are durable.

        Returns:
            For each the run, or what refused it: `NotFound` (no such experiment), `Refused` (it is
            deleted), `InvalidInput` (a time or tag beyond its limit). One that is refused leaves
            the others as they are.
        """

        def work(connection: Connection) -> list[FoundRun | MainspringError]:
            outcomes: list[FoundRun | MainspringError] = []
            for start in starts:
                try:
                    outcomes.append(self.start(connection, start))
                except MainspringError as error:
                    outcomes.append(error)
            return outcomes

        return self._database.submit(work)

    def insert(
        self,
        connection: Connection,
        run: Id,
        *,
        experiment: str,
        location: str,
        name: str,
        person: str,
        started_ms: int,
        managed: bool,
    ) -> None:
        """Write a new run's row, inside a write; `location` is its experiment's."""
        place = f"{location}/{run}/artifacts"
        row = (self._project, run, experiment, name, person, "running", place, managed, started_ms)
        _ADD.run(connection, [row])

    def start(self, connection: Connection, start: Start) -> FoundRun:
        """Begin a run inside a write; see `begin_together`.

        Raises:
            AlreadyExists: The id that the client drew is taken.
        """
        # All is checked before any of it is written, so a refused one needs no savepoint.
        at_ms = start.started_ms
        if at_ms is None:
            at_ms = millis(self._database.clock.now())
        checked_time(at_ms, what="start_time")
        tags = {**start.tags, NAME_TAG: start.name}
        check_tags(tags)
        location = self._experiments.location(connection, start.experiment, active=True)
        run = self._ids.new() if start.run is None else self._free(connection, start.run)
        self.insert(
            connection,
            run,
            experiment=start.experiment,
            location=location,
            name=start.name,
            person=start.person,
            started_ms=at_ms,
            managed=False,
        )
        add_tags(connection, self._project, run, tags)
        return FoundRun(
            run=run,
            experiment=start.experiment,
            name=start.name,
            person=start.person,
            status="running",
            location=f"{location}/{run}/artifacts",
            managed=False,
            started=instant(at_ms),
            ended=None,
            deleted=None,
            params={},
            metrics={},
            tags=dict(sorted(tags.items())),
            inputs=Inputs(),
        )

    def _free(self, connection: Connection, run: Id) -> Id:
        if not _DRAWN.fullmatch(run):
            raise InvalidInput(f"run {run[:60]!r}: expected an id of 32 hexadecimal digits")
        if run_exists(connection, self._project, run):
            raise AlreadyExists(f"run {run}: the id is taken; draw another")
        return run


_DRAWN = re.compile(r"[0-9a-f]{32}")
_ADD = BulkStatement(
    insert(RUN_RECORD),
    [
        *("project", "run", "experiment", "name", "person", "status", "location", "managed"),
        "started_ms",
    ],
)
