"""Backing a home up and restoring one: work on its directory, whoever owns it.

These are no verbs: they name directories of the machine, which no client of a server may do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
from sqlalchemy import Connection

from mainspring.api.local import open_local
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.data.history import delta_versions
from mainspring.formats.segment import segment_of
from mainspring.governance.audit import AuditAnswer
from mainspring.monitoring.compaction import planned_ranges
from mainspring.store import backup
from mainspring.store.copies import Told
from mainspring.store.deltalog import Commit


class BackedUp(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, and the point it stands for: its newest fact."""

    directory: str
    made: datetime
    seq: int
    hash: str
    files: int
    size_bytes: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A restored home, what it was made from, and what its audit found."""

    home: str
    backup: BackedUp
    audit: AuditAnswer


def back_up(
    home: Path, target: Path, *, clock: Clock | None = None, told: Told = lambda _: None
) -> BackedUp:
    """Copy a home as of now into a new directory, while its platform runs or not."""
    made = backup.back_up(
        Home(home.absolute()),
        target.absolute(),
        now=(clock or SystemClock()).now(),
        version=version("mainspring"),
        knowing=KnownFiles.of,
        told=told,
    )
    return _said(target, made)


def restore(source: Path, home: Path, config: Config, *, told: Told = lambda _: None) -> Restored:
    """Make a home from a backup and audit it."""
    restored = backup.restore(source.absolute(), Home(home.absolute()), told=told)
    with open_local(config, home) as client:
        found = client.verify()
    return Restored(home=str(home), backup=_said(source, restored), audit=found)


@dataclass(frozen=True, slots=True)
class KnownFiles:
    """What a database knows of Delta tables and segments."""

    versions: Mapping[tuple[str, str], int]
    """By project and dataset's table: the newest that a fact names."""
    ranges: Mapping[tuple[str, str], int]
    """By project and segment: the last planned one."""
    ends: Mapping[str, int]
    """By segment: where the last planned range ends."""

    @classmethod
    def of(cls, connection: Connection) -> "KnownFiles":
        """Read it from a database."""
        planned = planned_ranges(connection)
        ends: dict[str, int] = {}
        for one in planned:
            ends[one.segment] = max(one.end, ends.get(one.segment, 0))
        ranges = {(one.project, one.segment): one.number for one in planned}
        return cls(delta_versions(connection), ranges, ends)

    def has_version(self, project: str, table: str, version: int, commit: Commit) -> bool:
        """Say whether a version of a Delta table is known.

        A dataset's are those that facts name. A table of predictions takes ranges of segments
        that were planned before; one planned later begins and ends elsewhere under the same number.
        """
        if table.startswith(("dataset.", "quarantine.")):
            return version <= self.versions.get((project, table), -1)
        if table.startswith(("predictions.", "shadows.")):
            return all(
                number <= self.ranges.get((project, segment), -1)
                for segment, number in commit.tokens.items()
            )
        return True

    def segment_end(self, name: str) -> int:
        """Give the bytes of a segment's file that are in tables already."""
        return self.ends.get(segment_of(name), 0)


def _said(directory: Path, made: backup.Backup) -> BackedUp:
    return BackedUp(
        directory=str(directory),
        made=made.made,
        seq=made.seq,
        hash=made.hash,
        files=len(made.files),
        size_bytes=made.size_bytes,
    )
