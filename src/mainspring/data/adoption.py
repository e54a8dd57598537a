"""Completing commits whose rows landed in Delta and whose writer died before the fact."""

import polars as pl

from mainspring.data.pinned import TOKEN, rows_table
from mainspring.data.spec import Dataset
from mainspring.data.tables import VersionRow
from mainspring.data.writing import ATTEMPT, Written, describe, quarantine_table
from mainspring.store.tables import DeltaTables


def orphan(
    tables: DeltaTables, spec: Dataset, newest: VersionRow | None, committed: list[str]
) -> tuple[str, Written] | None:
    """Find rows that landed right after the newest version and have no fact.

    They were checked against that version, and nobody has committed since, so they may become the
    next one. To be called under the dataset's lease. The answer names the newest Delta version,
    which hides for good whatever else landed above unasked (a writer that was overtaken).

    Args:
        committed: All tokens of the dataset that have a fact.

    Returns:
        The token, and what its writer would have reported; None if all is as the ledger says.
    """
    base = None if newest is None else newest.delta_version
    top = tables.version(rows_table(spec.name))
    if top is None or top == base:
        return None
    beneath = set() if base is None else _foreign(tables, spec.name, base, committed)
    for version in range(0 if base is None else base + 1, top + 1):
        landed = _foreign(tables, spec.name, version, committed) - beneath
        if landed:
            token = min(landed)
            return token, _describe_landed(tables, spec, token, top)
    return None


def rejected_rows(tables: DeltaTables, dataset: str, delta_version: int) -> pl.DataFrame:
    """Read quarantined rows, with their token: of each token only those of its last attempt."""
    rows = tables.read(quarantine_table(dataset), version=delta_version)
    last = pl.col(ATTEMPT) == pl.col(ATTEMPT).max().over(TOKEN)
    return rows.filter(last).drop(ATTEMPT).collect()


def _describe_landed(tables: DeltaTables, spec: Dataset, token: str, top: int) -> Written:
    mine = pl.col(TOKEN) == token
    rows = tables.read(rows_table(spec.name), version=top)
    accepted = rows.filter(mine).drop(TOKEN).collect()
    quarantine = tables.version(quarantine_table(spec.name))
    rejected = pl.DataFrame(schema={"reason": pl.String})
    if quarantine is not None:
        rejected = rejected_rows(tables, spec.name, quarantine).filter(mine)
    return describe(spec, accepted, rejected, top, None if rejected.is_empty() else quarantine)


def _foreign(tables: DeltaTables, name: str, version: int, committed: list[str]) -> set[str]:
    """Give the tokens among a Delta version's rows that have no fact."""
    rows = tables.read(rows_table(name), version=version)
    without_fact = rows.filter(~pl.col(TOKEN).is_in(committed))
    return set(without_fact.select(TOKEN).unique().collect()[TOKEN].to_list())
