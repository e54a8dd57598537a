"""The bulk half of a commit: rows into Delta, from the process that has them.

It needs no database: what the ledger knows comes in the lease, what was done goes back in
`Written`.
"""

from collections import Counter
from datetime import datetime
from threading import Lock

import msgspec
import polars as pl

from mainspring.core.clock import utc
from mainspring.core.errors import Refused
from mainspring.core.ids import Digest
from mainspring.data.checks import REASON, split
from mainspring.data.digest import rows_digest
from mainspring.data.keys import KnownValues
from mainspring.data.pinned import TOKEN, rows_table
from mainspring.data.schema import Types, conform
from mainspring.data.spec import RESERVED_PREFIX, Dataset, Unique
from mainspring.data.token import Token
from mainspring.store.leases import Lease
from mainspring.store.tables import DeltaTables

ATTEMPT = f"{RESERVED_PREFIX}attempt"
"""Column of the quarantine: only the last attempt of a commit counts."""

_ATTEMPTS = "attempt"
"""The Delta writer of the quarantine: its number is that of the lease's attempt, so each attempt
writes once and one that was overtaken not at all."""


class CommitLease(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to write one commit, and what the writer must know of the dataset.

    Attributes:
        version: Newest version, 0 for none.
        delta_version: Where its rows lie.
        rows_before: Accepted rows of the newest version's commit.
        rows_total: Accepted rows of all versions.
        tokens: Committed tokens; only given when a check asks for all rows.
    """

    dataset: Dataset
    token: str
    lease: Lease
    version: int
    delta_version: int | None
    rows_before: int | None
    rows_total: int
    tokens: tuple[str, ...]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer did: the facts of a commit that are not the ledger's.

    Attributes:
        refused: Findings of table-level checks; when there are any, nothing was written.
    """

    digest: Digest
    rows: int
    reasons: dict[str, int]
    delta_version: int
    quarantine_delta_version: int | None
    event_time_min: datetime | None
    event_time_max: datetime | None
    arrival_max: datetime | None
    refused: tuple[str, ...] = ()


def quarantine_table(dataset: str) -> str:
    """Name the table of rejected rows."""
    return f"quarantine.{dataset}"


class RowWriter:
    """Checks rows and writes them. Keeps types and taken values of the datasets it has written."""

    def __init__(self, tables: DeltaTables) -> None:
        self._tables = tables
        self._lock = Lock()
        self._types: dict[str, Types] = {}
        self._known: dict[tuple[str, str], tuple[str, KnownValues]] = {}

    def write(self, lease: CommitLease, frame: pl.DataFrame) -> Written:
        """Write the rows that pass, quarantine the others.

        Raises:
            SchemaMismatch: Columns or types are not those of the first commit.
            Refused: Another attempt with this token wrote its rows after it had been overtaken.
        """
        dataset = lease.dataset
        rows = conform(dataset, frame, self.types(dataset.name, lease.delta_version))
        known = self._known_values(lease)
        accepted, rejected = split(dataset, rows, {name: (v,) for name, v in known.items()})
        findings = _count_findings(dataset, accepted.height, lease.rows_before)
        quarantined = None if findings else self._quarantine(lease, rejected)
        landed = -1 if findings else self._accept(lease, accepted)
        written = describe(dataset, accepted, rejected, landed, quarantined)
        if findings:
            return msgspec.structs.replace(written, refused=findings)
        with self._lock:
            for column, values in known.items():
                larger = values.plus(accepted[column])
                self._known[dataset.name, column] = (lease.token, larger)
        return written

    def knows_types(self, dataset: str) -> bool:
        """Tell whether `types` answers without looking at the table."""
        with self._lock:
            return dataset in self._types

    def types(self, dataset: str, delta_version: int | None) -> Types | None:
        """Give the types the first commit fixed, None before it.

        Args:
            delta_version: Any version that a fact names.
        """
        with self._lock:
            known = self._types.get(dataset)
        if known is None:
            if delta_version is None:
                return None
            schema = self._tables.read(rows_table(dataset), version=delta_version).collect_schema()
            known = {name: dtype for name, dtype in schema.items() if name != TOKEN}
            with self._lock:
                self._types[dataset] = known
        return known

    def _accept(self, lease: CommitLease, rows: pl.DataFrame) -> int:
        if rows.is_empty() and lease.delta_version is not None:
            return lease.delta_version
        token = Token.parse(lease.token)
        marked = rows.with_columns(pl.lit(lease.token).alias(TOKEN))
        table = rows_table(lease.dataset.name)
        landed = self._tables.append(table, marked, writer=token.writer, number=token.number)
        if lease.delta_version is not None and landed <= lease.delta_version:
            raise overtaken(lease.dataset.name, token)
        return landed

    def _quarantine(self, lease: CommitLease, rows: pl.DataFrame) -> int | None:
        if rows.is_empty():
            return None
        attempt = lease.lease.attempt
        marked = rows.with_columns(
            pl.lit(lease.token).alias(TOKEN), pl.lit(attempt, dtype=pl.Int64).alias(ATTEMPT)
        )
        table = quarantine_table(lease.dataset.name)
        return self._tables.append(table, marked, writer=_ATTEMPTS, number=attempt)

    def _known_values(self, lease: CommitLease) -> dict[str, KnownValues]:
        columns = [c.column for c in lease.dataset.row_checks if isinstance(c, Unique)]
        return {column: self._known_column(lease, column) for column in columns}

    def _known_column(self, lease: CommitLease, column: str) -> KnownValues:
        """Give the values of all committed rows: kept ones if no other process committed since."""
        newest = lease.tokens[-1] if lease.tokens else None
        with self._lock:
            kept = self._known.get((lease.dataset.name, column))
        if kept is not None and kept[0] == newest:
            return kept[1]
        if lease.delta_version is None:
            return KnownValues(None)
        table = self._tables.read(rows_table(lease.dataset.name), version=lease.delta_version)
        committed = table.filter(pl.col(TOKEN).is_in(list(lease.tokens)))
        return KnownValues(committed.select(column).collect()[column])


def describe(
    dataset: Dataset,
    accepted: pl.DataFrame,
    rejected: pl.DataFrame,
    delta_version: int,
    quarantine_delta_version: int | None,
) -> Written:
    """Sum up rows as a commit's facts."""
    reasons = sorted(Counter(rejected[REASON].to_list()).items())
    return Written(
        digest=rows_digest(dataset, accepted),
        rows=accepted.height,
        reasons=dict(reasons),
        delta_version=delta_version,
        quarantine_delta_version=quarantine_delta_version,
        event_time_min=_instant(accepted[dataset.time].min()),
        event_time_max=_instant(accepted[dataset.time].max()),
        arrival_max=_instant(accepted[dataset.arrival].max()),
    )


def overtaken(dataset: str, token: Token) -> Refused:
    """Say that a token is spent: its rows came after another commit had begun."""
    return Refused(
        f"dataset {dataset!r}, token {str(token)!r}: its rows were written after its lease had "
        "ended and another commit had begun, so they are left out; commit them again under a "
        f"larger number than {token.number}"
    )


def _instant(value: object) -> datetime | None:
    return utc(value) if isinstance(value, datetime) else None


def _count_findings(dataset: Dataset, rows: int, before: int | None) -> tuple[str, ...]:
    if not before:
        return ()
    return tuple(
        f"row_count: found {rows} rows, {rows / before:.2f} of the last commit's {before}; "
        f"expected {check.low:g} to {check.high:g}"
        for check in dataset.count_checks
        if not check.low <= rows / before <= check.high
    )
