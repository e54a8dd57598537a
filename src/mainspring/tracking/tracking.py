"""The verbs of tracking. Every write is idempotent, so a report sent twice changes nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isnan
from typing import Any

from sqlalchemy import Connection, Row, Table, insert, select, update

from mainspring.core.clock import Clock, Instant
from mainspring.core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from mainspring.core.ids import Digest, Id, checked_name, digest_of
from mainspring.store.database import Database
from mainspring.tracking.run import (
    METRICS_PER_BATCH,
    PARAM_LENGTH,
    TAG_LENGTH,
    ArtifactFile,
    Batch,
    MetricSummary,
    Point,
    RunRow,
    Status,
    TrackedRun,
    checked_key,
    checked_path,
    checked_text,
    instant,
    micros,
)
from mainspring.tracking.tables import ARTIFACT, METRIC, PARAM, RUN_RECORD, TAG

DEFAULT_EXPERIMENT = "default"


class Tracking:
    """Tracked runs of one project."""

    def __init__(self, project: str, *, database: Database, clock: Clock) -> None:
        self._project = project
        self._database = database
        self._clock = clock

    # --- runs

    def create_run(self, run: Id, *, name: str, experiment: str = DEFAULT_EXPERIMENT) -> None:
        """Begin a run under an id the caller made; again with the same names changes nothing."""
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
        experiment: str = DEFAULT_EXPERIMENT,
    ) -> None:
        """Begin a run inside a caller's write.

        Raises:
            AlreadyExists: The id is taken by a run of another name or experiment.
        """
        checked_name(run, what="run")
        checked_key(name, what="run name")
        checked_name(experiment, what="experiment")
        row = self._row(connection, run)
        if row is None:
            connection.execute(
                insert(RUN_RECORD).values(
                    project=self._project,
                    run=run,
                    name=name,
                    experiment=experiment,
                    status="running",
                    started_us=micros(at),
                )
            )
        elif (row.name, row.experiment) != (name, experiment):
            raise AlreadyExists(
                f"run {run}: found it as {row.name!r} in experiment {row.experiment!r}, expected "
                f"{name!r} in {experiment!r}; make a new id"
            )

    def end_run(self, run: Id, status: Status) -> None:
        """End a run; see `end`."""
        now = self._clock.now()
        self._database.write(lambda connection: self.end(connection, run, status=status, at=now))

    def end(self, connection: Connection, run: Id, *, status: str, at: Instant) -> None:
        """Set a run's end inside a caller's write; ending it again the same way keeps the time."""
        row = self._existing(connection, run)
        if row.status != status:
            connection.execute(
                update(RUN_RECORD)
                .where(self._is(RUN_RECORD, run))
                .values(status=status, ended_us=None if status == "running" else micros(at))
            )

    def delete(self, run: Id) -> None:
        """Hide a run; nothing of it is lost, `restore` brings it back."""
        now_us = micros(self._clock.now())
        self._set_deleted(run, now_us)

    def restore(self, run: Id) -> None:
        """Bring a deleted run back."""
        self._set_deleted(run, None)

    # --- logging

    def log(self, run: Id, batch: Batch) -> None:
        """Log a batch, all of it or nothing.

        Raises:
            Refused: A parameter already has another value, or the run is deleted.
            InvalidInput: A key, value or path is over its limit, or there are over 1,000 metrics.
        """
        if len(batch.metrics) > METRICS_PER_BATCH:
            raise InvalidInput(
                f"run {run}: found {len(batch.metrics)} metrics in one batch, expected "
                f"{METRICS_PER_BATCH} at most; send several batches"
            )
        self._database.write(
            lambda connection: self.record(
                connection,
                run,
                params=batch.params,
                metrics=[(p.key, p.value, p.step, p.at) for p in batch.metrics],
                tags=batch.tags,
                artifacts=[(a.path, a.digest, a.size_bytes) for a in batch.artifacts],
            )
        )

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
        if self._existing(connection, run).deleted_us is not None:
            raise Refused(f"run {run} is deleted; restore it before logging to it")
        for key, value in params.items():
            self._set_param(connection, run, key, value)
        self._add_metrics(connection, run, metrics)
        for key, value in tags.items():
            checked_key(key, what="tag")
            checked_text(key, value, what="tag", limit=TAG_LENGTH)
            self._put(connection, TAG, run, {"key": key}, {"value": value})
        for path, digest, size_bytes in artifacts:
            checked_path(path)
            values = {"digest": digest, "size_bytes": size_bytes}
            self._put(connection, ARTIFACT, run, {"path": path}, values)

    def log_artifact(self, run: Id, path: str, *, digest: Digest, size_bytes: int) -> None:
        """Note that a path of the run leads to a blob; a path logged again leads to the new one."""
        self.log(run, Batch(artifacts=(ArtifactFile(path, digest, size_bytes),)))

    # --- reading

    def get(self, run: Id) -> TrackedRun:
        """Give a run with its parameters, last metrics, tags and artifacts, deleted or not."""
        with self._database.read() as connection:
            row = self._existing(connection, run)
            return TrackedRun(
                run=run,
                experiment=row.experiment,
                name=row.name,
                status=row.status,
                started=instant(row.started_us),
                ended=_maybe_instant(row.ended_us),
                deleted=_maybe_instant(row.deleted_us),
                params=self._texts(connection, PARAM, run),
                metrics=self._last(connection, run),
                tags=self._texts(connection, TAG, run),
                artifacts={
                    r.path: ArtifactFile(r.path, Digest(r.digest), r.size_bytes)
                    for r in connection.execute(
                        select(ARTIFACT).where(self._is(ARTIFACT, run)).order_by(ARTIFACT.c.path)
                    )
                },
            )

    def list(
        self, *, experiment: str | None = None, deleted: bool = False, limit: int = 1000
    ) -> list[RunRow]:
        """List runs, newest first."""
        query = select(RUN_RECORD).where(RUN_RECORD.c.project == self._project)
        if experiment is not None:
            query = query.where(RUN_RECORD.c.experiment == experiment)
        if not deleted:
            query = query.where(RUN_RECORD.c.deleted_us.is_(None))
        query = query.order_by(RUN_RECORD.c.started_us.desc(), RUN_RECORD.c.run.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                RunRow(
                    run=Id(row.run),
                    experiment=row.experiment,
                    name=row.name,
                    status=row.status,
                    started=instant(row.started_us),
                    ended=_maybe_instant(row.ended_us),
                    deleted=_maybe_instant(row.deleted_us),
                )
                for row in connection.execute(query)
            ]

    def history(self, run: Id, key: str) -> tuple[Point, ...]:
        """Give a metric's points by step and time, however they arrived."""
        with self._database.read() as connection:
            self._existing(connection, run)
            return tuple(_point(row) for row in connection.execute(self._points(run, key)))

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
        return digest_of([tracked.params, metrics, tracked.tags, artifacts])

    # --- rows

    def _is(self, table: Table, run: Id) -> Any:
        return (table.c.project == self._project) & (table.c.run == run)

    def _row(self, connection: Connection, run: Id) -> Row[Any] | None:
        return connection.execute(select(RUN_RECORD).where(self._is(RUN_RECORD, run))).first()

    def _existing(self, connection: Connection, run: Id) -> Row[Any]:
        row = self._row(connection, run)
        if row is None:
            raise NotFound(
                f"run {run[:60]!r} of project {self._project!r} is not tracked; check it"
            )
        return row

    def _set_deleted(self, run: Id, deleted_us: int | None) -> None:
        def work(connection: Connection) -> None:
            row = self._existing(connection, run)
            if (row.deleted_us is None) != (deleted_us is None):
                connection.execute(
                    update(RUN_RECORD)
                    .where(self._is(RUN_RECORD, run))
                    .values(deleted_us=deleted_us)
                )

        self._database.write(work)

    def _set_param(self, connection: Connection, run: Id, key: str, value: str) -> None:
        checked_key(key, what="parameter")
        checked_text(key, value, what="parameter", limit=PARAM_LENGTH)
        found = connection.execute(
            select(PARAM.c.value).where(self._is(PARAM, run), PARAM.c.key == key)
        ).scalar()
        if found is None:
            connection.execute(
                insert(PARAM).values(project=self._project, run=run, key=key, value=value)
            )
        elif found != value:
            raise Refused(
                f"run {run}: parameter {key!r} is {found[:60]!r} already, found {value[:60]!r}; "
                "parameters are written once: use another key or a tag"
            )

    def _put(
        self,
        connection: Connection,
        table: Table,
        run: Id,
        key: Mapping[str, str],
        values: Mapping[str, Any],
    ) -> None:
        condition = self._is(table, run)
        for name, part in key.items():
            condition &= table.c[name] == part
        changed = connection.execute(update(table).where(condition).values(**values))
        if changed.rowcount == 0:
            row = {"project": self._project, "run": run, **key, **values}
            connection.execute(insert(table).values(row))

    def _add_metrics(
        self,
        connection: Connection,
        run: Id,
        metrics: Sequence[tuple[str, float, int, datetime]],
    ) -> None:
        wanted = {
            (checked_key(key, what="metric"), step, micros(at), value.hex()): value
            for key, value, step, at in metrics
        }
        for key in sorted({key for key, *_ in wanted}):
            steps = [step for of, step, *_ in wanted if of == key]
            known = self._points(run, key).where(METRIC.c.step.between(min(steps), max(steps)))
            for row in connection.execute(known):
                wanted.pop((key, row.step, row.at_us, _value(row).hex()), None)
        rows = [
            {
                "project": self._project,
                "run": run,
                "key": key,
                "step": step,
                "at_us": at_us,
                "value": 0.0 if isnan(value) else value,
                "is_nan": isnan(value),
            }
            for (key, step, at_us, _), value in wanted.items()
        ]
        if rows:
            connection.execute(insert(METRIC), rows)

    def _points(self, run: Id, key: str) -> Any:
        order = (METRIC.c.step, METRIC.c.at_us, METRIC.c.number)
        return select(METRIC).where(self._is(METRIC, run), METRIC.c.key == key).order_by(*order)

    def _last(self, connection: Connection, run: Id) -> dict[str, Point]:
        keys = connection.execute(
            select(METRIC.c.key).where(self._is(METRIC, run)).distinct().order_by(METRIC.c.key)
        ).scalars()
        order = (METRIC.c.step.desc(), METRIC.c.at_us.desc(), METRIC.c.number.desc())
        last = {}
        for key in list(keys):
            newest = self._points(run, key).order_by(None).order_by(*order).limit(1)
            last[key] = _point(connection.execute(newest).one())
        return last

    def _texts(self, connection: Connection, table: Table, run: Id) -> dict[str, str]:
        query = select(table.c.key, table.c.value).where(self._is(table, run)).order_by(table.c.key)
        return {row.key: row.value for row in connection.execute(query)}


def _value(row: Row[Any]) -> float:
    return float("nan") if row.is_nan else float(row.value)


def _point(row: Row[Any]) -> Point:
    return Point(row.key, _value(row), row.step, instant(row.at_us))


def _maybe_instant(at_us: int | None) -> Instant | None:
    return None if at_us is None else instant(at_us)
