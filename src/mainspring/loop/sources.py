"""What an endpoint's rows are made from, as one value, and the rows.

The value needs no database to be read: a run's process gets it over the wire and makes from it the
very rows that the owner of the home would make.
"""

from collections.abc import Callable
from datetime import datetime

import msgspec
import polars as pl

from mainspring.core.errors import NotFound
from mainspring.core.ids import Digest, digest_of
from mainspring.data.pinned import Pinned
from mainspring.data.spec import Dataset
from mainspring.features import rows as features
from mainspring.features.rows import LabelRule
from mainspring.features.spec import FeatureView
from mainspring.loop.spec import Endpoint

EVENT_TIME = "event_time"
"""Column added to an endpoint's rows under one name, whatever its dataset calls it."""

Read = Callable[[Pinned], pl.LazyFrame]
"""Gives a dataset version's rows."""


class RowSources(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared of rows, and the dataset versions to read.

    Attributes:
        pinned: By dataset; null for one that has no version yet.
    """

    endpoints: dict[str, Endpoint]
    datasets: dict[str, Dataset]
    views: dict[str, FeatureView]
    pinned: dict[str, Pinned | None]

    def endpoint(self, name: str) -> Endpoint:
        """Give a declared endpoint."""
        if name not in self.endpoints:
            raise NotFound(
                f"endpoint {name!r} is not declared; there are {', '.join(sorted(self.endpoints))}"
            )
        return self.endpoints[name]

    def views_of(self, spec: Endpoint) -> list[FeatureView]:
        """Give the views whose features an endpoint takes, in its order."""
        return [self.views[name] for name in spec.features]

    def frames(self, read: Read) -> dict[str, pl.LazyFrame]:
        """Give the rows of every dataset that has a version."""
        return {name: read(pin) for name, pin in self.pinned.items() if pin is not None}

    def digest(self, endpoint: str, as_of: datetime | None) -> Digest:
        """Digest what training rows come from: pinned rows, declarations, as-of instant."""
        spec = self.endpoint(endpoint)
        return digest_of(
            [
                {name: pin.digest for name, pin in self.pinned.items() if pin is not None},
                {name: self.datasets[name] for name in self.pinned},
                [spec.rows, spec.label, self.views_of(spec)],
                as_of,
            ]
        )


def training_rows(
    sources: RowSources, read: Read, endpoint: str, *, as_of: datetime | None, until: datetime
) -> pl.DataFrame:
    """Give training rows: before `until`, labelled or not, as of the run's watermark."""
    spec = sources.endpoint(endpoint)
    return joined_rows(sources, read, spec, start=None, end=until, as_of=as_of or until)


def joined_rows(
    sources: RowSources,
    read: Read,
    spec: Endpoint,
    *,
    start: datetime | None,
    end: datetime,
    as_of: datetime,
) -> pl.DataFrame:
    """Give an endpoint's rows in [start, end) with features and labels as of an instant.

    Columns: those of the rows' dataset, the views' features, `label`, `label_arrival` and
    `event_time`; by event time and key.
    """
    columns = sources.datasets[spec.rows]
    frames = sources.frames(read)
    if spec.rows not in frames:
        raise NotFound(f"dataset {spec.rows!r} has no version yet; commit its rows first")
    rows = features.training_rows(
        frames[spec.rows],
        columns,
        views=sources.views_of(spec),
        label=label_rule(sources, spec, frames),
        sources=frames,
        specs=sources.datasets,
        as_of=as_of,
        start=start,
        until=end,
    )
    return timed(rows, columns)


def label_rule(sources: RowSources, spec: Endpoint, frames: dict[str, pl.LazyFrame]) -> LabelRule:
    """Say how labels are read; where none has arrived, an empty table says so to every row."""
    if spec.label.source in frames:
        return LabelRule(spec.label.expression, spec.label.source)
    columns = sources.datasets[spec.label.source]
    time = pl.Datetime("us", "UTC")
    schema = pl.Schema({columns.key: pl.String(), columns.time: time, columns.arrival: time})
    frames[spec.label.source] = pl.LazyFrame(schema={**schema, "none": pl.Float64()})
    return LabelRule('"none"', spec.label.source)


def timed(rows: pl.DataFrame, columns: Dataset) -> pl.DataFrame:
    """Give rows the column `event_time`."""
    if columns.time == EVENT_TIME:
        return rows
    return rows.with_columns(pl.col(columns.time).alias(EVENT_TIME))
