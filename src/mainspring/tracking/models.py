"""Logged models: what `log_model` makes before it uploads a single file."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isnan
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Row, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.store.database import Database
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import instant, millis
from mainspring.tracking.metrics import value_of
from mainspring.tracking.run import Point
from mainspring.tracking.tables import LOGGED_MODEL, MODEL_METRIC, PARAM, TAG
from mainspring.tracking.texts import delete_tag, parts, set_params, set_tags, texts_of

ModelStatus = Literal["pending", "ready", "failed"]

_REFUSED_SIGNS = "/:.%\"'"


class ModelPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a logged model: noted by a run, perhaps on a dataset."""

    point: Point
    run: str
    dataset_name: str | None
    dataset_digest: str | None


class TrackedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A logged model with its tags, parameters and metrics."""

    model: str
    experiment: str
    name: str
    location: str
    status: ModelStatus
    kind: str | None
    run: str | None
    created: datetime
    updated: datetime
    deleted: datetime | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: tuple[ModelPoint, ...]


@dataclass(frozen=True, slots=True)
class LoggedModels:
    """The verbs of logged models in one project."""

    project: str
    database: Database
    clock: Clock
    experiments: Experiments

    def create(
        self,
        model: str,
        *,
        experiment: str,
        name: str,
        kind: str | None = None,
        run: str | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> TrackedModel:
        """Begin a model under an id the caller made; its files come next."""
        if not name or any(sign in name for sign in _REFUSED_SIGNS):
            raise InvalidInput(
                f"Invalid model name ({name[:200]!r}) provided. Model name must be a non-empty "
                f"string and cannot contain the following characters: {tuple(_REFUSED_SIGNS)}"
            )
        now_ms = millis(self.clock.now())

        def work(connection: Connection) -> None:
            row = self.experiments.existing(connection, experiment, active=True)
            connection.execute(
                insert(LOGGED_MODEL).values(
                    project=self.project,
                    model=model,
                    experiment=experiment,
                    name=name,
                    location=f"{row.location}/models/{model}/artifacts",
                    status="pending",
                    kind=kind,
                    run=run,
                    created_ms=now_ms,
                    updated_ms=now_ms,
                )
            )
            set_params(connection, self.project, model, params or {})
            set_tags(connection, self.project, model, tags or {})

        self.database.write(work)
        return self.get(model)

    def finalize(self, model: str, status: ModelStatus) -> TrackedModel:
        """Say that a model's files are there, or will not come."""
        self._change(model, status=status)
        return self.get(model)

    def delete(self, model: str) -> None:
        """Hide a model."""
        self._change(model, deleted_ms=millis(self.clock.now()))

    def add_params(self, model: str, params: Mapping[str, str]) -> None:
        """Write parameters once."""

        def work(connection: Connection) -> None:
            self.existing(connection, model)
            set_params(connection, self.project, model, params)

        self.database.write(work)

    def set_tags(self, model: str, tags: Mapping[str, str]) -> None:
        """Set tags; the newest value stays."""

        def work(connection: Connection) -> None:
            self.existing(connection, model)
            set_tags(connection, self.project, model, tags)

        self.database.write(work)

    def delete_tag(self, model: str, key: str) -> None:
        """Remove a tag; NotFound when it is not there."""

        def work(connection: Connection) -> None:
            self.existing(connection, model)
            if not delete_tag(connection, self.project, model, key):
                raise NotFound(f"No tag with key {key!r} found for model with ID {model!r}.")

        self.database.write(work)

    def get(self, model: str) -> TrackedModel:
        """Give one that is not deleted."""
        with self.database.read() as connection:
            row = self.existing(connection, model)
            return self.full(connection, [row])[0]

    def existing(self, connection: Connection, model: str) -> Row[Any]:
        """Give the row of one that is not deleted."""
        row = connection.execute(select(LOGGED_MODEL).where(self._is(model))).first()
        if row is None or row.deleted_ms is not None:
            raise NotFound(f"Logged model with ID '{model[:80]}' not found.")
        return row

    def full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[TrackedModel]:
        """Give models of their rows, with all that belongs to them."""
        ids = [row.model for row in rows]
        tags = texts_of(connection, TAG, self.project, ids)
        params = texts_of(connection, PARAM, self.project, ids)
        metrics = self._metrics(connection, ids)
        return [
            TrackedModel(
                model=row.model,
                experiment=row.experiment,
                name=row.name,
                location=row.location,
                status=row.status,
                kind=row.kind,
                run=row.run,
                created=instant(row.created_ms),
                updated=instant(row.updated_ms),
                deleted=None if row.deleted_ms is None else instant(row.deleted_ms),
                tags=tags.get(row.model, {}),
                params=params.get(row.model, {}),
                metrics=tuple(metrics.get(row.model, ())),
            )
            for row in rows
        ]

    def _metrics(
        self, connection: Connection, models: Sequence[str]
    ) -> dict[str, list[ModelPoint]]:
        found: dict[str, dict[tuple[str, ...], ModelPoint]] = defaultdict(dict)
        for part in parts(models):
            mine = (MODEL_METRIC.c.project == self.project) & MODEL_METRIC.c.model.in_(part)
            order = (MODEL_METRIC.c.key, MODEL_METRIC.c.step, MODEL_METRIC.c.at_ms)
            for row in connection.execute(select(MODEL_METRIC).where(mine).order_by(*order)):
                # In order of steps, so that of each the last one stays.
                place = (row.key, row.run, row.dataset_name, row.dataset_digest)
                found[row.model][place] = ModelPoint(
                    point=Point(row.key, value_of(row.is_nan, row.value), row.step, row.at_ms),
                    run=row.run,
                    dataset_name=row.dataset_name or None,
                    dataset_digest=row.dataset_digest or None,
                )
        return {model: list(points.values()) for model, points in found.items()}

    def _change(self, model: str, **values: Any) -> None:
        now_ms = millis(self.clock.now())

        def work(connection: Connection) -> None:
            self.existing(connection, model)
            changed = update(LOGGED_MODEL).where(self._is(model))
            connection.execute(changed.values(**values, updated_ms=now_ms))

        self.database.write(work)

    def _is(self, model: str) -> Any:
        return (LOGGED_MODEL.c.project == self.project) & (LOGGED_MODEL.c.model == model)


class ModelMetric(msgspec.Struct, frozen=True, kw_only=True):
    """A metric to be noted of a logged model."""

    model: str
    point: Point
    dataset_name: str | None = None
    dataset_digest: str | None = None


def add_model_metrics(
    connection: Connection, project: str, run: str, metrics: Sequence[ModelMetric]
) -> None:
    """Note metrics of logged models; equal ones are kept once."""
    for metric in metrics:
        point = metric.point
        key = {
            "project": project,
            "model": metric.model,
            "key": point.key,
            "run": run,
            "step": point.step,
            "at_ms": point.at_ms,
            "dataset_name": metric.dataset_name or "",
            "dataset_digest": metric.dataset_digest or "",
        }
        nan = isnan(point.value)
        value = {"value": 0.0 if nan else point.value, "is_nan": nan}
        same = [MODEL_METRIC.c[name] == part for name, part in key.items()]
        if connection.execute(update(MODEL_METRIC).where(*same).values(**value)).rowcount == 0:
            connection.execute(insert(MODEL_METRIC).values(**key, **value))
