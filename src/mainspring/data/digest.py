"""The digest of rows: equal for equal rows, however they are ordered or cut into files."""

import hashlib
import struct

import polars as pl

from mainspring.core.ids import Digest, digest_of
from mainspring.data.spec import Dataset

_FORMAT = b"mainspring rows 1\n"


# Names of our own, because how a library prints its types may change.
_TYPE_NAMES: dict[type[pl.DataType], str] = {
    pl.Int8: "int8",
    pl.Int16: "int16",
    pl.Int32: "int32",
    pl.Int64: "int64",
    pl.Float32: "float32",
    pl.Float64: "float64",
    pl.Boolean: "bool",
    pl.String: "text",
    pl.Date: "day",
    pl.Datetime: "instant",
}


def rows_digest(dataset: Dataset, rows: pl.DataFrame) -> Digest:
    """Digest rows by value.

    Rows are sorted by key, event time, arrival, then the other columns by name, missing values
    first. Then SHA-256 takes, for each column by name: name, type, number of rows, one byte per
    row for "is there", and the values as little-endian fixed-width numbers (times as microseconds
    since 1970 UTC, days since 1970), texts as a 32-bit length per row followed by all their UTF-8
    bytes. All NaNs are one, and -0.0 is 0.0. No number is ever printed, so no library's way of
    printing floats enters.
    """
    names = sorted(rows.columns)
    ordered = _sorted(dataset, rows.select(_canonical(rows, names)))
    parts = ordered.select(part for name in names for part in _parts(name, rows.schema[name]))
    state = hashlib.sha256(_FORMAT)
    for name in names:
        for text in (name, _TYPE_NAMES[type(rows.schema[name])]):
            state.update(struct.pack("<I", len(text.encode())) + text.encode())
        state.update(struct.pack("<Q", rows.height))
        for part in (f"{name}|there", f"{name}|length", f"{name}|value"):
            if part in parts.columns:
                state.update(_bytes(parts[part]))
    return Digest(state.hexdigest())


def chained(before: Digest | None, rows: Digest) -> Digest:
    """Digest a version: all commits up to it, in order."""
    return digest_of([before, rows])


def _canonical(rows: pl.DataFrame, names: list[str]) -> list[pl.Expr]:
    return [
        (pl.when(pl.col(name).is_nan()).then(float("nan")).otherwise(pl.col(name) + 0.0))
        .cast(rows.schema[name])
        .alias(name)
        if rows.schema[name].is_float()
        else pl.col(name)
        for name in names
    ]


def _sorted(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Sort by key, times and all else; columns that cannot decide any more are left out."""
    first = [dataset.key, dataset.time, dataset.arrival]
    if rows.is_empty() or rows[dataset.key].n_unique() == rows.height:
        return rows.sort(dataset.key)
    if rows.select(first).n_unique() == rows.height:
        return rows.sort(first)
    rest = sorted(set(rows.columns) - set(first))
    return rows.sort([*first, *rest])


def _parts(name: str, dtype: pl.DataType) -> list[pl.Expr]:
    column = pl.col(name)
    there = column.is_not_null().cast(pl.UInt8).alias(f"{name}|there")
    if dtype == pl.String:
        text = column.fill_null("")
        return [there, text.str.len_bytes().alias(f"{name}|length"), text.alias(f"{name}|value")]
    if dtype == pl.Boolean:
        return [there, column.fill_null(value=False).cast(pl.UInt8).alias(f"{name}|value")]
    return [there, column.to_physical().fill_null(0).alias(f"{name}|value")]


def _bytes(part: pl.Series) -> bytes:
    if part.dtype == pl.String:
        return "".join(part.to_list()).encode()
    numbers = part.to_numpy()
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
