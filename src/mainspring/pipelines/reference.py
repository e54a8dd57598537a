"""The reference profile of a model: what its training rows and its scores looked like."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from mainspring.formats.model import Column
from mainspring.pipelines.served import missing_of
from mainspring.stats.categories import CategoryProfile, profile_categories, reference_categories
from mainspring.stats.profile import NumericProfile, profile, reference_edges


def reference_of(
    rows: pl.DataFrame, columns: Sequence[Column], scores: NDArray[np.float64]
) -> dict[str, Any]:
    """Profile served rows, and scores that may be of other rows, as plain values.

    Returns:
        `numeric` and `categories`: profiles by input column; `score`: one profile.
    """
    numeric: dict[str, NumericProfile] = {}
    categories: dict[str, CategoryProfile] = {}
    for column in columns:
        if column.type == "str":
            values = rows[column.name].replace("", None).to_list()
            categories[column.name] = profile_categories(values, reference_categories(values))
        else:
            numbers = rows[column.name].to_numpy()
            edges = reference_edges(numbers)
            numeric[column.name] = profile(numbers, edges, missing=missing_of(rows, column))
    score = profile(scores, reference_edges(scores))
    plain: dict[str, Any] = msgspec.to_builtins(
        {"numeric": numeric, "categories": categories, "score": score}
    )
    return plain
