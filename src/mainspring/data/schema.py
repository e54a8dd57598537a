"""Columns and types: what a dataset may hold, and what its first commit fixed for the others."""

from collections.abc import Mapping

import polars as pl

from mainspring.core.errors import SchemaMismatch
from mainspring.data.spec import RESERVED, RESERVED_PREFIX, Dataset

UTC_TIME = pl.Datetime("us", "UTC")

Types = Mapping[str, pl.DataType]

# Delta has no unsigned integers and no categories: the nearest type that holds every value.
_WIDENED: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
}
_KEPT = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64),
    *(pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Date),
)


def conform(dataset: Dataset, frame: pl.DataFrame, expected: Types | None) -> pl.DataFrame:
    """Bring rows to the types of the dataset, in the order of its columns.

    Integers become wider ones or floats and a column without any value takes the expected type;
    nothing else is converted.

    Args:
        expected: The types the first commit fixed, None before it: then only types that no
            store keeps are changed to the nearest that does.

    Raises:
        SchemaMismatch: A column is missing, too many, or of another type.
    """
    found = frame.schema
    _check_columns(dataset, found, expected)
    if expected is None:
        types = {name: _kept(dataset, name, dtype) for name, dtype in found.items()}
    else:
        types = dict(expected)
    if all(found[name] == dtype for name, dtype in types.items()):
        return frame if list(found) == list(types) else frame.select(list(types))
    return frame.select(_cast(dataset, frame[name], dtype) for name, dtype in types.items())


def _check_columns(dataset: Dataset, schema: pl.Schema, expected: Types | None) -> None:
    found = set(schema)
    if expected is not None and found != set(expected):
        missing, extra = sorted(set(expected) - found), sorted(found - set(expected))
        raise SchemaMismatch(
            f"dataset {dataset.name!r}: missing columns {missing}, unexpected columns {extra}; "
            f"expected exactly {sorted(expected)}; correct the rows"
        )
    taken = sorted(name for name in found if name in RESERVED or name.startswith(RESERVED_PREFIX))
    if taken:
        raise SchemaMismatch(
            f"dataset {dataset.name!r}: found columns {taken}, whose names are reserved; "
            "rename them in the rows"
        )
    named = [dataset.key, dataset.time, dataset.arrival, *(c.column for c in dataset.row_checks)]
    if absent := sorted(set(named) - found):
        raise SchemaMismatch(
            f"dataset {dataset.name!r}: columns {absent} are declared but not in the rows; "
            f"found {sorted(found)}; correct the rows or the declaration"
        )
    for name in (dataset.time, dataset.arrival):
        dtype = schema[name]
        if dtype != pl.Null and not (isinstance(dtype, pl.Datetime) and dtype.time_zone):
            raise _mismatch(dataset, name, found=dtype, expected="an aware time")


def _kept(dataset: Dataset, name: str, dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, _KEPT):
        return dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return UTC_TIME
    if dtype == pl.Null and name in (dataset.time, dataset.arrival):
        return UTC_TIME
    if type(dtype) in _WIDENED:
        return _WIDENED[type(dtype)]
    raise _mismatch(
        dataset, name, found=dtype, expected="numbers, text, true or false, days or aware times"
    )


def _cast(dataset: Dataset, column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if column.dtype == dtype:
        return column
    if not _castable(column.dtype, dtype):
        raise _mismatch(dataset, column.name, found=column.dtype, expected=str(dtype))
    try:
        return column.cast(dtype, strict=True)
    except pl.exceptions.InvalidOperationError as error:
        raise SchemaMismatch(
            f"dataset {dataset.name!r}, column {column.name!r}: a value does not fit in {dtype}; "
            "correct the rows"
        ) from error


def _castable(found: pl.DataType, expected: pl.DataType) -> bool:
    if found == pl.Null:
        return True
    if expected.is_integer():
        return found.is_integer()
    if expected.is_float():
        return found.is_integer() or found.is_float()
    if isinstance(expected, pl.Datetime):
        return isinstance(found, pl.Datetime) and found.time_zone is not None
    return expected == pl.String and isinstance(found, pl.Categorical | pl.Enum)


def _mismatch(dataset: Dataset, name: str, *, found: pl.DataType, expected: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"dataset {dataset.name!r}, column {name!r}: found type {found}, expected {expected}; "
        "cast it before committing"
    )
