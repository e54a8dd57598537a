"""Values a dataset has already taken, kept so that asking costs no look at the whole table."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

_PARTS = 64
"""Pieces kept before they are copied into one: a commit need not copy the whole column."""


class KnownValues:
    """The distinct values of one column so far. Immutable; `plus` gives a larger one.

    A sorted array of 64-bit hashes answers "surely new" by binary search; only where a hash is
    found are the values themselves compared, so the answer is exact.
    """

    def __init__(self, values: pl.Series | None) -> None:
        present = () if values is None else (values.drop_nulls(),)
        self._parts: tuple[pl.Series, ...] = present
        self._hashes = _sorted_hashes(present[0]) if present else np.empty(0, dtype=np.uint64)

    def taken(self, asked: pl.Series) -> pl.Series:
        """Tell for each value whether it is known; a missing one is not."""
        none = pl.repeat(value=False, n=len(asked), dtype=pl.Boolean, eager=True)
        if len(self._hashes) == 0 or len(asked) == 0:
            return none
        hashes = asked.hash().to_numpy()
        places = np.searchsorted(self._hashes, hashes)
        hit = self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes
        if not hit.any():
            return none
        suspects = asked.filter(pl.Series(hit)).unique()
        present = [part.filter(part.is_in(suspects.implode())) for part in self._parts]
        return asked.is_in(pl.concat(present).implode()).fill_null(value=False)

    def plus(self, values: pl.Series) -> "KnownValues":
        """Add values, without changing this one."""
        fresh = values.drop_nulls()
        larger = KnownValues(None)
        larger._parts = (*self._parts, fresh)
        if len(larger._parts) > _PARTS:
            larger._parts = (pl.concat(larger._parts, rechunk=True),)
        added = _sorted_hashes(fresh)
        places = np.searchsorted(self._hashes, added)
        larger._hashes = np.insert(self._hashes, places, added)
        return larger


def _sorted_hashes(values: pl.Series) -> NDArray[np.uint64]:
    return np.sort(values.hash().to_numpy())
