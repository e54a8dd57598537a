"""Runs: opened by a fact, worked on under a lease, closed by a fact; orphans are refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import msgspec
from sqlalchemy import Connection, insert, select

from mainspring.core.clock import Clock, Instant
from mainspring.core.errors import AlreadyExists, NotFound, StaleSubject, StaleToken
from mainspring.core.events import Fact, Registered, RunClosed, RunOpened
from mainspring.core.ids import NO_FACT, Digest, Id, Seq, Subject, digest_of
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import (
    Closed,
    ModelDrafts,
    OpenRun,
    RunReport,
    RunRow,
    TrackedRuns,
)
from mainspring.pipelines.tables import RUN, RUN_REPORT, STEP_OUTPUT, micros, run_row
from mainspring.store.database import Database
from mainspring.store.leases import LEASE, Lease, Leases
from mainspring.store.ledger import Draft, Ledger

KIND = "run"
"""Kind of a run's subject, and of its lease."""

Outcome = Literal["finished", "failed", "expired", "cancelled"]

_RACES = 50


@dataclass(frozen=True, slots=True)
class Runs:
    """The verbs of runs in one project. Every report names its token and is idempotent."""

    project: str
    ledger: Ledger
    database: Database
    leases: Leases
    clock: Clock
    tracked: TrackedRuns
    models: ModelDrafts
    lease_ttl: timedelta

    # --- opening and leasing

    def open(self, event: RunOpened, *, actor: str, cause: Seq | None = None) -> Fact:
        """Record that a pipeline shall run, and begin its tracked run; idempotent by run id.

        Raises:
            AlreadyExists: The id is taken by another run.
        """
        subject = self._subject(event.run)
        draft = Draft(subject, event, expect=NO_FACT, cause=cause)
        now = self.clock.now()
        try:
            return self.ledger.append_all(
                [draft],
                actor=actor,
                also=lambda c: self.tracked.create(c, event.run, name=event.pipeline, at=now),
            )[0]
        except StaleSubject:
            first = self.ledger.fact(self.get(event.run).opened_seq)
            if first.event != msgspec.convert(msgspec.to_builtins(event), RunOpened):
                raise AlreadyExists(
                    f"{subject}: opened before as another run; make a new id"
                ) from None
            return first

    def lease(self, run: Id, *, owner: str) -> Lease:
        """Begin the next attempt at an open run.

        Raises:
            Leased: An attempt is under way.
            StaleToken: The run is closed: there is nothing to attempt.
        """
        row = self.get(run)
        if row.state != "open":
            raise StaleToken(f"{self._subject(run)} is closed ({row.state}); there is no work left")
        return self.leases.acquire(self.project, KIND, run, owner=owner, ttl=self.lease_ttl)

    def renew(self, run: Id, *, token: str) -> Instant:
        """Say that the attempt is alive; gives the lease's new end."""
        held = Lease(self.project, KIND, run, "", 0, token, self.clock.now())
        if self.get(run).state != "open":
            raise StaleToken(f"{self._subject(run)} is closed; stop this work")
        return self.leases.renew(held, self.lease_ttl).ends

    def check_token(self, run: Id, *, token: str) -> None:
        """Refuse who is not the run's attempt.

        The token whose report closed the run still holds: its answer may have been lost.

        Raises:
            StaleToken: The attempt is over, or never was.
        """
        reported = select(RUN_REPORT.c.token).where(
            RUN_REPORT.c.project == self.project, RUN_REPORT.c.run == run
        )
        with self.database.read() as connection:
            if connection.execute(reported).scalar() != token:
                self.leases.check(connection, self.project, KIND, run, token)

    def leave(self, run: Id, *, token: str) -> None:
        """End an attempt and not its run; harmless when the attempt is over."""
        self.leases.release(Lease(self.project, KIND, run, "", 0, token, self.clock.now()))

    # --- reports of a running attempt

    def step_outputs(self, key: Digest) -> StepOutputs | None:
        """Give what a step of this key gave in any run; the reader checks that it is intact."""
        query = select(STEP_OUTPUT.c.outputs).where(
            STEP_OUTPUT.c.project == self.project, STEP_OUTPUT.c.key == key
        )
        with self.database.read() as connection:
            body = connection.execute(query).scalar()
        return None if body is None else msgspec.msgpack.decode(body, type=StepOutputs)

    def record_step(
        self, run: Id, *, token: str, key: Digest, step: str, outputs: StepOutputs
    ) -> None:
        """Keep a step's outputs under its key, and what it logged in the run: both or neither."""
        row = {
            "step": step,
            "outputs": msgspec.msgpack.encode(outputs),
            "run": run,
            "at_us": micros(self.clock.now()),
        }

        def work(connection: Connection) -> None:
            self._check(connection, run, token)
            same = (STEP_OUTPUT.c.project == self.project) & (STEP_OUTPUT.c.key == key)
            connection.execute(STEP_OUTPUT.delete().where(same))
            connection.execute(insert(STEP_OUTPUT).values(project=self.project, key=key, **row))
            self._track(connection, run, outputs.logged)

        self.database.write(work)

    def log(self, run: Id, *, token: str, logged: Logged) -> None:
        """Log to the run."""

        def work(connection: Connection) -> None:
            self._check(connection, run, token)
            self._track(connection, run, logged)

        self.database.write(work)

    # --- closing

    def close(self, run: Id, *, token: str, report: RunReport, actor: str) -> Closed:
        """Close a run with its result: the model's registration and the end, in one append.

        The same report with the same token again gives the same facts.

        Raises:
            StaleToken: The attempt is over: its successor has begun, or the run is closed.
        """

        def also(connection: Connection) -> None:
            self._check(connection, run, token)
            connection.execute(
                insert(RUN_REPORT).values(
                    project=self.project, run=run, token=token, digest=digest_of(report)
                )
            )
            status = report.outcome
            self.tracked.end(connection, run, status=status, at=self.clock.now())
            self.leases.release_in(connection, self.project, KIND, run, token)

        for _ in range(_RACES):
            row = self.get(run)
            if row.state != "open":
                return self._repeated(row, token, report)
            try:
                drafts = self._drafts(row, report, self._attempt(run, token))
                return Closed(self.ledger.append_all(drafts, actor=actor, also=also))
            except StaleSubject:
                continue
            except StaleToken:
                if self.get(run).state == "open":
                    raise
        raise StaleSubject(f"{self._subject(run)}: lost {_RACES} races in a row; report it again")

    def give_up(
        self,
        run: Id,
        *,
        outcome: Literal["expired", "failed", "cancelled"],
        message: str,
        actor: str,
    ) -> Closed:
        """Close a run from outside, whatever its attempt does; a closed run stays as it is."""

        def also(connection: Connection) -> None:
            self.tracked.end(connection, run, status=outcome, at=self.clock.now())

        for _ in range(_RACES):
            row = self.get(run)
            if row.state != "open":
                return self._facts(row)
            event = self._closed(row, outcome, message, self._attempts(run), None)
            expect = row.opened_seq
            draft = Draft(self._subject(run), event, expect=expect, cause=row.opened_seq)
            try:
                return Closed(self.ledger.append_all([draft], actor=actor, also=also))
            except StaleSubject:
                continue
        raise StaleSubject(f"{self._subject(run)}: lost {_RACES} races in a row; repeat it")

    # --- reading

    def get(self, run: Id) -> RunRow:
        """Give one run."""
        query = select(RUN).where(RUN.c.project == self.project, RUN.c.run == run)
        with self.database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"run {run[:60]!r} of project {self.project!r} does not exist; check it")
        return run_row(row)

    def list(
        self, *, endpoint: str | None = None, open_only: bool = False, limit: int | None = 1000
    ) -> tuple[RunRow, ...]:
        """List runs, newest first."""
        query = select(RUN).where(RUN.c.project == self.project)
        if endpoint is not None:
            query = query.where(RUN.c.endpoint == endpoint)
        if open_only:
            query = query.where(RUN.c.state == "open")
        with self.database.read() as connection:
            rows = connection.execute(query.order_by(RUN.c.opened_seq.desc()).limit(limit))
            return tuple(run_row(row) for row in rows)

    def opened(self, endpoint: str) -> tuple[RunRow, ...]:
        """List every run of an endpoint, newest first: what has been tried."""
        return self.list(endpoint=endpoint, limit=None)

    def open_run(self, endpoint: str) -> OpenRun | None:
        """Give the endpoint's oldest run that is open, if there is one."""
        rows = self.list(endpoint=endpoint, open_only=True)
        if not rows:
            return None
        run = rows[-1].run
        return OpenRun(
            run=run,
            attempts=self._attempts(run),
            leased=self.leases.live(self.project, KIND, run) is not None,
            deadline=rows[-1].deadline,
        )

    # --- inside

    def _subject(self, run: Id) -> Subject:
        return Subject(self.project, KIND, run)

    def _check(self, connection: Connection, run: Id, token: str) -> int:
        """Refuse whoever is no longer the run's attempt, inside the write it wants to make."""
        query = select(RUN.c.state).where(RUN.c.project == self.project, RUN.c.run == run)
        state = connection.execute(query).scalar()
        if state != "open":
            raise StaleToken(f"{self._subject(run)} is closed ({state}); stop this work")
        return self.leases.check(connection, self.project, KIND, run, token)

    def _attempt(self, run: Id, token: str) -> int:
        with self.database.read() as connection:
            return self.leases.check(connection, self.project, KIND, run, token)

    def _attempts(self, run: Id) -> int:
        mine = (LEASE.c.project == self.project) & (LEASE.c.kind == KIND) & (LEASE.c.name == run)
        with self.database.read() as connection:
            return connection.execute(select(LEASE.c.attempt).where(mine)).scalar() or 0

    def _track(self, connection: Connection, run: Id, logged: Logged) -> None:
        self.tracked.record(
            connection,
            run,
            params=logged.params,
            metrics=[(m.key, m.value, m.step, m.at) for m in logged.metrics],
            tags=logged.tags,
            artifacts=[(a.path, a.digest, a.size_bytes) for a in logged.artifacts],
        )

    def _drafts(self, row: RunRow, report: RunReport, attempt: int) -> Sequence[Draft]:
        drafts = []
        if report.outcome == "finished" and report.model is not None:
            drafts.append(
                self.models.registration(
                    model=report.model.name,
                    manifest=report.model.manifest,
                    run=row.run,
                    until=row.until,
                    as_of=row.as_of,
                    pins=row.pins,
                    cause=row.opened_seq,
                )
            )
        registered = [d.event.version for d in drafts if isinstance(d.event, Registered)]
        version = registered[0] if registered else None
        event = self._closed(row, report.outcome, report.message, attempt, version)
        cause = None if drafts else row.opened_seq
        drafts.append(Draft(self._subject(row.run), event, expect=row.opened_seq, cause=cause))
        return drafts

    def _closed(
        self, row: RunRow, outcome: Outcome, message: str, attempt: int, version: str | None
    ) -> RunClosed:
        return RunClosed(
            run=row.run,
            endpoint=row.endpoint,
            outcome=outcome,
            version=version,
            message=message,
            attempt=attempt,
            records=self.tracked.digest(row.run),
        )

    def _repeated(self, row: RunRow, token: str, report: RunReport) -> Closed:
        query = select(RUN_REPORT).where(
            RUN_REPORT.c.project == self.project, RUN_REPORT.c.run == row.run
        )
        with self.database.read() as connection:
            found = connection.execute(query).first()
        if found is None or found.token != token or found.digest != digest_of(report):
            raise StaleToken(
                f"{self._subject(row.run)} is closed ({row.state}) by another report; stop"
            )
        return self._facts(row)

    def _facts(self, row: RunRow) -> Closed:
        assert row.closed_seq is not None
        last = self.ledger.fact(row.closed_seq)
        if row.version is None or last.cause is None:
            return Closed((last,))
        return Closed((self.ledger.fact(last.cause), last))
