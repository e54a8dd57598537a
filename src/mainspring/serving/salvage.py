"""Scoring rows so that a bad one does not fail its neighbours."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mainspring.serving.vectors import Vectors


class ScoringFailed(Exception):
    """A run of the graph gave no usable output; the router answers it with another arm."""


class Model(Protocol):
    """What scores."""

    def run(self, vectors: Vectors, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Score rows (all by default), or raise ScoringFailed."""
        ...


@dataclass(slots=True)
class Scored:
    """One value per row, NaN where the row failed or was not asked for."""

    values: NDArray[np.float64]
    failed: list[int] = field(default_factory=list)
    error: str | None = None
    """The first failure's reason."""


def score_rows(
    model: Model,
    vectors: Vectors,
    rows: NDArray[np.int64] | None = None,
    *,
    late: Callable[[], bool] = lambda: False,
    whole: bool = False,
) -> Scored:
    """Score rows (all by default); those that raise or come out non-finite are named.

    With `whole`, any failing row raises ScoringFailed.

    A run that fails is halved until the failing rows stand alone, or until it is too late: then
    the rows of the run fail together.
    """
    if whole:
        values = model.run(vectors, rows)
        if not np.isfinite(values).all():
            raise ScoringFailed("an output is not finite")
        if rows is None:
            return Scored(values)
        scored = Scored(np.full(vectors.count, np.nan))
        scored.values[rows] = values
        return scored
    scored = Scored(np.full(vectors.count, np.nan))
    _run(model, vectors, rows, scored, late)
    return scored


def _run(
    model: Model,
    vectors: Vectors,
    rows: NDArray[np.int64] | None,
    scored: Scored,
    late: Callable[[], bool],
) -> None:
    try:
        values = model.run(vectors, rows)
    except ScoringFailed as error:
        scored.error = scored.error or str(error)
        rows = np.arange(vectors.count) if rows is None else rows
        if len(rows) == 1 or late():
            scored.failed += rows.tolist()
            return
        middle = len(rows) // 2
        _run(model, vectors, rows[:middle], scored, late)
        _run(model, vectors, rows[middle:], scored, late)
        return
    finite = np.isfinite(values)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        scored.error = scored.error or f"output {values[bad[0]]} is not finite"
        scored.failed += bad.tolist() if rows is None else rows[bad].tolist()
        values = np.where(finite, values, np.nan)
    if rows is None:
        scored.values = values
    else:
        scored.values[rows] = values
