"""A dataset's version as it is read: from Delta alone, by whoever was told where its rows lie."""

import msgspec
import polars as pl

from mainspring.core.ids import Digest
from mainspring.data.spec import RESERVED_PREFIX
from mainspring.store.tables import DeltaTables

TOKEN = f"{RESERVED_PREFIX}token"
"""Column that says which commit a row came with: rows of a commit without a fact are not read."""


class Pinned(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a dataset.

    Attributes:
        delta_version: Where its rows lie.
        tokens: Of the commits up to it; rows of others are not its own.
        digest: Of all rows up to this version, commit by commit.
    """

    dataset: str
    version: int
    delta_version: int
    tokens: tuple[str, ...]
    digest: Digest


def rows_table(dataset: str) -> str:
    """Name the table of accepted rows."""
    return f"dataset.{dataset}"


def read_pinned(tables: DeltaTables, pinned: Pinned) -> pl.LazyFrame:
    """Give the accepted rows up to a version."""
    rows = tables.read(rows_table(pinned.dataset), version=pinned.delta_version)
    return rows.filter(pl.col(TOKEN).is_in(list(pinned.tokens))).drop(TOKEN)
