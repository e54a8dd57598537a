"""The rows of an endpoint: what may be learnt from, what is held back, what it is judged on."""

from collections.abc import Mapping
from datetime import datetime

import polars as pl

from mainspring.core.clock import duration
from mainspring.features import rows as features
from mainspring.features.rows import holdout_start
from mainspring.loop import state
from mainspring.loop.sources import EVENT_TIME, RowSources, joined_rows, label_rule, timed
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.validation.comparison import FEWEST_BLOCKS


def pins(stages: Stages, spec: Endpoint) -> dict[str, int]:
    """Give the newest version of every dataset an endpoint reads; 0 where there is none yet."""
    views = stages.features.views()
    names = {spec.rows, spec.label.source, *(views[name].source for name in spec.features)}
    newest = stages.datasets.pins()
    return {name: newest.get(name, 0) for name in sorted(names)}


def row_sources(stages: Stages, pinned: Mapping[str, int]) -> RowSources:
    """Gather what rows are made from, at these versions of datasets."""
    with stages.database.read() as connection:
        declared = state.endpoints(connection, stages.project)
    return RowSources(
        endpoints={spec.name: spec for spec in declared},
        datasets=stages.datasets.specs(),
        views=stages.features.views(),
        pinned={
            name: stages.datasets.pinned(name, number) if number else None
            for name, number in pinned.items()
        },
    )


def labelled_rows(
    stages: Stages,
    spec: Endpoint,
    *,
    start: datetime | None,
    end: datetime,
    as_of: datetime,
    pinned: Mapping[str, int],
) -> pl.DataFrame:
    """Give an endpoint's labelled rows in [start, end), as `joined_rows` does."""
    sources, read = row_sources(stages, pinned), stages.datasets.read_pinned
    rows = joined_rows(sources, read, spec, start=start, end=end, as_of=as_of)
    return rows.filter(pl.col("label").is_not_null())


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


def _known(
    stages: Stages, spec: Endpoint, *, as_of: datetime, start: datetime | None
) -> pl.DataFrame | None:
    """Give rows with labels and without features, up to where labels are complete."""
    sources = row_sources(stages, pins(stages, spec))
    columns = sources.datasets[spec.rows]
    frames = sources.frames(stages.datasets.read_pinned)
    if spec.rows not in frames:
        return None
    rows = features.labelled_rows(
        frames[spec.rows].select(columns.key, columns.time, columns.arrival),
        columns,
        label=label_rule(sources, spec, frames),
        sources=frames,
        specs=sources.datasets,
        as_of=as_of,
        start=start,
        until=as_of - duration(spec.label.wait),
    )
    return timed(rows, columns)
