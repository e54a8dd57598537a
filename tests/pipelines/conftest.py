"""A small workshop: real store, tracking and registry around the runs of one project."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.pipelines.leased_reports import LeasedReports

from mainspring.core.clock import FrozenClock, Instant
from mainspring.core.events import RunOpened
from mainspring.core.ids import Digest, Id, IdSource, digest_of
from mainspring.pipelines import tables
from mainspring.pipelines.context import RunContext
from mainspring.pipelines.log import RunLog
from mainspring.pipelines.run import RunReports
from mainspring.pipelines.runner import Runner
from mainspring.pipelines.runs import Runs
from mainspring.pipelines.sources import Sources
from mainspring.registry import tables as registry_tables
from mainspring.registry.versions import Registry
from mainspring.store import chain
from mainspring.store.blobs import FolderBlobs
from mainspring.store.database import Database
from mainspring.store.leases import Lease, Leases
from mainspring.store.ledger import Ledger
from mainspring.tracking import tables as tracking_tables
from mainspring.tracking.tracking import Tracking

START = datetime(2013, 4, 1, tzinfo=UTC)
TTL = timedelta(seconds=60)


def no_rows(endpoint: str, until: Instant) -> pl.DataFrame:
    raise AssertionError(f"nobody asks for rows of {endpoint} until {until}")


@dataclass
class Workshop:
    folder: Path
    clock: FrozenClock
    ids: IdSource
    database: Database
    ledger: Ledger
    leases: Leases
    blobs: FolderBlobs
    tracking: Tracking
    registry: Registry
    runs: Runs
    environment: dict[str, Any] = field(default_factory=lambda: {"python": "3", "code": None})
    rows: Callable[[str, Instant], pl.DataFrame] = no_rows
    pins: int = 1

    def opened(self, *, endpoint: str | None = "delay", run: Id | None = None) -> RunOpened:
        return RunOpened(
            run=run or self.ids.new(),
            pipeline="delay_model",
            endpoint=endpoint,
            trigger="first",
            parameters={},
            until=START,
            as_of=START,
            pins={"landings": 3},
            inputs=digest_of("inputs"),
            holdout_rows=100,
            deadline=START + timedelta(hours=6),
        )

    def begin(self, owner: str = "worker") -> Lease:
        """Open a run and begin an attempt."""
        event = self.opened()
        self.runs.open(event, actor="loop")
        return self.runs.lease(event.run, owner=owner)

    def reports(self, lease: Lease) -> LeasedReports:
        return LeasedReports(self.runs, lease, "runner")

    def runner(
        self,
        lease: Lease | None = None,
        *,
        root: Path | None = None,
        reports: RunReports | None = None,
        beat_s: float = 60.0,
    ) -> Runner:
        lease = lease or self.begin()
        return Runner(
            reports=reports or self.reports(lease),
            context=RunContext(
                project="default",
                run=Id(lease.name),
                name="delay",
                blobs=self.blobs,
                clock=self.clock,
                environment=self.environment,
                rows=lambda endpoint, until: self.rows(endpoint, until),
                rows_digest=self.rows_digest,
            ),
            sources=Sources(root or self.folder),
            log=RunLog(self.log_of(Id(lease.name)), self.clock),
            beat_s=beat_s,
        )

    def rows_digest(self, endpoint: str) -> Digest:
        return digest_of([endpoint, self.pins])

    def log_of(self, run: Id) -> Path:
        return self.folder / "runs" / f"{run}.log"


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with opened_workshop(tmp_path) as made:
        yield made


class opened_workshop:
    """Open the workshop in a folder; a second one opened later sees what the first one left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Workshop:
        clock = FrozenClock(START)
        self.database = Database.open(self.folder / "mainspring.db", clock=clock)
        for metadata in (chain, tables, registry_tables, tracking_tables):
            self.database.write(metadata.METADATA.create_all)
        ids = IdSource(clock)
        ledger = Ledger(
            self.database,
            clock=clock,
            ids=ids,
            derivations=[tables.DERIVED, registry_tables.DERIVED],
            head=None,
        )
        blobs = FolderBlobs(self.folder / "blobs")
        leases = Leases(self.database, clock=clock, ids=ids)
        tracking = Tracking("default", database=self.database, clock=clock)
        registry = Registry("default", ledger, self.database, blobs)
        runs = Runs(
            "default", ledger, self.database, leases, clock, tracking, registry, lease_ttl=TTL
        )
        return Workshop(
            self.folder, clock, ids, self.database, ledger, leases, blobs, tracking, registry, runs
        )

    def __exit__(self, *_: object) -> None:
        self.database.close()
