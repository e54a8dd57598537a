"""The verbs of datasets: commit, check, read, list."""

from datetime import timedelta

import polars as pl
from sqlalchemy import Connection

from mainspring.core.clock import Instant
from mainspring.core.errors import ChecksFailed, Leased, Refused, StaleToken
from mainspring.core.events import CommitRefused, Committed
from mainspring.core.ids import Subject
from mainspring.data.adoption import orphan, rejected_rows
from mainspring.data.checks import split
from mainspring.data.history import History
from mainspring.data.keys import KnownValues
from mainspring.data.pinned import TOKEN, Pinned, read_pinned, rows_table
from mainspring.data.schema import conform
from mainspring.data.spec import Dataset, Unique
from mainspring.data.tables import VersionRow
from mainspring.data.token import Token
from mainspring.data.writing import CommitLease, RowWriter, Written, overtaken
from mainspring.store.database import Database
from mainspring.store.leases import Lease, Leases
from mainspring.store.ledger import Draft, Ledger
from mainspring.store.tables import DeltaTables

KIND = "dataset"
"""Kind of the subjects and leases of this room."""


class Datasets:
    """The datasets of one project.

    A commit is three steps, so that its rows need not pass through the process that owns the
    database: `begin` takes the lease, `write` (or a `RowWriter` in another process) puts the rows
    into Delta, `finish` appends the fact. Killed between any two, a commit whose rows are there is
    completed by whoever begins next on that dataset; until then nobody sees its rows.
    """

    def __init__(
        self,
        *,
        project: str,
        database: Database,
        ledger: Ledger,
        leases: Leases,
        tables: DeltaTables,
        lease_ttl: timedelta = timedelta(minutes=2),
    ) -> None:
        self._project = project
        self._ledger = ledger
        self._leases = leases
        self._tables = tables
        self._lease_ttl = lease_ttl
        self._history = History(project=project, database=database)
        self._writer = RowWriter(tables)

    def specs(self) -> dict[str, Dataset]:
        """Give the declared datasets by name."""
        return self._history.specs()

    def commit(
        self, dataset: Dataset | str, frame: pl.DataFrame, *, token: str, actor: str
    ) -> Committed:
        """Commit rows as a new version: `begin`, `write` and `finish` in one.

        Durable on return. The same token again has no second effect and gives the same answer.

        Raises:
            SchemaMismatch: Columns or types are not those of the first commit.
            ChecksFailed: A table-level check refused; nothing was written.
            Refused: The token is older than the writer's newest one.
            Leased: Another commit on this dataset is under way.
        """
        lease = self.begin(dataset, token=token, owner=actor)
        if isinstance(lease, Committed):
            return lease
        try:
            return self.finish(lease, self.write(lease, frame), actor=actor)
        except BaseException:
            self.abandon(lease)
            raise

    def begin(
        self, dataset: Dataset | str, *, token: str, owner: str, attempt: str = ""
    ) -> CommitLease | Committed:
        """Take the dataset's lease for a commit; a token already committed answers its event.

        Args:
            attempt: Of the caller's own making; the same again takes over the lease it was given.
        """
        spec = self._spec(dataset)
        parsed = Token.parse(token)
        if (found := self._history.by_token(spec.name, parsed)) is not None:
            return found.event()
        lease = self._lease(spec.name, f"{owner} {attempt}".rstrip(), again=bool(attempt))
        try:
            given = self._begin_leased(spec, parsed, lease, actor=owner)
        except BaseException:
            self._leases.release(lease)
            raise
        if isinstance(given, Committed):
            self._leases.release(lease)
        return given

    def write(self, lease: CommitLease, frame: pl.DataFrame) -> Written:
        """Check rows and write them to Delta, the rejected ones first. Nobody reads them yet."""
        return self._writer.write(lease, frame)

    def abandon(self, lease: CommitLease) -> None:
        """End the lease of a commit that failed; harmless when it is over."""
        self._leases.release(lease.lease)

    def finish(self, lease: CommitLease, written: Written, *, actor: str) -> Committed:
        """Append the fact that makes written rows a version, and end the lease.

        Raises:
            ChecksFailed: A table-level check had refused; that became a fact of its own.
            StaleToken: The lease is over and its successor has begun.
        """
        if written.refused:
            refusal = CommitRefused(token=lease.token, findings=written.refused)
            self._append(lease.lease, refusal, actor=actor, last=True)
            raise ChecksFailed(
                f"dataset {lease.dataset.name!r}, token {lease.token!r}: nothing was written; "
                f"{'; '.join(written.refused)}; correct the rows or the declaration"
            )
        event = _event(lease.token, written, version=lease.version + 1, total=lease.rows_total)
        try:
            self._append(lease.lease, event, actor=actor, last=True)
        except StaleToken:
            # Said again after the answer was lost: the lease ended with the fact.
            found = self._history.by_token(lease.dataset.name, Token.parse(lease.token))
            if found is None:
                raise
            return found.event()
        return event

    def check(
        self, dataset: Dataset | str, frame: pl.DataFrame, *, recent: pl.DataFrame | None = None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Part rows as a commit would, without writing any.

        Args:
            recent: Rows that hold the values a `unique` column may not take again. Committed rows
                are not asked: the same rows are pushed and committed, in either order.

        Returns:
            Accepted rows, and rejected rows with the column `reason`.
        """
        spec = self._spec(dataset)
        newest = None
        if not self._writer.knows_types(spec.name):
            newest = self._history.newest(spec.name)
        types = self._writer.types(spec.name, newest.delta_version if newest else None)
        known = {
            check.column: (KnownValues(recent[check.column]),)
            if recent is not None and check.column in recent.columns
            else ()
            for check in spec.row_checks
            if isinstance(check, Unique)
        }
        return split(spec, conform(spec, frame, types), known)

    def versions(self, dataset: Dataset | str) -> list[VersionRow]:
        """List the versions of a dataset, oldest first."""
        return self._history.versions(_name(dataset))

    def version(self, dataset: Dataset | str, version: int | None = None) -> VersionRow:
        """Give one version, the newest unless said otherwise."""
        return self._history.version(_name(dataset), version)

    def pins(self, at: Instant | None = None) -> dict[str, int]:
        """Give the newest version of every dataset; with `at`, the newest committed by then.

        Args:
            at: Wall time. What had arrived by an event time is asked of the rows, not of versions.
        """
        return self._history.pins(at)

    def read(self, dataset: Dataset | str, version: int | None = None) -> pl.LazyFrame:
        """Give the accepted rows up to a version, the newest unless said otherwise."""
        return self.read_pinned(self.pinned(dataset, version))

    def pinned(self, dataset: Dataset | str, version: int | None = None) -> Pinned:
        """Say how a version is read, also by a process without the database."""
        found = self.version(dataset, version)
        return Pinned(
            dataset=found.dataset,
            version=found.version,
            delta_version=found.delta_version,
            tokens=tuple(self._history.tokens(found.dataset, found.version)),
            digest=found.version_digest,
        )

    def read_pinned(self, pinned: Pinned) -> pl.LazyFrame:
        """Give the accepted rows of a pinned version."""
        return read_pinned(self._tables, pinned)

    def quarantine(self, dataset: Dataset | str, version: int | None = None) -> pl.DataFrame:
        """Give the rejected rows of one version, or of all.

        Returns:
            The dataset's columns, `reason` and `dataset_version`, by version. Only the last two,
            without rows, when nothing was rejected.
        """
        name = _name(dataset)
        chosen = self.versions(name) if version is None else [self.version(name, version)]
        rejecting = [row for row in chosen if row.quarantine_delta_version is not None]
        if not rejecting:
            return pl.DataFrame(schema={"reason": pl.String, "dataset_version": pl.Int64})
        newest = max(row.quarantine_delta_version or 0 for row in rejecting)
        numbers = pl.DataFrame(
            {
                TOKEN: [row.token for row in rejecting],
                "dataset_version": [row.version for row in rejecting],
            }
        )
        rows = rejected_rows(self._tables, name, newest).join(numbers, on=TOKEN, how="inner")
        return rows.drop(TOKEN).sort("dataset_version", maintain_order=True)

    def _spec(self, dataset: Dataset | str) -> Dataset:
        return self._history.spec(dataset) if isinstance(dataset, str) else dataset

    def _lease(self, name: str, owner: str, *, again: bool) -> Lease:
        try:
            return self._leases.acquire(self._project, KIND, name, owner=owner, ttl=self._lease_ttl)
        except Leased:
            live = self._leases.live(self._project, KIND, name) if again else None
            if live is None or live.owner != owner:
                raise
            # Its answer was lost, so nobody works under it; whoever did is refused from now on.
            self._leases.release(live)
            return self._lease(name, owner, again=False)

    def _begin_leased(
        self, spec: Dataset, token: Token, lease: Lease, *, actor: str
    ) -> CommitLease | Committed:
        newest = self._adopt(spec, lease, actor=actor)
        # Only under the lease is the answer final: another attempt may just have committed.
        if (done := self._answer(spec.name, token)) is not None:
            return done
        landed = self._tables.landed(rows_table(spec.name), token.writer)
        if landed is not None and landed >= token.number:
            raise overtaken(spec.name, token)
        asks_all = any(isinstance(check, Unique) for check in spec.row_checks)
        tokens = self._history.tokens(spec.name, newest.version) if newest and asks_all else []
        return CommitLease(
            dataset=spec,
            token=str(token),
            lease=lease,
            version=0 if newest is None else newest.version,
            delta_version=None if newest is None else newest.delta_version,
            rows_before=None if newest is None else newest.rows,
            rows_total=0 if newest is None else newest.rows_total,
            tokens=tuple(tokens),
        )

    def _answer(self, name: str, token: Token) -> Committed | None:
        """Give the event of a token already committed; refuse one that is too old."""
        last = self._history.newest_by(name, token.writer)
        if last is None or Token.parse(last.token).number < token.number:
            return None
        found = self._history.by_token(name, token)
        if found is None:
            raise Refused(
                f"dataset {name!r}, token {str(token)!r}: was never committed, and writer "
                f"{token.writer!r} has since committed {last.token!r}; use a larger number"
            )
        return found.event()

    def _adopt(self, spec: Dataset, lease: Lease, *, actor: str) -> VersionRow | None:
        """Complete a commit whose rows landed without a fact, if any; give the newest version."""
        newest = self._history.newest(spec.name)
        committed = [] if newest is None else self._history.tokens(spec.name, newest.version)
        found = orphan(self._tables, spec, newest, committed)
        if found is None:
            return newest
        token, written = found
        version, total = (0, 0) if newest is None else (newest.version, newest.rows_total)
        event = _event(token, written, version=version + 1, total=total)
        self._append(lease, event, actor=actor, last=False)
        return self._history.newest(spec.name)

    def _append(
        self, lease: Lease, event: Committed | CommitRefused, *, actor: str, last: bool
    ) -> None:
        """Append a fact if the lease still holds, and end it in the same transaction if `last`."""
        place = (self._project, KIND, lease.name, lease.token)

        def still_mine(connection: Connection) -> None:
            self._leases.check(connection, *place)
            if last:
                self._leases.release_in(connection, *place)

        draft = Draft(Subject(self._project, KIND, lease.name), event)
        self._ledger.append_all([draft], actor=actor, also=still_mine)


def _event(token: str, written: Written, *, version: int, total: int) -> Committed:
    return Committed(
        version=version,
        token=token,
        digest=written.digest,
        rows=written.rows,
        rows_total=total + written.rows,
        quarantined=sum(written.reasons.values()),
        reasons=written.reasons,
        delta_version=written.delta_version,
        quarantine_delta_version=written.quarantine_delta_version,
        event_time_min=written.event_time_min,
        event_time_max=written.event_time_max,
        arrival_max=written.arrival_max,
    )


def _name(dataset: Dataset | str) -> str:
    return dataset if isinstance(dataset, str) else dataset.name
