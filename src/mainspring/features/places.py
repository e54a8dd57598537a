"""Finding rows by entity and time with binary searches: integers in, positions out."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).max)
"""An instant after all others."""

UTC_TIME = pl.Datetime("us", "UTC")


def micros(times: pl.Series) -> Ints:
    """Give aware times as microseconds since 1970 UTC; there may be no missing one."""
    if times.dtype == UTC_TIME:
        return times.cast(pl.Int64).to_numpy()
    return times.dt.epoch("us").to_numpy().astype(np.int64, copy=False)


def instants(name: str, values_us: Ints, *, missing: Flags) -> pl.Series:
    """Give microseconds since 1970 UTC as aware times, missing where said."""
    return masked(pl.Series(name, values_us).cast(UTC_TIME), missing)


def masked(values: pl.Series, missing: Flags) -> pl.Series:
    """Make values missing where said."""
    if not missing.any():
        return values
    keep = pl.when(pl.lit(pl.Series(~missing))).then(values)
    return pl.select(keep.alias(values.name)).to_series()


def places(names: list[str], asked: pl.Series) -> Ints:
    """Give for each entity asked for its place among the names, -1 for none.

    Entities are compared as texts, as the online table does.
    """
    known = pl.DataFrame({"entity": names}, schema={"entity": pl.String}).with_row_index("place")
    found = asked.cast(pl.String).to_frame("entity")
    joined = found.join(known, on="entity", how="left", maintain_order="left")
    return joined["place"].cast(pl.Int64).fill_null(-1).to_numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Instants of several entities in one sorted array, so that one search serves all of them."""

    keys: Ints
    times: Ints
    """All distinct instants, sorted."""

    @classmethod
    def of(cls, codes: Ints, times_us: Ints) -> "Timeline":
        """Lay out rows that are sorted by entity code and then by time."""
        times = np.unique(times_us)
        return cls(_keys(codes, np.searchsorted(times, times_us, side="right"), times), times)

    def upto(self, codes: Ints, at_us: Ints) -> Ints:
        """Count, from the first row of all, the rows up to an entity's last at or before a time.

        An entity of -1 gives 0.
        """
        ranks = np.searchsorted(self.times, at_us, side="right")
        return np.searchsorted(self.keys, _keys(codes, ranks, self.times), side="right")


def _keys(codes: Ints, ranks: Ints, times: Ints) -> Ints:
    # Ranks instead of times, because entity times microseconds would not fit into 64 bits.
    return codes * (len(times) + 1) + ranks
