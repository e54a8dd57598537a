"""Rows in the forms that data scientists hold them in, column by column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import SchemaMismatch
from mainspring.formats.model import Column

Frame = Any
"""A pandas or Polars frame, a mapping of columns, or a two-dimensional numpy array."""


def count(rows: Frame) -> int:
    """Count the rows."""
    if isinstance(rows, Mapping):
        return len(next(iter(rows.values()), ()))
    return len(rows)


def values(rows: Frame, columns: Sequence[Column]) -> dict[str, NDArray[Any]]:
    """Give each column as an array: float64 with NaN for missing, or str objects with ''.

    Raises:
        SchemaMismatch: A column is not there or does not hold its type.
    """
    found = {}
    for i, column in enumerate(columns):
        raw = _raw(rows, column.name, i, len(columns))
        try:
            found[column.name] = _strings(raw) if column.type == "str" else _floats(raw)
        except (TypeError, ValueError) as error:
            raise SchemaMismatch(
                f"column {column.name!r}: {error}; expected {column.type}"
            ) from error
    return found


def native(rows: Frame, columns: Sequence[Column], *, named: bool) -> Any:
    """Give the rows in the form in which a model predicts: frames by name, arrays by position."""
    names = [column.name for column in columns]
    if isinstance(rows, np.ndarray):
        return rows
    if not isinstance(rows, Mapping):
        return rows[names]
    arrays = values(rows, columns)
    if named:
        import polars

        return polars.DataFrame({name: arrays[name].tolist() for name in names})
    return np.column_stack([arrays[name] for name in names])


def matrix(rows: Frame, columns: Sequence[Column]) -> NDArray[np.float64]:
    """Give numeric columns as one float64 array of shape (rows, columns)."""
    strings = [column.name for column in columns if column.type == "str"]
    if strings:
        raise SchemaMismatch(
            f"columns {', '.join(strings)}: the model takes numbers only; put an encoder before "
            "it in a Pipeline"
        )
    return np.column_stack(list(values(rows, columns).values()))


def _raw(rows: Frame, name: str, position: int, width: int) -> Any:
    if isinstance(rows, np.ndarray):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise SchemaMismatch(f"rows: found an array of {rows.shape}, expected (rows, {width})")
        return rows[:, position]
    names = list(rows) if isinstance(rows, Mapping) else list(rows.columns)
    if name not in names:
        raise SchemaMismatch(f"column {name!r} is not among {', '.join(map(str, names))}; add it")
    column = rows[name]
    return column.to_numpy() if hasattr(column, "to_numpy") else np.array(column, dtype=object)


def _floats(raw: NDArray[Any]) -> NDArray[np.float64]:
    if raw.dtype == object:
        return np.array([_number(value) for value in raw], np.float64)
    if raw.dtype.kind not in "fiub":
        raise TypeError(f"found {raw.dtype}")
    return raw.astype(np.float64)


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, str | bytes):
        raise TypeError(f"found {value!r}")
    return float(value)


def _strings(raw: NDArray[Any]) -> NDArray[Any]:
    if raw.dtype.kind not in "OUT":
        raise TypeError(f"found {raw.dtype}")
    strings = np.empty(len(raw), object)
    for i, value in enumerate(raw):
        missing = value is None or value != value
        if not missing and not isinstance(value, str):
            raise TypeError(f"found {value!r} in row {i}")
        strings[i] = "" if missing else str(value)
    return strings
