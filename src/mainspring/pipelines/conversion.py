"""From a trained model to the graph that serves: proved on real rows as requests bring them."""

from collections.abc import Sequence
from typing import Any

import polars as pl

from mainspring.formats import convert
from mainspring.formats.model import Column
from mainspring.pipelines.served import columns_of, served_rows, spread_over

PARITY_ROWS = 5000
"""Rows that a conversion is proved on at most, beside those with missing values."""


def to_onnx(model: Any, *, inputs: Sequence[str], rows: pl.DataFrame) -> bytes:
    """Give the graph that `log_model` would log, for those who want to work on it before.

    Args:
        model: As for `log_model`.
        inputs: The columns it takes, in its order.
        rows: Real rows with these columns.

    Raises:
        Unconvertible: The model does not convert, or its graph disagrees with it on the rows.
        SchemaMismatch: A column is missing, or of a type no request can bring.
    """
    columns = columns_of(rows, inputs)
    return graph_of(model, columns, served_rows(rows, columns))


def graph_of(model: Any, columns: Sequence[Column], served: pl.DataFrame) -> bytes:
    """Convert a model, proved on rows spread over those served."""
    sample = served[spread_over(served, columns, most=PARITY_ROWS)]
    # As columns rather than a frame, so that a model fitted without names is asked without them.
    return convert.to_onnx(model, columns, {series.name: series for series in sample})
