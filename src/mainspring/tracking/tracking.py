"""The verbs of tracking. Every write is idempotent, so a report sent twice changes nothing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from math import isnan
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from mainspring.core.clock import Clock, Instant
from mainspring.core.errors import AlreadyExists, MainspringError, NotFound
from mainspring.core.ids import Digest, Id, IdSource, checked_name, digest_of
from mainspring.store.database import Database
from mainspring.tracking.artifacts import Artifacts, artifacts_of
from mainspring.tracking.assessments import Assessments
from mainspring.tracking.entries import Entries, Entry
from mainspring.tracking.experiments import DEFAULT, Experiments
from mainspring.tracking.inputs import Links, add_datasets, link_models
from mainspring.tracking.limits import checked_key, checked_time, millis
from mainspring.tracking.metrics import add_points, history
from mainspring.tracking.models import LoggedModels, ModelMetric
from mainspring.tracking.questions import Questions
from mainspring.tracking.reading import Reading, row_of
from mainspring.tracking.run import (
    NAME_TAG,
    ArtifactFile,
    Batch,
    Change,
    FoundRun,
    MetricSummary,
    Point,
    RunRow,
    Status,
    TrackedRun,
)
from mainspring.tracking.scorers import Scorers
from mainspring.tracking.spools import Spools
from mainspring.tracking.starting import Start, Starting
from mainspring.tracking.state import check_state, untracked
from mainspring.tracking.tables import RUN_RECORD
from mainspring.tracking.texts import delete_tag, set_tags
from mainspring.tracking.traces import Traces
from mainspring.tracking.waiting import WaitingPoints


class Tracking:
    """Tracked runs of one project; experiments, artifacts and logged models beside them."""

    def __init__(
        self, project: str, *, database: Database, clock: Clock, ids: IdSource | None = None
    ) -> None:
        self._project = project
        self._database = database
        self._clock = clock
        self.experiments = Experiments(project, database, clock)
        self.artifacts = Artifacts(project, database)
        self.models = LoggedModels(project, database, clock, self.experiments)
        self.traces = Traces(project, database, self.experiments)
        ids = ids or IdSource(clock)
        self.assessments = Assessments(project, database, clock, ids)
        self.questions = Questions(project, database, clock, ids, self.experiments)
        self.scorers = Scorers(project, database, clock, ids, self.experiments)
        self._waiting = WaitingPoints(project, database)
        self._entries = Entries(project, database, self._waiting)
        self._starting = Starting(project, database, ids, self.experiments)
        self.spools = Spools(
            project,
            database,
            {
                Entry: self._entries.log_apart,
                Start: self._starting.start,
                Change: self._change,
                Links: self._link,
            },
        )
        self.reading = Reading(project, database, self.models, self._waiting)

    # --- runs

    def create_run(self, run: Id, *, name: str, experiment: str = DEFAULT) -> None:
        """Begin a run of a pipeline; see `create`."""
        now = self._clock.now()
        self._database.write(
            lambda connection: self.create(
                connection, run, name=name, experiment=experiment, at=now
            )
        )

    def create(
        self,
        connection: Connection,
        run: Id,
        *,
        name: str,
        at: Instant,
        experiment: str = DEFAULT,
    ) -> None:
        """Begin a run under an id the caller made, inside a caller's write.

        The run is managed: its pipeline alone ends it. Again with the same names changes nothing.

        Raises:
            AlreadyExists: The id is taken by a run of another name or experiment.
        """
        checked_name(run, what="run")
        checked_key(name, what="run name")
        row = self._row(connection, run)
        if row is None:
            self._starting.insert(
                connection,
                run,
                experiment=experiment,
                location=self.experiments.location(connection, experiment, active=False),
                name=name,
                person="",
                started_ms=millis(at),
                managed=True,
            )
        elif (row.name, row.experiment) != (name, experiment):
            raise AlreadyExists(
                f"run {run}: found it as {row.name!r} in experiment {row.experiment!r}, expected "
                f"{name!r} in {experiment!r}; make a new id"
            )

    def start_together(self, starts: Sequence[Start]) -> Future[list[FoundRun | MainspringError]]:
        """Begin runs that their clients end, in one write; see `Starting.begin_together`."""
        return self._starting.begin_together(starts)

    def change(self, changed: Change) -> RunRow:
        """Change what is given of a run; a managed run keeps its status and end.

        Raises:
            Refused: The run is deleted.
        """
        return self._database.write(lambda connection: self._change(connection, changed))

    def end_run(self, run: Id, status: Status) -> None:
        """End a run; see `end`."""
        now = self._clock.now()
        self._database.write(lambda connection: self.end(connection, run, status=status, at=now))

    def end(self, connection: Connection, run: Id, *, status: str, at: Instant) -> None:
        """Set a run's end inside a caller's write; ending it again the same way keeps the time."""
        row = self._existing(connection, run)
        if row.status != status:
            ended_ms = None if status == "running" else millis(at)
            changed = update(RUN_RECORD).where(self._is(run))
            connection.execute(changed.values(status=status, ended_ms=ended_ms))

    def delete(self, run: Id) -> None:
        """Hide a run; nothing of it is lost, `restore` brings it back."""
        self._set_deleted(run, millis(self._clock.now()))

    def restore(self, run: Id) -> None:
        """Bring a deleted run back."""
        self._set_deleted(run, None)

    # --- logging

    def log(self, run: Id, batch: Batch, *, models: Sequence[ModelMetric] = ()) -> None:
        """Log a batch, all of it or nothing, and return when it is durable; see `begin_log`."""
        self.begin_log(Entry(run, batch, tuple(models))).result()

    def begin_log(self, entry: Entry) -> Future[None]:
        """Have an entry logged; see `Entries.begin`."""
        return self._entries.begin(entry)

    def log_together(self, entries: Sequence[Entry]) -> Future[list[Exception | None]]:
        """Have entries logged in one write; see `Entries.begin_together`."""
        return self._entries.begin_together(entries)

    def record(
        self,
        connection: Connection,
        run: Id,
        *,
        params: Mapping[str, str],
        metrics: Sequence[tuple[str, float, int, datetime]],
        tags: Mapping[str, str],
        artifacts: Sequence[tuple[str, Digest, int]],
    ) -> None:
        """Log inside a caller's write; see `log`. Metrics are (key, value, step, at)."""
        self.writable(connection, run)
        points = (Point(key, value, step, millis(at)) for key, value, step, at in metrics)
        files = tuple(ArtifactFile(*file) for file in artifacts)
        batch = Batch(params=dict(params), metrics=tuple(points), tags=dict(tags), artifacts=files)
        add_points(connection, self._project, run, batch.metrics)
        self._entries.write(connection, run, batch)

    def log_artifact(self, run: Id, path: str, *, digest: Digest, size_bytes: int) -> None:
        """Note that a path of the run leads to a blob; a path logged again leads to the new one."""
        self.log(run, Batch(artifacts=(ArtifactFile(path, digest, size_bytes),)))

    def delete_tag(self, run: Id, key: str) -> None:
        """Remove a tag; NotFound when it is not there."""

        def work(connection: Connection) -> None:
            self.writable(connection, run)
            if not delete_tag(connection, self._project, run, key):
                raise NotFound(f"No tag with name: {key[:250]} in run with id {run}")

        self._database.write(work)

    def link(self, links: Links) -> None:
        """Note what a run read and made."""
        self._database.write(lambda connection: self._link(connection, links))

    # --- reading

    def get(self, run: Id) -> TrackedRun:
        """Give a run with its parameters, last metrics, tags and artifacts, deleted or not."""
        with self._waiting.read(run) as connection:
            found = self.reading.full(connection, [self._existing(connection, run)])[0]
            files = artifacts_of(connection, self._project, run)
            parts = {name: getattr(found, name) for name in found.__struct_fields__}
            return TrackedRun(**parts, artifacts=files)

    def found(self, run: Id) -> FoundRun:
        """Give a run without its files, deleted or not."""
        with self._waiting.read(run) as connection:
            return self.reading.full(connection, [self._existing(connection, run)])[0]

    def list(
        self, *, experiment: str | None = None, deleted: bool = False, limit: int = 1000
    ) -> list[RunRow]:
        """List runs, newest first."""
        query = select(RUN_RECORD).where(RUN_RECORD.c.project == self._project)
        if experiment is not None:
            query = query.where(RUN_RECORD.c.experiment == experiment)
        if not deleted:
            query = query.where(RUN_RECORD.c.deleted_ms.is_(None))
        query = query.order_by(RUN_RECORD.c.started_ms.desc(), RUN_RECORD.c.run.desc()).limit(limit)
        with self._database.read() as connection:
            return [row_of(row) for row in connection.execute(query)]

    def history(self, run: Id, key: str) -> tuple[Point, ...]:
        """Give a metric's points by step and time, however they arrived."""
        with self._waiting.read(run) as connection:
            self._existing(connection, run)
            return tuple(history(connection, self._project, run, key))

    def summary(self, run: Id, key: str) -> MetricSummary:
        """Give last, smallest and largest point of a metric, each with its step."""
        points = self.history(run, key)
        if not points:
            raise NotFound(f"run {run}: metric {key!r} has no points; check the name")
        numbers = [point for point in points if not isnan(point.value)]
        return MetricSummary(
            last=points[-1],
            min=min(numbers, key=lambda p: p.value, default=None),
            max=max(numbers, key=lambda p: p.value, default=None),
            points=len(points),
        )

    def digest(self, run: Id) -> Digest:
        """Digest what a fact about the run rests on: parameters, last metrics, tags, artifacts.

        Wall times are left out, so that the same run made again has the same digest.
        """
        tracked = self.get(run)
        metrics = {key: [p.value.hex(), p.step] for key, p in tracked.metrics.items()}
        artifacts = {path: file.digest for path, file in tracked.artifacts.items()}
        tags = {key: value for key, value in tracked.tags.items() if key != NAME_TAG}
        return digest_of([tracked.params, metrics, tags, artifacts])

    # --- rows

    def writable(self, connection: Connection, run: Id, *, sealed: bool = True) -> Row[Any]:
        """Give the row of a run that may be logged to, inside a write.

        Args:
            sealed: Refuse a pipeline's closed run: the fact of its end rests on its records.
        """
        row = self._existing(connection, run)
        check_state(run, row, sealed=sealed)
        return row

    def _change(self, connection: Connection, changed: Change) -> RunRow:
        run, status, ended_ms = changed.run, changed.status, changed.ended_ms
        if ended_ms is not None:
            checked_time(ended_ms, what="end_time")
        row = self.writable(connection, run, sealed=False)
        values: dict[str, Any] = {}
        if status is not None and not row.managed:
            values |= {"status": status, "ended_ms": ended_ms}
        elif ended_ms is not None and not row.managed:
            values["ended_ms"] = ended_ms
        if changed.name:
            set_tags(connection, self._project, run, {NAME_TAG: changed.name})
            values["name"] = changed.name
        if values:
            connection.execute(update(RUN_RECORD).where(self._is(run)).values(**values))
        return row_of(self._existing(connection, run))

    def _link(self, connection: Connection, links: Links) -> None:
        row = self.writable(connection, links.run)
        with connection.begin_nested():
            add_datasets(connection, self._project, links.run, row.experiment, links.datasets)
            link_models(connection, self._project, links.run, "read", links.read)
            link_models(connection, self._project, links.run, "made", links.made)

    def _is(self, run: Id) -> Any:
        return (RUN_RECORD.c.project == self._project) & (RUN_RECORD.c.run == run)

    def _row(self, connection: Connection, run: Id) -> Row[Any] | None:
        return connection.execute(_RUN, {"of_project": self._project, "of_run": run}).first()

    def _existing(self, connection: Connection, run: Id) -> Row[Any]:
        row = self._row(connection, run)
        if row is None:
            raise untracked(self._project, run)
        return row

    def _set_deleted(self, run: Id, deleted_ms: int | None) -> None:
        def work(connection: Connection) -> None:
            row = self._existing(connection, run)
            if (row.deleted_ms is None) != (deleted_ms is None):
                changed = update(RUN_RECORD).where(self._is(run))
                connection.execute(changed.values(deleted_ms=deleted_ms))

        self._database.write(work)


# Built once: making a statement costs more than running it.
_RUN = select(RUN_RECORD).where(
    RUN_RECORD.c.project == bindparam("of_project"), RUN_RECORD.c.run == bindparam("of_run")
)
