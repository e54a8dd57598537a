"""The stages the loop drives, of one project, handed over by `platform.py`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.core.ids import Id, IdSource, Subject
from mainspring.data.datasets import Datasets
from mainspring.features.push import Features
from mainspring.loop.measured import MeasuredWindows
from mainspring.monitoring.monitoring import Monitoring
from mainspring.pipelines.runs import Runs
from mainspring.registry.versions import Registry
from mainspring.store.blobs import Blobs
from mainspring.store.database import Database
from mainspring.store.leases import Leases
from mainspring.store.ledger import Ledger

ACTOR = "loop"
"""The actor of facts that the loop decided by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What the loop may ask and tell.

    `start_run` begins an attempt of an open run; it may return before the run ends. `stop_run`
    ends whatever still works on a closed one. `publishing` is held while the routes, one file for
    all projects, are read and replaced.
    """

    project: str
    config: Config
    home: Home
    clock: Clock
    ids: IdSource
    database: Database
    ledger: Ledger
    leases: Leases
    blobs: Blobs
    datasets: Datasets
    features: Features
    runs: Runs
    registry: Registry
    monitoring: Monitoring
    start_run: Callable[[Id], None]
    stop_run: Callable[[Id], None]
    publishing: Lock
    measured: MeasuredWindows = field(default_factory=MeasuredWindows)

    def subject(self, kind: str, name: str) -> Subject:
        """Name a subject of this project."""
        return Subject(self.project, kind, name)
