"""Checks on rows: which are accepted, and why the others are not."""

from collections.abc import Mapping, Sequence
from typing import assert_never

import polars as pl

from mainspring.core.errors import SchemaMismatch
from mainspring.data.keys import KnownValues
from mainspring.data.spec import Between, Dataset, NotNull, OneOf, RowCheck, Unique

REASON = "reason"


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
        return rows, pl.DataFrame(schema={**rows.schema, REASON: pl.String()})
    reasons = pl.coalesce(
        *(_missing(column) for column in (dataset.key, dataset.time, dataset.arrival)),
        *(_reason(dataset, check, rows.schema) for check in dataset.row_checks),
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
    """Tell in one look at each column whether no row is broken: the case of nearly every push."""
    if any(rows[name].null_count() for name in (dataset.key, dataset.time, dataset.arrival)):
        return False
    schema = rows.schema
    broken = [_broken(dataset, check, schema) for check in dataset.row_checks]
    asked = [one.any().alias(str(place)) for place, one in enumerate(broken) if one is not None]
    if asked and any(rows.select(asked).row(0)):
        return False
    columns = {check.column for check in dataset.row_checks if isinstance(check, Unique)}
    return all(_all_new(rows[column], known[column]) for column in columns)


def _all_new(values: pl.Series, known: Sequence[KnownValues]) -> bool:
    missing = values.null_count()
    if values.n_unique() < len(values) - max(missing - 1, 0):
        return False
    return not any(earlier.taken(values).any() for earlier in known)


def _missing(column: str) -> pl.Expr:
    return pl.when(pl.col(column).is_null()).then(pl.lit(f"not_null({column})"))


def _reason(dataset: Dataset, check: RowCheck, schema: pl.Schema) -> pl.Expr:
    """Give the reason where the check is broken, else null."""
    broken = _broken(dataset, check, schema)
    if broken is None:
        return pl.lit(None, dtype=pl.String)
    return pl.when(broken).then(pl.lit(check.reason))


def _broken(dataset: Dataset, check: RowCheck, schema: pl.Schema) -> pl.Expr | None:
    """Tell where a check is broken; none for one that looks at more than the row."""
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
            return None
        case _:
            assert_never(check)
    return broken


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
