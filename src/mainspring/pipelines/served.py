"""Rows as a worker will see them: numbers as doubles with NaN for missing, texts with ''."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mainspring.core.errors import SchemaMismatch
from mainspring.formats.model import Column

MOST_MISSING = 2
"""Rows picked per column for having no value there."""


def columns_of(rows: pl.DataFrame, inputs: Sequence[str]) -> tuple[Column, ...]:
    """Name and type a model's inputs after the rows it was trained on.

    Raises:
        SchemaMismatch: A column is not there, or is neither number, text nor truth value.
    """
    missing = [name for name in inputs if name not in rows.columns]
    if missing or not inputs:
        raise SchemaMismatch(
            f"inputs: found no columns {missing} among {', '.join(rows.columns)}; name the columns "
            "the model was trained on, in its order"
        )
    return tuple(_column(name, rows.schema[name]) for name in inputs)


def _column(name: str, kind: pl.DataType) -> Column:
    if kind.is_integer():
        return Column(name, "int")
    if kind.is_float():
        return Column(name, "float")
    if kind == pl.Boolean:
        return Column(name, "bool")
    if isinstance(kind, pl.String | pl.Categorical | pl.Enum):
        return Column(name, "str")
    raise SchemaMismatch(
        f"input {name!r}: found {kind}, expected a number, text or truth value; turn it into one "
        "before training, such as a time into its hour"
    )


def served_rows(rows: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """Give a model's inputs in order, as a request brings them."""
    return rows.select(
        pl.col(column.name).cast(pl.String).fill_null("")
        if column.type == "str"
        else pl.col(column.name).cast(pl.Float64).fill_null(float("nan"))
        for column in columns
    )


def missing_of(rows: pl.DataFrame, column: Column) -> NDArray[np.bool_]:
    """Tell which served rows have no value in a column."""
    values = rows[column.name]
    return np.asarray((values == "") if column.type == "str" else values.is_nan(), np.bool_)


def spread_over(
    rows: pl.DataFrame,
    columns: Sequence[Column],
    *,
    most: int,
    order: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Pick rows evenly spaced, by a score if one is given, and some without a value per column.

    Returns:
        Row numbers, rising; the same for equal rows.
    """
    ranked = np.arange(rows.height) if order is None else np.argsort(order, kind="stable")
    even = np.unique(np.linspace(0, rows.height - 1, min(most, rows.height)).round().astype(int))
    absent = [
        np.flatnonzero(missing_of(rows, column))[:MOST_MISSING] for column in columns if rows.height
    ]
    return np.unique(np.concatenate([ranked[even], *absent])).astype(np.int64)
