"""Values a dataset has already taken, kept so that asking costs no look at the whole table."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

_PARTS = 64
"""Pieces kept before they are copied into one: a commit need not copy the whole column."""


class KnownValues:
    """The distinct values of one column so far. Immutable; `plus` gives a larger one.

    Sorted arrays of 64-bit hashes answer "surely new" by binary search, one of all values and a
    small one of those added lately; only where a hash is found are the values themselves compared,
    so the answer is exact.
    """

    def __init__(self, values: pl.Series | None) -> None:
        present = () if values is None else (_present(values),)
        self._parts: tuple[pl.Series, ...] = present
        none = np.empty(0, dtype=np.uint64)
        self._hashes = _sorted_hashes(present[0]) if present else none
        self._lately: NDArray[np.uint64] = none

    def taken(self, asked: pl.Series) -> pl.Series:
        """Tell for each value whether it is known; a missing one is not."""
        hit = np.zeros(len(asked), dtype=np.bool_)
        filled = [known for known in (self._hashes, self._lately) if len(known)]
        if filled and len(asked):
            hashes = asked.hash().to_numpy()
            for known in filled:
                places = np.searchsorted(known, hashes)
                hit |= known[np.minimum(places, len(known) - 1)] == hashes
        if not hit.any():
            return pl.Series(hit)
        suspects = asked.filter(pl.Series(hit)).unique()
        present = [part.filter(part.is_in(suspects.implode())) for part in self._parts]
        return asked.is_in(pl.concat(present).implode()).fill_null(value=False)

    def plus(self, values: pl.Series) -> "KnownValues":
        """Add values, without changing this one."""
        fresh = _present(values)
        larger = KnownValues(None)
        larger._parts = (*self._parts, fresh)
        larger._hashes = self._hashes
        together = np.concatenate([self._lately, _sorted_hashes(fresh)])
        # Stable: it merges two runs, where another sort would begin anew.
        larger._lately = np.sort(together, kind="stable")
        if len(larger._parts) > _PARTS:
            larger._parts = (pl.concat(larger._parts, rechunk=True),)
            everything = np.concatenate([larger._hashes, larger._lately])
            larger._hashes = np.sort(everything, kind="stable")
            larger._lately = np.empty(0, dtype=np.uint64)
        return larger


def _present(values: pl.Series) -> pl.Series:
    return values.drop_nulls() if values.null_count() else values


def _sorted_hashes(values: pl.Series) -> NDArray[np.uint64]:
    return np.sort(values.hash().to_numpy())
