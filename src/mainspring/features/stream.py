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
    first_ticks,
    plain_values,
    tick_range,
    windowed_values,
)
from mainspring.features.places import Ints, micros
from mainspring.features.pushes import Recorded
from mainspring.features.spec import FeatureView, SourceColumns
from mainspring.formats.online import RETENTION_US, OnlineWriter


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
        token = f"{self.digest}:{ordinal}"
        self.writer.write(
            values.entities,
            values.times_us,
            values.arrivals_us,
            values.numbers,
            token=token,
            durable=False,
        )
        self.done = ordinal


@dataclass(slots=True, eq=False)
class Step:
    """One push, worked out for every view and not yet written."""

    push: Recorded
    recent: pl.DataFrame
    values: dict[str, Values] = field(default_factory=dict)
    entities: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per view, entities seen for the first time, or earlier than before."""

    @property
    def ticks(self) -> int:
        """Number of values of windowed views."""
        return sum(len(self.values[view].entities) for view in self.entities)


@dataclass(slots=True, eq=False)
class Stream:
    """What is kept in memory of one dataset's pushes: its recent rows and where it stands."""

    columns: SourceColumns
    views: list[OnlineView]
    recent: pl.DataFrame = field(default_factory=pl.DataFrame)
    until_us: int | None = None
    ordinal: int = 0

    @property
    def horizon_us(self) -> int:
        """How far back rows are kept."""
        longest = max((one.view.longest_us + one.view.every_us for one in self._windowed), default=0)
        return max(RETENTION_US, longest)

    @property
    def _windowed(self) -> list[OnlineView]:
        return [one for one in self.views if one.view.windowed]

    def visible_us(self, rows: pl.DataFrame) -> Ints:
        """Give for each row when it was both past and known."""
        return np.maximum(micros(rows[self.columns.time]), micros(rows[self.columns.arrival]))

    def work_out(self, push: Recorded) -> Step:
        """Compute what a push adds to each view, without changing anything."""
        fresh = push.rows if push.rows is not None else self.recent.clear()
        step = Step(push, _together(self.recent, push.rows))
        for one in self.views:
            if one.view.windowed:
                self._work_out_grid(step, one, fresh)
            elif push.rows is not None:
                step.values[one.view.name] = plain_values(
                    one.view, self.columns, fresh=fresh, recent=self.recent
                )
        return step

    def _work_out_grid(self, step: Step, one: OnlineView, fresh: pl.DataFrame) -> None:
        view, known = one.view, one.known
        first = first_ticks(view, self.columns, fresh) if fresh.height else {}
        earlier = {e: tick for e, tick in first.items() if tick < known.get(e, tick + 1)}
        step.entities[view.name] = earlier
        tick_us = tick_range(view, after_us=self.until_us, until_us=step.push.until_us)
        everybody = {**known, **earlier}
        step.values[view.name] = windowed_values(
            view, self.columns, rows=step.recent, known=everybody, tick_us=tick_us
        )

    def take(self, step: Step) -> None:
        """Write a step into the online tables that do not have it, and move on."""
        for one in self.views:
            one.known.update(step.entities.get(one.view.name, {}))
            values = step.values.get(one.view.name)
            if one.done < step.push.ordinal and values is not None:
                one.put(values, step.push.ordinal)
        self.recent = step.recent
        self.until_us, self.ordinal = step.push.until_us, step.push.ordinal
        self._trim()

    def _trim(self) -> None:
        assert self.until_us is not None
        if self.recent.is_empty():
            return
        kept = self.visible_us(self.recent) > self.until_us - self.horizon_us
        # Copying each time costs more than a few rows too many.
        if kept.sum() < 0.8 * len(kept):
            self.recent = self.recent.filter(pl.Series(kept))

    def close(self) -> None:
        """Close the online tables."""
        for one in self.views:
            one.writer.close()


def _together(recent: pl.DataFrame, rows: pl.DataFrame | None) -> pl.DataFrame:
    if rows is None:
        return recent
    if not recent.width:
        return rows
    same = recent.schema == rows.schema
    # Before the first commit has fixed the types, pushes may differ in order and width.
    return pl.concat([recent, rows], how="vertical" if same else "diagonal_relaxed")
