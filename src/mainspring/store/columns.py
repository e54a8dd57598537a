"""Fit a frame to a table's column types without changing a value.

delta-rs casts what it is given to the table's types and says nothing: 1.5 becomes 1 in a column of
integers, a naive time becomes UTC. So what does not fit exactly is refused before it is written.
"""

import polars as pl

from mainspring.core.errors import SchemaMismatch

# Delta has signed integers and plain strings only; delta-rs fails late, or panics, on the others.
_STORED_AS: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
}


def table_schema(frame: pl.DataFrame, *, table: str) -> pl.Schema:
    """Say which column types a new table for these rows gets.

    Raises:
        SchemaMismatch: A column has no type, or times without a zone.
    """
    return pl.Schema(
        {name: _stored_type(dtype, f"{table}.{name}") for name, dtype in frame.schema.items()}
    )


def fitted(frame: pl.DataFrame, schema: pl.Schema, *, table: str) -> pl.DataFrame:
    """Give the rows in the table's column order and types.

    Raises:
        SchemaMismatch: Columns are missing or unknown, or a value does not fit exactly.
    """
    missing = [name for name in schema if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in schema]
    if missing or unknown:
        raise SchemaMismatch(
            f"table {table}: missing columns {missing}, unknown columns {unknown}; "
            f"expected {list(schema)}"
        )
    return frame.select(
        _fitted(frame[name], dtype, column=f"{table}.{name}") for name, dtype in schema.items()
    )


def _fitted(values: pl.Series, dtype: pl.DataType, *, column: str) -> pl.Series:
    if values.dtype == dtype:
        return values
    try:
        cast = values.cast(dtype, strict=True)
        same = values.dtype == pl.Null or cast.cast(values.dtype).equals(values)
    except pl.exceptions.PolarsError:
        same = False
    if not (same and _kind(values.dtype) in (_kind(dtype), pl.Null)):
        raise SchemaMismatch(
            f"column {column}: found {values.dtype}, expected {dtype}, and not every value fits "
            "exactly; cast it"
        )
    return cast


def _kind(dtype: pl.DataType) -> object:
    """Name the kind within which a cast keeps a value's meaning."""
    if dtype.is_numeric():
        return "number"
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    if isinstance(dtype, pl.Datetime):
        return "instant" if dtype.time_zone is not None else "naive time"
    return dtype


def _stored_type(dtype: pl.DataType, column: str) -> pl.DataType:
    if dtype == pl.Null:
        raise SchemaMismatch(f"column {column}: has no type, all values are missing; cast it")
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None:
            raise SchemaMismatch(f"column {column}: times without a zone; give one, such as UTC")
        return pl.Datetime("us", "UTC")
    return _STORED_AS.get(type(dtype), dtype)
