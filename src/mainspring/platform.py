"""Builds every part from the configuration and hands them to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

import mainspring.access.tables
import mainspring.data.tables
import mainspring.features.tables
import mainspring.loop.tables
import mainspring.monitoring.tables
import mainspring.pipelines.tables
import mainspring.registry.tables
from mainspring.access.actors import Access
from mainspring.access.published import TokenPublisher
from mainspring.core.clock import Clock, duration
from mainspring.core.config import Config
from mainspring.core.errors import NotFound
from mainspring.core.events import Applied, Fact
from mainspring.core.home import Home
from mainspring.core.ids import IdSource, Subject, checked_name
from mainspring.data.datasets import Datasets
from mainspring.features.push import Features
from mainspring.formats.wire import Assignment
from mainspring.loop.driver import IN_PROCESS, RUN_PROCESS, Driver
from mainspring.loop.routes import publish_routes
from mainspring.loop.stages import Stages
from mainspring.loop.state import projects
from mainspring.loop.watches import LoopWatches
from mainspring.monitoring.monitoring import Monitoring
from mainspring.outbound.door import Door
from mainspring.outbound.outbox import Outbox
from mainspring.outbound.webhooks import Webhooks
from mainspring.pipelines.runs import Runs
from mainspring.registry.folders import ModelFolders
from mainspring.registry.notices import notice_of
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

StartAttempt = Callable[[Assignment], None]
StopAttempt = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The parts of one project."""

    name: str
    access: Access
    blobs: FolderBlobs
    tables: DeltaTables
    tracking: Tracking
    stages: Stages
    driver: Driver
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

    def __init__(self, config: Config, home: Home, *, clock: Clock, lock: HomeLock | None) -> None:
        self.config = config
        self.home = home
        self.clock = clock
        self.ids = IdSource(clock)
        self.derivations = DERIVATIONS
        self._lock = lock
        self.database = Database.open(home.database, clock=clock)
        self.door = Door(config.outbound_hosts)
        self.outbox = Outbox(self.database, clock=clock, ids=self.ids)
        try:
            migrate(self.database, MIGRATIONS)
            self.ledger = Ledger(
                self.database,
                clock=clock,
                ids=self.ids,
                derivations=DERIVATIONS,
                head=home.ledger_head,
                watch=self._told,
            )
            ensure_derived(self.database, self.ledger)
            self.leases = Leases(self.database, clock=clock, ids=self.ids)
        except BaseException:
            self.database.close()
            raise
        self.tokens = TokenPublisher(self.database, home)
        self._projects: dict[str, Project] = {}
        self._building = RLock()
        self._publishing = Lock()
        self._start_attempt: StartAttempt | None = None
        self._stop_attempt: StopAttempt = _nothing_to_stop
        self._driving: _Driving | None = None

    @classmethod
    def open(cls, config: Config, root: Path, *, clock: Clock, owned: bool = False) -> Self:
        """Take a home's lock and build its parts; a home that is not there is made.

        Work that a former owner did in its own process is over: its leases end at once.

        Args:
            owned: A process above this one holds the lock, and runs have processes of their own,
                which may have outlived a former owner: `Driver.adopt` says which.

        Raises:
            Unavailable: Another process owns the home.
        """
        home = Home(root.absolute())
        home.root.mkdir(parents=True, exist_ok=True)
        lock = None if owned else HomeLock(home.lock, role="command")
        if lock is not None:
            lock.acquire()
        try:
            platform = cls(config, home, clock=clock, lock=lock)
            platform.leases.end_owner(IN_PROCESS if owned else "")
            platform.tokens.publish()
            for name in platform.declared():
                publish_routes(platform.project(name).stages)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return platform

    def close(self) -> None:
        """Stop the loops, finish the writes that wait, and give the home free."""
        self.rest()
        self.database.close()
        if self._lock is not None:
            self._lock.release()

    def rest(self) -> None:
        """Stop the loops; settlings that wait return as things stand."""
        self._driving = None
        for project in list(self._projects.values()):
            project.driver.stop()

    def turning(self) -> bool:
        """Say whether the loops that were to turn by themselves do."""
        return all(project.driver.alive() for project in list(self._projects.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run_by(self, start: StartAttempt, stop: StopAttempt | None = None) -> None:
        """Say how leased attempts at runs are begun, and how the process of a run is ended.

        Args:
            start: May execute the attempt, or have it executed and return before it ends.
            stop: Gets the run; nothing to stop where attempts are executed in this process.
        """
        self._start_attempt = start
        self._stop_attempt = stop or _nothing_to_stop

    def drive(self, tick_s: float, *, serving: Callable[[int], bool]) -> None:
        """Let the loops of all declared projects turn by themselves, and of those declared later.

        Args:
            tick_s: Seconds after which a loop looks without being woken.
            serving: See `Driver.serving`.
        """
        self._driving = _Driving(tick_s, serving)
        for name in self.declared():
            self.wake(self.project(name))

    def wake(self, project: Project) -> None:
        """Say that a project was declared anew."""
        if (driving := self._driving) is not None:
            project.driver.serving = driving.serving
            project.driver.start(driving.tick_s)
        project.driver.wake()

    def declared(self) -> list[str]:
        """List the projects that declare endpoints, and the configured one."""
        with self.database.read() as connection:
            return sorted({self.config.project, *projects(connection)})

    def access(self, project: str) -> Access:
        """Give the roles and tokens of a project."""
        return self.project(project).access

    def project(self, name: str) -> Project:
        """Give the parts of a project."""
        found = self._projects.get(name)
        if found is not None:
            return found
        # Two of one project would each have their own locks.
        with self._building:
            if name not in self._projects:
                self._projects[name] = self._build(checked_name(name, what="project"))
            return self._projects[name]

    def webhooks(self, project: str) -> Webhooks:
        """Give the webhooks of a project."""
        return Webhooks(
            project, database=self.database, clock=self.clock, ids=self.ids, door=self.door
        )

    def _told(self, connection: Connection, fact: Fact) -> None:
        notice = notice_of(connection, fact)
        if notice is not None:
            self.outbox.put(connection, notice)

    def _build(self, name: str) -> Project:
        blobs = FolderBlobs(self.home.blobs(name))
        tables = DeltaTables(self.home.tables(name))
        tracking = Tracking(name, database=self.database, clock=self.clock, ids=self.ids)
        datasets = Datasets(
            project=name,
            database=self.database,
            ledger=self.ledger,
            leases=self.leases,
            tables=tables,
        )
        registry = Registry(
            project=name,
            database=self.database,
            ledger=self.ledger,
            blobs=blobs,
            tell=self.outbox.put,
        )
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
            start_run=lambda run: driver.begin(run),
            stop_run=lambda run: driver.stop_run(run),
            publishing=self._publishing,
        )
        driver = Driver(
            stages,
            owner=IN_PROCESS if self._lock is not None else RUN_PROCESS,
            start_attempt=self._begin,
            stop_attempt=lambda run: self._stop_attempt(run),
        )
        return Project(
            name=name,
            access=Access(
                name,
                self.database,
                self.ledger,
                self.ids,
                local_actor=self.config.actor,
                publish=self.tokens.publish,
            ),
            blobs=blobs,
            tables=tables,
            tracking=tracking,
            stages=stages,
            driver=driver,
            lease_s=lease.total_seconds(),
        )

    def _begin(self, attempt: Assignment) -> None:
        assert self._start_attempt is not None, "run_by comes before the first settling"
        self._start_attempt(attempt)


@dataclass(frozen=True, slots=True)
class _Driving:
    """How loops turn by themselves."""

    tick_s: float
    serving: Callable[[int], bool]


def _nothing_to_stop(run: str) -> None:
    """Attempts that are executed here end before anybody could stop them."""
