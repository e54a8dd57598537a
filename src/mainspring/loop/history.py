"""An endpoint by windows of event time: how good it was, against its first version, frozen.

Measuring is cut into pieces of some thousand rows, newest first, and ends when its time is used
up: whoever asks again gets what was measured by then and the next pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal

import msgspec
import numpy as np
import polars as pl

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.loop import state
from mainspring.loop.measured import Key, Measured
from mainspring.loop.scoring import model_of
from mainspring.loop.stages import Stages
from mainspring.loop.tables import from_us
from mainspring.monitoring.tally import Tally
from mainspring.serving.runtime import OnnxModel
from mainspring.stats.auc import delong, delong_difference
from mainspring.stats.loss import log_loss

Length = Literal["1d", "7d", "30d"]
PIECE_ROWS = 8_000
"""Labelled rows that are read and scored in one go."""

_FEATURE = "f_"


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that one version answered."""

    version: str
    rows: int


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """One window. Numbers are null where the rows cannot tell, or while they are being measured.

    `auc_error` is the standard error of the difference between `auc` and `frozen_auc`.
    """

    start: datetime
    end: datetime
    rows: int
    labelled: int
    mean_score: float | None
    positive_share: float | None
    auc: float | None
    log_loss: float | None
    frozen_auc: float | None
    frozen_log_loss: float | None
    auc_error: float | None
    traffic: tuple[Traffic, ...]


class WindowHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Windows, oldest first. `complete` is false while older ones are still to be measured."""

    endpoint: str
    window: str
    frozen: str | None
    complete: bool
    windows: tuple[WindowReport, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    key: Key
    start_us: int
    tallies: tuple[Tally, ...]

    @property
    def labelled(self) -> int:
        return sum(one.labelled for one in self.tallies)

    def only(self, version: str | None) -> bool:
        return all(one.version == version for one in self.tallies)


def windows(
    stages: Stages, endpoint: str, window: Length = "7d", *, patience_s: float = 60.0
) -> WindowHistory:
    """Report an endpoint window by window.

    Args:
        stages: The stages of the endpoint's project.
        endpoint: Its name.
        window: Length of a window; windows start at 1970.
        patience_s: After about this time no further piece is measured.

    Raises:
        NotFound: There is no such endpoint.
    """
    mark = stages.monitoring.mark(endpoint)
    with stages.database.read() as connection:
        state.endpoint(connection, stages.project, endpoint)
        lived = state.live_history(connection, stages.project, endpoint)
    frozen = lived[0].version if lived else None
    answers = stages.measured.answers
    known = answers.get((endpoint, window))
    if known is not None and known[0] == (mark, frozen):
        answer: WindowHistory = known[1]
        return answer
    every = duration(window)
    found = _windows(stages, endpoint, frozen, every)
    with stages.measured.measuring:
        _measure(stages, endpoint, frozen, found, every, patience_s)
        stages.measured.keep((endpoint, frozen, every), (one.key for one in found))
        measured = dict(stages.measured.found)
    answer = WindowHistory(
        endpoint=endpoint,
        window=window,
        frozen=frozen,
        complete=all(one.key in measured for one in found if one.labelled),
        windows=tuple(_report(one, measured.get(one.key), every) for one in found),
    )
    if answer.complete:
        answers[endpoint, window] = ((mark, frozen), answer)
    return answer


def _windows(
    stages: Stages, endpoint: str, frozen: str | None, every: timedelta
) -> Sequence[_Window]:
    tallies = stages.monitoring.tally(endpoint, every)
    found = []
    for start_us, mine in groupby(tallies, key=lambda one: one.start_us):
        of = tuple(mine)
        said = (sum(one.labelled for one in of), sum(one.positives for one in of))
        found.append(_Window((endpoint, frozen, every, start_us, *said), start_us, of))
    return found


def _measure(
    stages: Stages,
    endpoint: str,
    frozen: str | None,
    found: Sequence[_Window],
    every: timedelta,
    patience_s: float,
) -> None:
    measured, clock = stages.measured.found, stages.clock
    missing = [one for one in found if one.labelled and one.key not in measured]
    until_s = clock.monotonic_s() + patience_s
    for piece in _pieces(missing):
        start, end = from_us(piece[0].start_us), from_us(piece[-1].start_us) + every
        rows = stages.monitoring.labelled_scores(endpoint, start, end)
        if frozen is not None and not all(one.only(frozen) for one in piece):
            rows = _with_frozen(stages, endpoint, frozen, rows, (start, end))
        else:
            rows = rows.with_columns(frozen=pl.col("score"))
        # Rows come by event time, so a window is a slice of them.
        times_us = rows["event_time_us"].to_numpy()
        edges_us = np.array([one.start_us for one in piece])
        firsts = np.searchsorted(times_us, edges_us)
        lasts = np.searchsorted(times_us, edges_us + every // timedelta(microseconds=1))
        for one, low, high in zip(piece, firsts, lasts, strict=True):
            measured[one.key] = _compared(rows[int(low) : int(high)])
        if clock.monotonic_s() >= until_s:
            return


def _pieces(missing: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Cut windows into stretches of some rows, the newest stretch first, each in order."""
    piece: list[_Window] = []
    for one in reversed(missing):
        piece.insert(0, one)
        if sum(each.labelled for each in piece) >= PIECE_ROWS:
            yield piece
            piece = []
    if piece:
        yield piece


def _with_frozen(
    stages: Stages,
    endpoint: str,
    frozen: str,
    rows: pl.DataFrame,
    span: tuple[datetime, datetime],
) -> pl.DataFrame:
    """Score the logged features of rows with the frozen version; null where that cannot be."""
    unknown = rows.with_columns(frozen=pl.lit(None, pl.Float64))
    logged = stages.monitoring.served(endpoint)
    model = _frozen_model(stages, endpoint, frozen)
    if logged is None or model is None:
        return unknown
    present = set(logged.collect_schema().names())
    names = {_FEATURE + name: name for name in model.inputs}
    if not present >= set(names):
        return unknown
    first, last = (pl.lit(f"{day:%Y-%m-%d}") for day in span)
    features = (
        logged.filter(pl.col("date").is_between(first, last))
        .select("prediction", "row", *names)
        .rename(names)
        .collect()
    )
    joined = rows.join(features, on=["prediction", "row"], how="inner")
    scores = [model.score_frame(part) for part in joined.iter_slices(PIECE_ROWS) if part.height]
    scored = joined.select("prediction", "row").with_columns(
        frozen=pl.Series(np.concatenate(scores) if scores else [], dtype=pl.Float64)
    )
    return rows.join(scored, on=["prediction", "row"], how="left", maintain_order="left")


def _frozen_model(stages: Stages, endpoint: str, version: str) -> OnnxModel | None:
    models = stages.measured.models
    if (endpoint, version) not in models:
        try:
            models[endpoint, version] = model_of(stages, endpoint, version)
        except MainspringError:
            # Gone or opaque: what was served is told without it.
            return None
    return models[endpoint, version]


def _compared(rows: pl.DataFrame) -> Measured:
    y, served = rows["value"].to_numpy(), rows["score"].to_numpy()
    if np.isfinite(frozen := rows["frozen"].to_numpy()).all():
        lost = log_loss(y, served), log_loss(y, frozen)
        try:
            areas = delong_difference(y, served, frozen)
        except InvalidInput:
            return Measured(None, lost[0], None, lost[1], None)
        return Measured(areas.first, lost[0], areas.second, lost[1], areas.se)
    try:
        area: float | None = delong(y, served).value
    except InvalidInput:
        area = None
    return Measured(area, log_loss(y, served), None, None, None)


def _report(one: _Window, measured: Measured | None, every: timedelta) -> WindowReport:
    scored = sum(each.scored for each in one.tallies)
    start = from_us(one.start_us)
    return WindowReport(
        start=start,
        end=start + every,
        rows=sum(each.rows for each in one.tallies),
        labelled=one.labelled,
        mean_score=sum(each.score_sum for each in one.tallies) / scored if scored else None,
        positive_share=(
            sum(each.positives for each in one.tallies) / one.labelled if one.labelled else None
        ),
        auc=None if measured is None else measured.auc,
        log_loss=None if measured is None else measured.log_loss,
        frozen_auc=None if measured is None else measured.frozen_auc,
        frozen_log_loss=None if measured is None else measured.frozen_log_loss,
        auc_error=None if measured is None else measured.auc_error,
        traffic=tuple(Traffic(version=each.version, rows=each.rows) for each in one.tallies),
    )
