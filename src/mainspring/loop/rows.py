"""The rows of an endpoint: what may be learnt from, what is held back, what it is judged on."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from mainspring.core.clock import duration
from mainspring.core.errors import NotFound
from mainspring.core.ids import Digest, digest_of
from mainspring.data.spec import Dataset
from mainspring.features import rows as features
from mainspring.features.rows import LabelRule, holdout_start
from mainspring.features.spec import FeatureView
from mainspring.loop import state
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.pipelines.run import RunRow
from mainspring.validation.comparison import FEWEST_BLOCKS

EVENT_TIME = "event_time"
"""Column added to an endpoint's rows under one name, whatever its dataset calls it."""


def pins(stages: Stages, spec: Endpoint) -> dict[str, int]:
    """Give the newest version of every dataset an endpoint reads; 0 where there is none yet."""
    names = {spec.rows, spec.label.source, *(view.source for view in _views(stages, spec))}
    newest = stages.datasets.pins()
    return {name: newest.get(name, 0) for name in sorted(names)}


def labelled_rows(
    stages: Stages,
    spec: Endpoint,
    *,
    start: datetime | None,
    end: datetime,
    as_of: datetime,
    pinned: Mapping[str, int],
    only_labelled: bool = True,
) -> pl.DataFrame:
    """Give an endpoint's rows in [start, end) with features and labels as of an instant.

    Columns: those of the rows' dataset, the views' features, `label`, `label_arrival` and
    `event_time`; by event time and key.
    """
    columns = stages.datasets.specs()[spec.rows]
    frames = _frames(stages, pinned)
    if spec.rows not in frames:
        raise NotFound(f"dataset {spec.rows!r} has no version yet; commit its rows first")
    rows = features.training_rows(
        frames[spec.rows],
        columns,
        views=_views(stages, spec),
        label=_label(stages, spec, frames),
        sources=frames,
        specs=stages.datasets.specs(),
        as_of=as_of,
        start=start,
        until=end,
    )
    rows = _timed(rows, columns)
    return rows.filter(pl.col("label").is_not_null()) if only_labelled else rows


def count_labelled(stages: Stages, spec: Endpoint, *, start: datetime, as_of: datetime) -> int:
    """Count the rows a gate would have: labelled, and old enough for labels to be complete."""
    known = _known(stages, spec, as_of=as_of, start=start)
    return 0 if known is None else known["label"].drop_nulls().len()


def hold_back(
    stages: Stages, spec: Endpoint, *, rows: int, as_of: datetime
) -> tuple[datetime | None, int]:
    """Find where the newest labelled rows begin, as many as the gate needs.

    Returns:
        The event time at which they begin, none when there are too few, or fewer would be left to
        train on than are held back; and how many labelled rows there are.
    """
    known = _known(stages, spec, as_of=as_of, start=None)
    if known is None:
        return None, 0
    labelled = known.filter(pl.col("label").is_not_null())
    start = holdout_start(labelled, rows, time=EVENT_TIME)
    if start is None:
        return None, labelled.height
    # The blocks at both ends are cut, so two more than the gate asks for.
    enough = as_of - duration(spec.label.wait) - (FEWEST_BLOCKS + 2) * duration(spec.gate.block)
    start = min(start, enough)
    left = labelled.filter(pl.col(EVENT_TIME) < start).height
    return start if left >= labelled.height - left else None, labelled.height


def training_rows(stages: Stages, endpoint: str, run: RunRow, until: datetime) -> pl.DataFrame:
    """Give a run's training rows: before `until`, from its pins, as of its watermark."""
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, endpoint)
    return labelled_rows(
        stages,
        spec,
        start=None,
        end=until,
        as_of=run.as_of or until,
        pinned=run.pins,
        only_labelled=False,
    )


def rows_digest(stages: Stages, endpoint: str, run: RunRow) -> Digest:
    """Digest what training rows come from: pinned rows, declarations, as-of instant."""
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, endpoint)
    datasets = stages.datasets.specs()
    digests = {
        name: stages.datasets.version(name, number).version_digest
        for name, number in run.pins.items()
        if number
    }
    return digest_of(
        [
            digests,
            {name: datasets[name] for name in run.pins},
            [spec.rows, spec.label, _views(stages, spec)],
            run.as_of,
        ]
    )


def _known(
    stages: Stages, spec: Endpoint, *, as_of: datetime, start: datetime | None
) -> pl.DataFrame | None:
    """Give rows with labels and without features, up to where labels are complete."""
    columns = stages.datasets.specs()[spec.rows]
    frames = _frames(stages, pins(stages, spec))
    if spec.rows not in frames:
        return None
    rows = features.labelled_rows(
        frames[spec.rows].select(columns.key, columns.time, columns.arrival),
        columns,
        label=_label(stages, spec, frames),
        sources=frames,
        specs=stages.datasets.specs(),
        as_of=as_of,
        start=start,
        until=as_of - duration(spec.label.wait),
    )
    return _timed(rows, columns)


def _label(stages: Stages, spec: Endpoint, frames: dict[str, pl.LazyFrame]) -> LabelRule:
    if spec.label.source not in frames:
        # No label has arrived: an empty table says so to every row.
        columns = stages.datasets.specs()[spec.label.source]
        time = pl.Datetime("us", "UTC")
        schema = pl.Schema({columns.key: pl.String(), columns.time: time, columns.arrival: time})
        frames[spec.label.source] = pl.LazyFrame(schema={**schema, "none": pl.Float64()})
        return LabelRule('"none"', spec.label.source)
    return LabelRule(spec.label.expression, spec.label.source)


def _frames(stages: Stages, pinned: Mapping[str, int]) -> dict[str, pl.LazyFrame]:
    return {name: stages.datasets.read(name, number) for name, number in pinned.items() if number}


def _views(stages: Stages, spec: Endpoint) -> list[FeatureView]:
    declared = stages.features.views()
    return [declared[name] for name in spec.features]


def _timed(rows: pl.DataFrame, columns: Dataset) -> pl.DataFrame:
    if columns.time == EVENT_TIME:
        return rows
    return rows.with_columns(pl.col(columns.time).alias(EVENT_TIME))
