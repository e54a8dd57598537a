"""Checks on rows: which are accepted, and why the others are not."""

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

import numpy as np
import polars as pl

from mainspring.core.errors import SchemaMismatch
from mainspring.data.keys import KnownValues
from mainspring.data.spec import Between, Dataset, NotNull, OneOf, RowCheck, Unique

REASON = "reason"

_FEW = 1024
"""Rows up to which Python is quicker than a call of Polars."""


def split(
    dataset: Dataset, rows: pl.DataFrame, known: Mapping[str, Sequence[KnownValues]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Part the rows that pass every check from those that do not.

    A rejected row carries one reason: that key, time or arrival is not there, else the first check
    it breaks in the order of declaration. Uniqueness is asked last, among the rows that pass
    everything else, so that a broken row never takes the place of a sound one; of rows of one value
    the first to arrive stays, then the first in order.

    Args:
        rows: In the types of the dataset.
        known: For each column with a `unique` check, the values accepted before.

    Returns:
        Accepted rows, and rejected rows with the column `reason`.
    """
    if _all_pass(dataset, rows, known):
        return rows, rows.clear().hstack([pl.Series(REASON, [], dtype=pl.String)])
    reasons = pl.coalesce(
        *(_missing(column) for column in (dataset.key, dataset.time, dataset.arrival)),
        *(_broken(dataset, check, rows.schema) for check in dataset.row_checks),
    )
    judged = rows.with_columns(reasons.alias(REASON))
    for check in dataset.row_checks:
        if isinstance(check, Unique):
            judged = _judge_unique(dataset, judged, check, known[check.column])
    passed = judged[REASON].is_null()
    return rows.filter(passed), judged.filter(~passed)


def _all_pass(
    dataset: Dataset, rows: pl.DataFrame, known: Mapping[str, Sequence[KnownValues]]
) -> bool:
    """Tell without an expression that no row is broken, as is nearly always so; False in doubt."""
    if any(rows[name].null_count() for name in (dataset.key, dataset.time, dataset.arrival)):
        return False
    return all(
        _all_new(rows[check.column], known[check.column])
        if isinstance(check, Unique)
        else _all_sound(dataset, rows[check.column], check)
        for check in dataset.row_checks
    )


def _all_sound(dataset: Dataset, values: pl.Series, check: NotNull | Between | OneOf) -> bool:
    missing = values.null_count()
    if values.dtype.is_float() and np.isnan(values.to_numpy()).sum() > missing:
        return False
    match check:
        case NotNull():
            return missing == 0
        case OneOf():
            distinct = values if len(values) <= _FEW else values.unique()
            allowed = _values(dataset, check, values.dtype)
            return {None, *allowed.to_list()}.issuperset(distinct.to_list())
        case Between():
            return values.dtype.is_numeric() and (
                missing == len(values) or _within(values.min(), values.max(), check)
            )
        case _:
            assert_never(check)


def _within(least: Any, most: Any, check: Between) -> bool:
    above = check.low is None or least >= check.low
    return bool(above and (check.high is None or most <= check.high))


def _all_new(values: pl.Series, known: Sequence[KnownValues]) -> bool:
    missing = values.null_count()
    if values.n_unique() < len(values) - max(missing - 1, 0):
        return False
    return not any(earlier.taken(values).any() for earlier in known)


def _missing(column: str) -> pl.Expr:
    return pl.when(pl.col(column).is_null()).then(pl.lit(f"not_null({column})"))


def _broken(dataset: Dataset, check: RowCheck, schema: pl.Schema) -> pl.Expr:
    """Give the reason where the check is broken, else null."""
    column, dtype = pl.col(check.column), schema[check.column]
    match check:
        case NotNull():
            broken = column.is_null()
            if dtype.is_float():
                broken = broken | column.is_nan()
        case Between():
            if not dtype.is_numeric():
                raise _unfit(dataset, check, dtype, expected="a number")
            broken = pl.lit(value=False)
            if check.low is not None:
                broken = broken | (column < check.low)
            if check.high is not None:
                broken = broken | (column > check.high)
            if dtype.is_float():
                broken = broken | column.is_nan()
        case OneOf():
            broken = ~column.is_in(_values(dataset, check, dtype).implode())
        case Unique():
            return pl.lit(None, dtype=pl.String)
        case _:
            assert_never(check)
    return pl.when(broken).then(pl.lit(check.reason))


def _values(dataset: Dataset, check: OneOf, dtype: pl.DataType) -> pl.Series:
    try:
        return pl.Series(check.values, dtype=dtype, strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise _unfit(dataset, check, dtype, expected=f"the type of {check.values[0]!r}") from error


def _unfit(
    dataset: Dataset, check: RowCheck, dtype: pl.DataType, *, expected: str
) -> SchemaMismatch:
    return SchemaMismatch(
        f"dataset {dataset.name!r}, check {check.reason}: found type {dtype}, expected {expected}; "
        "correct the rows or the check"
    )


def _judge_unique(
    dataset: Dataset, judged: pl.DataFrame, check: Unique, known: Sequence[KnownValues]
) -> pl.DataFrame:
    """Mark the rows whose value was taken before, or by a row of this frame that came earlier."""
    sound = judged[REASON].is_null() & judged[check.column].is_not_null()
    values = judged[check.column]
    taken = pl.repeat(value=False, n=judged.height, dtype=pl.Boolean, eager=True)
    for earlier in known:
        taken = taken | earlier.taken(values)
    taken = taken & sound
    candidates = sound & ~taken
    if values.filter(candidates).n_unique() < candidates.sum():
        numbered = judged.with_row_index("mainspring_row").filter(candidates)
        by_arrival = numbered.sort(dataset.arrival, maintain_order=True)
        repeated = by_arrival.filter(~by_arrival[check.column].is_first_distinct())
        again = pl.int_range(judged.height, eager=True, dtype=pl.UInt32).is_in(
            repeated["mainspring_row"].implode()
        )
        taken = taken | again
    if not taken.any():
        return judged
    marked = pl.when(taken).then(pl.lit(check.reason)).otherwise(pl.col(REASON))
    return judged.with_columns(marked.alias(REASON))
