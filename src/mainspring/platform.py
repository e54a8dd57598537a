"""Builds every part from the configuration and hands them to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import mainspring.access.tables
import mainspring.data.tables
import mainspring.features.tables
import mainspring.loop.tables
import mainspring.monitoring.tables
import mainspring.pipelines.tables
import mainspring.registry.tables
from mainspring.access.actors import Access
from mainspring.core.clock import Clock, duration
from mainspring.core.config import Config
from mainspring.core.errors import NotFound
from mainspring.core.events import Applied
from mainspring.core.home import Home
from mainspring.core.ids import Id, IdSource, Subject, checked_name
from mainspring.data.datasets import Datasets
from mainspring.features.push import Features
from mainspring.loop.routes import publish_routes
from mainspring.loop.stages import Stages
from mainspring.loop.watches import LoopWatches
from mainspring.monitoring.monitoring import Monitoring
from mainspring.pipelines.runs import Runs
from mainspring.registry.folders import ModelFolders
from mainspring.registry.versions import Registry
from mainspring.store.blobs import FolderBlobs
from mainspring.store.database import Database
from mainspring.store.leases import Leases
from mainspring.store.ledger import Derivation, Ledger
from mainspring.store.lock import HomeLock
from mainspring.store.schema import ensure_derived, migrate
from mainspring.store.tables import DeltaTables
from mainspring.tracking.tracking import Tracking

MIGRATIONS = Path(__file__).parent / "migrations"

DERIVATIONS: tuple[Derivation, ...] = (
    mainspring.data.tables.DERIVED,
    mainspring.features.tables.DERIVED,
    mainspring.pipelines.tables.DERIVED,
    mainspring.registry.tables.DERIVED,
    mainspring.monitoring.tables.DERIVED,
    mainspring.loop.tables.DERIVED,
    mainspring.access.tables.DERIVED,
)

StartRun = Callable[["Project", Id], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The parts of one project."""

    name: str
    access: Access
    blobs: FolderBlobs
    tables: DeltaTables
    tracking: Tracking
    stages: Stages
    lease_s: float

    def applied(self) -> Applied:
        """Give the newest declaration.

        Raises:
            NotFound: Nothing was applied yet.
        """
        subject = Subject(self.name, "project", self.name)
        newest = self.stages.ledger.newest(subject)
        if newest == 0:
            raise NotFound(
                f"project {self.name!r} declares nothing yet; run `mainspring apply project.py`"
            )
        event = self.stages.ledger.fact(newest).event
        assert isinstance(event, Applied)
        return event


class Platform:
    """A home that this process owns: one database, one ledger, and the projects in it."""

    def __init__(self, config: Config, home: Home, *, clock: Clock, lock: HomeLock) -> None:
        self.config = config
        self.home = home
        self.clock = clock
        self.ids = IdSource(clock)
        self.derivations = DERIVATIONS
        self._lock = lock
        self.database = Database.open(home.database, clock=clock)
        try:
            migrate(self.database, MIGRATIONS)
            self.ledger = Ledger(
                self.database,
                clock=clock,
                ids=self.ids,
                derivations=DERIVATIONS,
                head=home.ledger_head,
            )
            ensure_derived(self.database, self.ledger)
            self.leases = Leases(self.database, clock=clock, ids=self.ids)
        except BaseException:
            self.database.close()
            raise
        self._projects: dict[str, Project] = {}
        self._start_run: StartRun | None = None

    @classmethod
    def open(cls, config: Config, root: Path, *, clock: Clock) -> Self:
        """Take a home's lock and build its parts; a home that is not there is made.

        Work that a former owner did in its own process is over: its leases end at once.

        Raises:
            Unavailable: Another process owns the home.
        """
        home = Home(root.absolute())
        home.root.mkdir(parents=True, exist_ok=True)
        lock = HomeLock(home.lock, role="command")
        lock.acquire()
        try:
            platform = cls(config, home, clock=clock, lock=lock)
            platform.leases.end_owner("")
            publish_routes(platform.project(config.project).stages)
        except BaseException:
            lock.release()
            raise
        return platform

    def close(self) -> None:
        """Finish the writes that wait, and give the home free."""
        self.database.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run_by(self, start_run: StartRun) -> None:
        """Say how attempts at runs are begun."""
        self._start_run = start_run

    def access(self, project: str) -> Access:
        """Give the roles and tokens of a project."""
        return self.project(project).access

    def project(self, name: str) -> Project:
        """Give the parts of a project."""
        if name not in self._projects:
            self._projects[name] = self._build(checked_name(name, what="project"))
        return self._projects[name]

    def _build(self, name: str) -> Project:
        blobs = FolderBlobs(self.home.blobs(name))
        tables = DeltaTables(self.home.tables(name))
        tracking = Tracking(name, database=self.database, clock=self.clock)
        datasets = Datasets(
            project=name,
            database=self.database,
            ledger=self.ledger,
            leases=self.leases,
            tables=tables,
        )
        registry = Registry(project=name, database=self.database, ledger=self.ledger, blobs=blobs)
        lease = duration(self.config.lease)
        stages = Stages(
            project=name,
            config=self.config,
            home=self.home,
            clock=self.clock,
            ids=self.ids,
            database=self.database,
            ledger=self.ledger,
            leases=self.leases,
            blobs=blobs,
            datasets=datasets,
            features=Features(
                project=name,
                database=self.database,
                sources=datasets,
                folder=self.home.online(name),
            ),
            runs=Runs(
                project=name,
                ledger=self.ledger,
                database=self.database,
                leases=self.leases,
                clock=self.clock,
                tracked=tracking,
                models=registry,
                lease_ttl=lease,
            ),
            registry=registry,
            monitoring=Monitoring(
                project=name,
                home=self.home,
                database=self.database,
                ledger=self.ledger,
                tables=tables,
                clock=self.clock,
                ids=self.ids,
                watches=LoopWatches(name, self.database),
                references=ModelFolders(registry),
            ),
            start_run=lambda run: self._begin(name, run),
        )
        return Project(
            name=name,
            access=Access(
                name, self.database, self.ledger, self.ids, local_actor=self.config.actor
            ),
            blobs=blobs,
            tables=tables,
            tracking=tracking,
            stages=stages,
            lease_s=lease.total_seconds(),
        )

    def _begin(self, project: str, run: Id) -> None:
        assert self._start_run is not None, "run_by comes before the first settling"
        self._start_run(self.project(project), run)
