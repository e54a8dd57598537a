"""The digest of rows: equal for equal rows, however they are ordered or cut into files."""

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

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
    ordered = _sorted(dataset, rows)
    state = hashlib.sha256(_FORMAT)
    for name in sorted(ordered.columns):
        column = ordered[name]
        for text in (name, _TYPE_NAMES[type(column.dtype)]):
            state.update(struct.pack("<I", len(text.encode())) + text.encode())
        state.update(struct.pack("<Q", rows.height))
        for part in _parts(column):
            state.update(part)
    return Digest(state.hexdigest())


def chained(before: Digest | None, rows: Digest) -> Digest:
    """Digest a version: all commits up to it, in order."""
    return digest_of([before, rows])


def _sorted(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Sort by key, times and all else; columns that cannot decide any more are left out."""
    first = [dataset.key, dataset.time, dataset.arrival]
    if rows.is_empty() or rows[dataset.key].n_unique() == rows.height:
        return rows.sort(dataset.key)
    if rows.select(first).n_unique() == rows.height:
        return rows.sort(first)
    rest = sorted(set(rows.columns) - set(first))
    # Now values decide that are not yet the one NaN and the one zero.
    floats = [_canonical(name, dtype) for name, dtype in rows.schema.items() if dtype.is_float()]
    return rows.with_columns(floats).sort([*first, *rest])


def _canonical(name: str, dtype: pl.DataType) -> pl.Expr:
    number = pl.col(name)
    # Not `number + 0.0`, which Polars leaves out.
    one = pl.when(number.is_nan()).then(float("nan")).when(number == 0).then(0.0)
    return one.otherwise(number).cast(dtype).alias(name)


def _parts(column: pl.Series) -> Iterator[bytes]:
    """Give "is there" of each row, then the values, 0 or no text where there is none."""
    missing = column.is_null().to_numpy() if column.null_count() else None
    yield b"\1" * len(column) if missing is None else (~missing).tobytes()
    if column.dtype == pl.String:
        texts = column if missing is None else column.fill_null("")
        yield _bytes(texts.str.len_bytes().to_numpy())
        yield "".join(texts.to_list()).encode()
        return
    if column.dtype.is_temporal():
        column = column.to_physical()
    numbers = (column if missing is None else column.fill_null(_zero(column))).to_numpy()
    if column.dtype.is_float():
        # Every NaN becomes the one NaN, and -0.0 becomes 0.0.
        numbers = np.where(np.isnan(numbers), np.nan, numbers + 0).astype(numbers.dtype)
    yield _bytes(numbers)


def _zero(column: pl.Series) -> bool | int:
    return False if column.dtype == pl.Boolean else 0


def _bytes(numbers: NDArray[Any]) -> bytes:
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes()
