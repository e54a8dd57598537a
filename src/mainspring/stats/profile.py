"""Column profiles of numbers: counts and sums over fixed bins, mergeable in any order.

A profile is a plain frozen value of
numbers and tuples, so it goes through JSON unchanged.
"""

from dataclasses import dataclass
from functools import reduce
from math import nextafter, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Digest, digest_of

Floats = NDArray[np.float64]

BINS = 64
"""Bins stored by default; tests may merge neighbours, never refine."""

LARGEST = 1e150
"""Larger magnitudes count as infinite: the sum of their squares leaves the range of a double."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a column is cut: right-closed bins, the first and last open.

    Attributes:
        cuts: Upper ends of all bins but the last, strictly rising. The cumulated count at a cut is
            the empirical distribution function there.
        atoms: Values with a bin of their own. Each is a cut, and so is the double just below it,
            so bins stay in order and need no second lookup.
    """

    cuts: tuple[float, ...]
    atoms: tuple[float, ...] = ()

    @property
    def bins(self) -> int:
        """Number of bins, one more than cuts."""
        return len(self.cuts) + 1

    @property
    def digest(self) -> Digest:
        """Name of these edges: profiles merge only when it is equal."""
        return digest_of(self)


@dataclass(frozen=True, slots=True)
class NumericProfile:
    """What is kept of one numeric column over one window.

    Attributes:
        edges: The bins.
        count: Present rows per bin.
        sum: Sum of the values per bin.
        n_missing: Rows without a value.
        n_nan: Rows whose value is not a number.
        n_inf: Rows whose value is infinite or beyond `LARGEST`.
        min: Smallest present value, None without one.
        max: Largest present value, None without one.
        sum_squares: Sum of the squares of the present values.
    """

    edges: Edges
    count: tuple[int, ...]
    sum: tuple[float, ...]
    n_missing: int
    n_nan: int
    n_inf: int
    min: float | None
    max: float | None
    sum_squares: float

    @property
    def present(self) -> int:
        """Rows with a finite value."""
        return sum(self.count)

    @property
    def rows(self) -> int:
        """All rows, present or not."""
        return self.present + self.n_missing + self.n_nan + self.n_inf

    @property
    def absent_share(self) -> float:
        """Share of rows without a usable value; 0 for an empty profile."""
        return 1 - self.present / self.rows if self.rows else 0.0

    @property
    def mean(self) -> float:
        """Mean of the present values, NaN without one."""
        return sum(self.sum) / self.present if self.present else float("nan")

    @property
    def sd(self) -> float:
        """Standard deviation of the present values (divisor n), NaN without one."""
        if not self.present:
            return float("nan")
        return sqrt(max(0.0, self.sum_squares / self.present - self.mean**2))


def reference_edges(values: ArrayLike, bins: int = BINS) -> Edges:
    """Choose bins from reference values: their quantiles, heavy values apart.

    Args:
        values: Reference values; NaN and infinite ones are left out.
        bins: Quantiles to cut at; a value holding at least 1/bins of the rows becomes an atom.
            Whole numbers with at most this many distinct values all become atoms.

    >>> reference_edges([1, 1, 2, 3]).atoms
    (1.0, 2.0, 3.0)
    """
    if bins < 2:
        raise InvalidInput(f"bins: found {bins}, expected at least 2")
    present, _, _ = _finite(np.asarray(values, dtype=np.float64).ravel())
    if present.size == 0:
        return Edges(())
    distinct, counts = np.unique(present, return_counts=True)
    few_integers = distinct.size <= bins and bool(np.all(distinct == np.floor(distinct)))
    heavy = np.ones(distinct.size, bool) if few_integers else counts >= present.size / bins
    atoms = distinct[heavy]
    rest = np.repeat(distinct[~heavy], counts[~heavy])
    cuts = _quantile_cuts(rest, max(1, bins - atoms.size))
    lower_ends = [_just_below(float(atom)) for atom in atoms]
    every = sorted({*cuts.tolist(), *atoms.tolist(), *lower_ends})
    return Edges(tuple(every), tuple(atoms.tolist()))


def profile(
    values: ArrayLike, edges: Edges, *, missing: NDArray[np.bool_] | None = None
) -> NumericProfile:
    """Count one column into its bins.

    Args:
        values: The column, one value per row.
        edges: The reference's bins.
        missing: True where there is no value at all; NaN elsewhere is counted as NaN.
    """
    column = np.asarray(values, dtype=np.float64).ravel()
    n_missing = 0
    if missing is not None:
        n_missing = int(np.count_nonzero(missing))
        column = column[~missing]
    present, n_nan, n_inf = _finite(column)
    index = np.searchsorted(np.array(edges.cuts, dtype=np.float64), present, side="left")
    return NumericProfile(
        edges=edges,
        count=tuple(np.bincount(index, minlength=edges.bins).tolist()),
        sum=tuple(np.bincount(index, weights=present, minlength=edges.bins).tolist()),
        n_missing=n_missing,
        n_nan=n_nan,
        n_inf=n_inf,
        min=float(present.min()) if present.size else None,
        max=float(present.max()) if present.size else None,
        sum_squares=float(present @ present),
    )


def merge(first: NumericProfile, *others: NumericProfile) -> NumericProfile:
    """Add profiles up: associative and commutative (counts exactly, sums to 1e-9 relative).

    Raises:
        InvalidInput: Two were cut at different edges.
    """
    return reduce(_merge_two, others, first)


def _merge_two(a: NumericProfile, b: NumericProfile) -> NumericProfile:
    same_edges(a, b)
    return NumericProfile(
        edges=a.edges,
        count=tuple(x + y for x, y in zip(a.count, b.count, strict=True)),
        sum=tuple(x + y for x, y in zip(a.sum, b.sum, strict=True)),
        n_missing=a.n_missing + b.n_missing,
        n_nan=a.n_nan + b.n_nan,
        n_inf=a.n_inf + b.n_inf,
        min=min((x for x in (a.min, b.min) if x is not None), default=None),
        max=max((x for x in (a.max, b.max) if x is not None), default=None),
        sum_squares=a.sum_squares + b.sum_squares,
    )


def same_edges(a: NumericProfile, b: NumericProfile) -> None:
    """Refuse two profiles that were cut at different edges."""
    if a.edges != b.edges:
        raise InvalidInput(
            f"profiles: found edges {a.edges.digest[:12]} ({a.edges.bins} bins) and "
            f"{b.edges.digest[:12]} ({b.edges.bins} bins), expected the same; "
            "profile both columns with the reference's edges"
        )


def _finite(column: Floats) -> tuple[Floats, int, int]:
    fits = np.abs(column) <= LARGEST
    if fits.all():
        return column, 0, 0
    n_nan = int(np.count_nonzero(np.isnan(column)))
    return column[fits], n_nan, int(column.size - np.count_nonzero(fits)) - n_nan


def _quantile_cuts(ordered: Floats, bins: int) -> Floats:
    """Give observed values at the quantiles k/bins, so that ties fall on one side of a cut."""
    if ordered.size == 0:
        return ordered
    ranks = np.arange(1, bins) * (ordered.size - 1) // bins
    return np.unique(ordered[ranks])


def _just_below(value: float) -> float:
    # Beside zero lie subnormal numbers, which a library with flush-to-zero would read as zero.
    return -float(np.finfo(np.float64).tiny) if value == 0 else nextafter(value, float("-inf"))
