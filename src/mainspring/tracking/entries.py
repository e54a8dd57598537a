"""Logging to runs: one entry, or many that share a write. The hot path."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from sqlalchemy import Connection, update

from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.core.ids import Id
from mainspring.store.database import Database
from mainspring.tracking.artifacts import put_artifacts
from mainspring.tracking.limits import METRICS_PER_BATCH
from mainspring.tracking.models import ModelMetric, add_model_metrics
from mainspring.tracking.run import NAME_TAG, Batch
from mainspring.tracking.state import check_writable
from mainspring.tracking.tables import RUN_RECORD
from mainspring.tracking.texts import set_params, set_tags
from mainspring.tracking.waiting import WaitingPoints


class Entry(NamedTuple):
    """What one call logs to a run; `models` are metrics noted of logged models as well."""

    run: Id
    batch: Batch
    models: tuple[ModelMetric, ...] = ()


class Entries:
    """Writes entries of one project. Thread-safe."""

    def __init__(self, project: str, database: Database, waiting: WaitingPoints) -> None:
        self._project = project
        self._database = database
        self._waiting = waiting

    def begin(self, entry: Entry) -> Future[None]:
        """Have an entry logged, all of it or nothing; once the answer is there it is durable.

        Raises:
            Refused: A parameter already has another value, the run is deleted, or it is a
                pipeline's and closed.
            InvalidInput: A key, value or path is over its limit, or there are over 1,000 metrics.
        """
        _check_size(entry)
        return self._database.submit(lambda connection: self._log(connection, entry))

    def begin_together(self, entries: Sequence[Entry]) -> Future[list[Exception | None]]:
        """Have entries logged in their order, in one write.

        Returns:
            For each what refused it, or None. An entry that is refused leaves the others as they
            are; an error that is no refusal is the answer for all, and nothing was logged.
        """

        def work(connection: Connection) -> list[Exception | None]:
            outcomes: list[Exception | None] = []
            for entry in entries:
                try:
                    self.log_apart(connection, entry)
                except MainspringError as error:
                    outcomes.append(error)
                else:
                    outcomes.append(None)
            return outcomes

        return self._database.submit(work)

    def write(self, connection: Connection, run: Id, batch: Batch) -> None:
        """Write all of a batch but its metrics, inside a write, for a run that takes it."""
        if batch.params:
            set_params(connection, self._project, run, batch.params)
        if batch.tags:
            set_tags(connection, self._project, run, batch.tags)
            if NAME_TAG in batch.tags:
                renamed = update(RUN_RECORD).where(
                    RUN_RECORD.c.project == self._project, RUN_RECORD.c.run == run
                )
                connection.execute(renamed.values(name=batch.tags[NAME_TAG]))
        if batch.artifacts:
            put_artifacts(connection, self._project, run, batch.artifacts)

    def log_apart(self, connection: Connection, entry: Entry) -> None:
        """Log an entry among others inside a write, so that a refused one has written nothing."""
        _check_size(entry)
        batch = entry.batch
        kinds = sum(map(bool, (batch.params, batch.metrics, batch.tags, batch.artifacts)))
        if kinds == 1 and not entry.models:
            # Of one kind all is checked before any of it is written.
            self._log(connection, entry)
            return
        with connection.begin_nested():
            self._log(connection, entry)

    def _log(self, connection: Connection, entry: Entry) -> None:
        check_writable(connection, self._project, entry.run)
        self._waiting.add(connection, entry.run, entry.batch.metrics)
        self.write(connection, entry.run, entry.batch)
        if entry.models:
            add_model_metrics(connection, self._project, entry.run, entry.models)


def _check_size(entry: Entry) -> None:
    if len(entry.batch.metrics) > METRICS_PER_BATCH:
        raise InvalidInput(
            f"run {entry.run}: found {len(entry.batch.metrics)} metrics in one batch, expected "
            f"{METRICS_PER_BATCH} at most; send several batches"
        )
