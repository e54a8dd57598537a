"""Reading many at once: runs, experiments and logged models, found by a search or by their ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from mainspring.core.clock import Instant
from mainspring.core.ids import Id
from mainspring.store.database import Database
from mainspring.tracking.experiments import Experiment, experiment_of
from mainspring.tracking.inputs import Inputs, inputs_of
from mainspring.tracking.limits import instant
from mainspring.tracking.metrics import Place, history, last_points_of, steps
from mainspring.tracking.models import LoggedModels, TrackedModel
from mainspring.tracking.run import FoundRun, Point, RunRow
from mainspring.tracking.run_search import search_runs
from mainspring.tracking.search import (
    ModelOrder,
    Page,
    View,
    search_experiments,
    search_models,
)
from mainspring.tracking.tables import PARAM, RUN_DATASET, TAG
from mainspring.tracking.texts import parts, texts_of
from mainspring.tracking.waiting import WaitingPoints

_NO_INPUTS = Inputs()


@dataclass(frozen=True, slots=True)
class Reading:
    """Searches and bulk reads in one project; each sees one snapshot."""

    project: str
    database: Database
    logged: LoggedModels
    waiting: WaitingPoints

    def runs(
        self,
        experiments: Sequence[str],
        *,
        text: str | None,
        orders: Sequence[str],
        view: View,
        page: Page,
    ) -> list[FoundRun]:
        """Search runs.

        Raises:
            InvalidInput: The filter or an order cannot be read.
        """
        with self.waiting.read() as connection:
            rows = search_runs(
                connection,
                self.project,
                experiments=experiments,
                text=text,
                orders=orders,
                view=view,
                page=page,
            )
            return self.full(connection, rows)

    def experiments(
        self, *, text: str | None, orders: Sequence[str], view: View, page: Page
    ) -> list[Experiment]:
        """Search experiments."""
        with self.database.read() as connection:
            rows = search_experiments(
                connection, self.project, text=text, orders=orders, view=view, page=page
            )
            tags = texts_of(connection, TAG, self.project, [row.experiment for row in rows])
            return [experiment_of(row, tags.get(row.experiment, {})) for row in rows]

    def models(
        self,
        experiments: Sequence[str],
        *,
        text: str | None,
        datasets: Sequence[tuple[str, str | None]],
        orders: Sequence[ModelOrder],
        page: Page,
    ) -> list[TrackedModel]:
        """Search logged models."""
        with self.database.read() as connection:
            rows = search_models(
                connection,
                self.project,
                experiments=experiments,
                text=text,
                datasets=datasets,
                orders=orders,
                page=page,
            )
            return self.logged.full(connection, rows)

    def history(self, run: str, key: str, *, after: Place | None, limit: int | None) -> list[Point]:
        """Give a page of a series' points."""
        with self.waiting.read(run) as connection:
            return history(connection, self.project, run, key, after=after, limit=limit)

    def sampled(
        self, runs: Sequence[str], key: str, *, low: int | None, high: int | None, points: int
    ) -> dict[str, list[Point]]:
        """Give the series of several runs at common steps, spread evenly, ends included."""
        with self.waiting.read() as connection:
            by_run = {
                run: steps(connection, self.project, run, key, low, high, points=points)
                for run in runs
            }
            wanted = _spread(sorted({step for found in by_run.values() for step in found}), points)
            ends = {run: {found[0], found[-1]} for run, found in by_run.items() if found}
            return {
                run: history(
                    connection,
                    self.project,
                    run,
                    key,
                    steps=sorted((wanted & set(by_run[run])) | ends[run]),
                )
                for run in ends
            }

    def datasets(self, experiments: Sequence[str]) -> list[tuple[str, str, str, str | None]]:
        """List the datasets that runs read: experiment, name, digest, context."""
        columns = (
            RUN_DATASET.c.experiment,
            RUN_DATASET.c.name,
            RUN_DATASET.c.digest,
            RUN_DATASET.c.context,
        )
        found: list[tuple[str, str, str, str | None]] = []
        with self.database.read() as connection:
            for part in parts(experiments):
                mine = RUN_DATASET.c.experiment.in_(part)
                query = select(*columns).where(RUN_DATASET.c.project == self.project, mine)
                rows = connection.execute(query.distinct().order_by(*columns).limit(1000))
                found += [(row[0], row[1], row[2], row[3]) for row in rows]
        return found

    def full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[FoundRun]:
        """Give runs of their rows, with all that was logged to them but files."""
        runs = [row.run for row in rows]
        metrics = last_points_of(connection, self.project, runs)
        params = texts_of(connection, PARAM, self.project, runs)
        tags = texts_of(connection, TAG, self.project, runs)
        inputs = inputs_of(connection, self.project, runs)
        return [
            FoundRun(
                run=row.run,
                experiment=row.experiment,
                name=row.name,
                person=row.person,
                status=row.status,
                location=row.location,
                managed=row.managed,
                started=instant(row.started_ms),
                ended=maybe_instant(row.ended_ms),
                deleted=maybe_instant(row.deleted_ms),
                params=params.get(row.run, {}),
                metrics={point.key: point for point in metrics.get(row.run, ())},
                tags=tags.get(row.run, {}),
                inputs=inputs.get(row.run, _NO_INPUTS),
            )
            for row in rows
        ]


def row_of(row: Row[Any]) -> RunRow:
    """Give a run as a list shows it."""
    return RunRow(
        run=Id(row.run),
        experiment=row.experiment,
        name=row.name,
        person=row.person,
        status=row.status,
        location=row.location,
        managed=row.managed,
        started=instant(row.started_ms),
        ended=maybe_instant(row.ended_ms),
        deleted=maybe_instant(row.deleted_ms),
    )


def maybe_instant(at_ms: int | None) -> Instant | None:
    """Give the instant of milliseconds, if there are some."""
    return None if at_ms is None else instant(at_ms)


def _spread(steps: Sequence[int], points: int) -> set[int]:
    if len(steps) <= points:
        return set(steps)
    every = (len(steps) - 1) / max(points - 1, 1)
    return {steps[round(number * every)] for number in range(points)}
