"""Training rows: what a model may learn from, as it was known at an instant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import InvalidDeclaration, InvalidInput
from mainspring.features.join import Columns, Frame, join
from mainspring.features.spec import FeatureView, SourceColumns

LABEL = "label"
LABEL_ARRIVAL = "label_arrival"


@dataclass(frozen=True, slots=True)
class LabelRule:
    """How a row's label is read.

    Attributes:
        expression: SQL over one row of the source; true or false, or a number.
        source: Dataset with the key column of the rows.
    """

    expression: str
    source: str


def labelled_rows(
    rows: Frame,
    columns: SourceColumns,
    *,
    label: LabelRule | None,
    sources: Mapping[str, Frame],
    specs: Mapping[str, Columns],
    as_of: Instant,
    start: Instant | None = None,
    until: Instant | None = None,
) -> pl.DataFrame:
    """Give the rows known by an instant with the labels known by it; no features, so it is cheap.

    Of rows of one key and event time one stands: the last to arrive by that time, which is what a
    prediction was asked with, else the first to arrive after it. Of labels of one key the last to
    arrive counts.

    Args:
        label: None leaves the two columns out.
        as_of: What arrived later does not exist.
        start: Event times at or after it; None for all.
        until: Event times before it; None for all.

    Returns:
        The rows by event time and key, with `label` as Float64 and `label_arrival`, both missing
        where no label had arrived.
    """
    known = pl.col(columns.arrival) <= utc(as_of)
    if start is not None:
        known = known & (pl.col(columns.time) >= utc(start))
    if until is not None:
        known = known & (pl.col(columns.time) < utc(until))
    chosen = _one_each(rows.lazy().filter(known).collect(), columns)
    chosen = chosen.sort(columns.time, columns.key)
    if label is None:
        return chosen
    if taken := sorted({LABEL, LABEL_ARRIVAL} & set(chosen.columns)):
        raise InvalidInput(
            f"training rows: columns {taken} of the rows stand where the label goes; rename them"
        )
    labels = _labels(label, columns, sources=sources, specs=specs, as_of=as_of)
    return chosen.join(labels, on=columns.key, how="left", maintain_order="left")


def training_rows(
    rows: Frame,
    columns: SourceColumns,
    *,
    views: Sequence[FeatureView],
    label: LabelRule | None,
    sources: Mapping[str, Frame],
    specs: Mapping[str, Columns],
    as_of: Instant,
    start: Instant | None = None,
    until: Instant | None = None,
) -> pl.DataFrame:
    """Give labelled rows with the features each had at its own event time.

    See `labelled_rows` and `join`; a feature's source rows count only if they had also arrived by
    `as_of`.

    Args:
        sources: The views' and the label's datasets at pinned versions.
    """
    chosen = labelled_rows(
        rows,
        columns,
        label=label,
        sources=sources,
        specs=specs,
        as_of=as_of,
        start=start,
        until=until,
    )
    arrived = {
        view.source: sources[view.source]
        .lazy()
        .filter(pl.col(specs[view.source].arrival) <= utc(as_of))
        for view in views
        if view.source in sources and view.source in specs
    }
    return join(
        chosen, key=columns.key, time=columns.time, views=views, sources=arrived, specs=specs
    )


def holdout_start(labelled: pl.DataFrame, rows: int, *, time: str) -> Instant | None:
    """Say where the newest labelled rows begin, so that training may end before them.

    Returns:
        The event time of the oldest of the newest `rows` labelled rows; all rows of that very time
        belong to them. None if there are fewer.
    """
    times = labelled.filter(pl.col(LABEL).is_not_null())[time]
    if rows <= 0 or len(times) < rows:
        return None
    first: Instant = times.top_k(rows).min()  # type: ignore[assignment]
    return utc(first)


def _one_each(rows: pl.DataFrame, columns: SourceColumns) -> pl.DataFrame:
    same = [columns.key, columns.time]
    if rows.is_empty() or rows[columns.key].n_unique() == rows.height:
        return rows
    delay = pl.col(columns.arrival) - pl.col(columns.time)
    after = delay > pl.duration()
    ordered = rows.sort([*same, after, delay.abs()], maintain_order=True)
    return ordered.unique(same, keep="first", maintain_order=True)


def _labels(
    label: LabelRule,
    columns: SourceColumns,
    *,
    sources: Mapping[str, Frame],
    specs: Mapping[str, Columns],
    as_of: Instant,
) -> pl.DataFrame:
    where = f"label {label.expression!r}"
    if label.source not in sources or label.source not in specs:
        raise InvalidDeclaration(
            f"{where}: its source {label.source!r} is not given; found {sorted(sources)}"
        )
    spec = specs[label.source]
    if spec.key != columns.key:
        raise InvalidDeclaration(
            f"{where}: its source {label.source!r} has the key {spec.key!r}, expected that of the "
            f"rows, {columns.key!r}"
        )
    source = sources[label.source].lazy()
    newest_last = source.filter(pl.col(spec.arrival) <= utc(as_of)).sort(
        spec.arrival, spec.time, maintain_order=True
    )
    try:
        value = pl.sql_expr(label.expression).cast(pl.Float64).fill_nan(None)
        read = newest_last.select(
            pl.col(spec.key), value.alias(LABEL), pl.col(spec.arrival).alias(LABEL_ARRIVAL)
        ).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.SQLInterfaceError) as error:
        raise InvalidDeclaration(
            f"{where}: cannot be read from {label.source!r} ({str(error).splitlines()[0]}); "
            f"its columns are {source.collect_schema().names()}"
        ) from error
    last = read.unique(spec.key, keep="last", maintain_order=True)
    no_label = pl.col(LABEL).is_null()
    return last.with_columns(pl.when(~no_label).then(LABEL_ARRIVAL).alias(LABEL_ARRIVAL))
