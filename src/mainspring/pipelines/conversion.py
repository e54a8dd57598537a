"""From a trained model to the graph that serves: proved on real rows as requests bring them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mainspring.formats import compose, convert
from mainspring.formats.columns import values
from mainspring.formats.model import Column
from mainspring.formats.parity import ask, check_parity
from mainspring.formats.plan import one_by_one
from mainspring.pipelines.inference import InferenceGraph, resolved
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


def merged_of(
    graph: InferenceGraph, columns: Sequence[Column], served: pl.DataFrame
) -> tuple[bytes, dict[str, Any]]:
    """Merge an inference graph, proved against its parts one by one; also give their record."""
    found = resolved(graph)
    content: bytes = compose.merged(found.plan, columns).SerializeToString(deterministic=True)
    sample = served[spread_over(served, columns, most=PARITY_ROWS)]
    rows = {series.name: series for series in sample}
    answers = one_by_one(found.plan, values(rows, columns), ask)
    expected = np.asarray(next(iter(answers.values())), np.float64)
    check_parity(content, columns, rows, expected)
    return content, found.record


def graph_of(model: Any, columns: Sequence[Column], served: pl.DataFrame) -> bytes:
    """Convert a model, proved on rows spread over those served."""
    sample = served[spread_over(served, columns, most=PARITY_ROWS)]
    # As columns rather than a frame, so that a model fitted without names is asked without them.
    return convert.to_onnx(model, columns, {series.name: series for series in sample})
