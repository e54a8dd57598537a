"""One dataset's pushes on their way into the online tables of its views."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from mainspring.core.ids import Digest, digest_of
from mainspring.features.online import (
    Values,
    no_rows,
    plain_values,
    tick_range,
    windowed_values,
)
from mainspring.features.places import Ints, micros
from mainspring.features.pushes import Recorded
from mainspring.features.spec import FeatureView, SourceColumns
from mainspring.features.window import prepare
from mainspring.formats.online import RETENTION_US, OnlineWriter

_PIECES = 8
"""Pieces of recent rows that are kept before they are copied into one."""


@dataclass(slots=True, eq=False)
class OnlineView:
    """A view, the entities it has seen, and its online table."""

    view: FeatureView
    digest: Digest
    writer: OnlineWriter
    known: dict[str, int]
    """First tick of each entity; empty for a plain view."""
    done: int
    """Ordinal of the last push in the table."""

    @classmethod
    def open(cls, view: FeatureView, folder: Path, known: Mapping[str, int]) -> "OnlineView":
        """Open the table; one made from another declaration of the view is begun anew."""
        digest = digest_of(view)
        writer = OnlineWriter(folder, view.names)
        made_from, _, ordinal = (writer.token or "").partition(":")
        if writer.token is not None and made_from != digest:
            writer.close()
            shutil.rmtree(folder)
            writer, ordinal = OnlineWriter(folder, view.names), ""
        return cls(view, digest, writer, dict(known), int(ordinal or 0))

    def put(self, values: Values, ordinal: int) -> None:
        """Write what a push gave.

        Not forced to the disk: after a loss of power the token is older than the record of
        pushes, and what is missing is written again.
        """
        self.writer.write(
            values.entities,
            values.times_us,
            values.arrivals_us,
            values.numbers,
            token=f"{self.digest}:{ordinal}",
            durable=False,
        )
        self.done = ordinal


@dataclass(slots=True, eq=False)
class Recent:
    """The rows pushed lately, and when each was both past and known."""

    rows: pl.DataFrame = field(default_factory=pl.DataFrame)
    time_us: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    visible_us: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, rows: pl.DataFrame, columns: SourceColumns) -> "Recent":
        """Measure rows."""
        time_us = micros(rows[columns.time])
        return cls(rows, time_us, np.maximum(time_us, micros(rows[columns.arrival])))

    def plus(self, more: "Recent") -> "Recent":
        """Add rows behind these."""
        if not more.rows.height or not self.rows.width:
            return more if more.rows.height else self
        try:
            rows = self.rows.vstack(more.rows)
        except (pl.exceptions.SchemaError, pl.exceptions.ShapeError):
            # Before the first commit has fixed the types, pushes may differ in order and width.
            rows = pl.concat([self.rows, more.rows], how="diagonal_relaxed")
        # Copying each time would cost more than reading some pieces.
        return Recent(
            rows.rechunk() if rows.n_chunks() > _PIECES else rows,
            np.concatenate([self.time_us, more.time_us]),
            np.concatenate([self.visible_us, more.visible_us]),
        )

    def after(self, visible_us: int) -> "Recent":
        """Leave out rows that were past and known by an instant, once they are many."""
        kept = self.visible_us > visible_us
        # Copying each time would cost more than a few rows too many.
        if kept.sum() >= 0.8 * len(kept):
            return self
        return Recent(self.rows.filter(pl.Series(kept)), self.time_us[kept], self.visible_us[kept])

    def beside(self, fresh: "Recent") -> pl.DataFrame:
        """Give the rows whose times are both those of some other rows: all that can be tied."""
        same = np.isin(self.time_us, fresh.time_us)
        same &= np.isin(self.visible_us, fresh.visible_us)
        return self.rows.filter(pl.Series(same)) if same.any() else self.rows.head(0)

    def reaching(self, time_us: int, *, last: int) -> pl.DataFrame:
        """Give the rows with a later event time, and the `last` ones whatever their time."""
        wanted = self.time_us > time_us
        wanted[len(wanted) - last :] = True
        return self.rows[np.flatnonzero(wanted).astype(np.uint32)] if len(wanted) else self.rows


@dataclass(slots=True, eq=False)
class Step:
    """One push, worked out for every view and not yet written."""

    push: Recorded
    recent: Recent
    values: dict[str, Values] = field(default_factory=dict)
    entities: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per windowed view, entities seen for the first time, or earlier than before."""

    @property
    def ticks(self) -> int:
        """Number of values of windowed views."""
        return sum(len(self.values[view].entities) for view in self.entities)


@dataclass(slots=True, eq=False)
class Stream:
    """What is kept in memory of one dataset's pushes: its recent rows and where it stands."""

    columns: SourceColumns
    views: list[OnlineView]
    writers: dict[str, int]
    """Newest number of each writer."""
    recent: Recent = field(default_factory=Recent)
    until_us: int | None = None
    ordinal: int = 0

    @property
    def horizon_us(self) -> int:
        """How far back rows are kept."""
        grids = [one.view for one in self.views if one.view.windowed]
        return max([RETENTION_US, *(view.longest_us + view.every_us for view in grids)])

    def work_out(self, push: Recorded) -> Step:
        """Compute what a push adds to each view, without changing anything."""
        fresh = Recent() if push.rows is None else Recent.of(push.rows, self.columns)
        step = Step(push, self.recent.plus(fresh))
        for one in self.views:
            if one.view.windowed:
                self._work_out_grid(step, one, fresh=fresh.rows.height)
            elif push.rows is not None:
                before = self.recent.beside(fresh)
                step.values[one.view.name] = plain_values(
                    one.view, self.columns, fresh=push.rows, before=before
                )
        return step

    def _work_out_grid(self, step: Step, one: OnlineView, *, fresh: int) -> None:
        view, known = one.view, one.known
        tick_us = tick_range(view, after_us=self.until_us, until_us=step.push.until_us)
        start_us = int(tick_us[0]) if len(tick_us) else step.push.until_us
        rows = step.recent.reaching(start_us - view.longest_us, last=fresh)
        events = prepare(rows if rows.width else no_rows(view, self.columns), view, self.columns)
        first = zip(events.entities, events.first_ticks(view).tolist(), strict=True)
        earlier = {name: tick for name, tick in first if tick < known.get(name, tick + 1)}
        step.entities[view.name] = earlier
        step.values[view.name] = windowed_values(
            view, events, known={**known, **earlier}, tick_us=tick_us
        )

    def take(self, step: Step) -> None:
        """Write a step into the online tables that do not have it, and move on."""
        for one in self.views:
            one.known.update(step.entities.get(one.view.name, {}))
            values = step.values.get(one.view.name)
            if one.done < step.push.ordinal and values is not None:
                one.put(values, step.push.ordinal)
        self.until_us, self.ordinal = step.push.until_us, step.push.ordinal
        self.recent = step.recent.after(self.until_us - self.horizon_us)

    def close(self) -> None:
        """Close the online tables."""
        for one in self.views:
            one.writer.close()
