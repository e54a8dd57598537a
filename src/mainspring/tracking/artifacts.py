"""Artifacts: rows that lead from a path of a run or a logged model to a blob.

A path is never a file: what a client names is looked up here, and only a digest reaches the disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, null, select, update

from mainspring.core.errors import InvalidInput, NotFound, Refused
from mainspring.core.ids import Digest
from mainspring.store.database import Database
from mainspring.tracking.limits import checked_path
from mainspring.tracking.location import is_own, own_path
from mainspring.tracking.run import ArtifactFile
from mainspring.tracking.tables import ARTIFACT, LOGGED_MODEL, RUN_RECORD, TRACE

ROOT = "artifacts"
"""Last part of every owner's location."""


class Entry(msgspec.Struct, frozen=True):
    """A file or a folder as a listing shows it; a folder has no size."""

    path: str
    size_bytes: int | None


class Place(msgspec.Struct, frozen=True):
    """Where a proxy path leads: an owner and a path below it, empty for its root."""

    owner: str
    path: str


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The verbs of artifacts in one project."""

    project: str
    database: Database

    def locate(self, path: str) -> Place:
        """Find whose artifacts a proxy path names, such as `0/<run>/artifacts/plots/roc.png`.

        Raises:
            InvalidInput: The path is not plain.
            NotFound: No run or logged model keeps its artifacts there.
        """
        parts = checked_path(path).split("/")
        with self.database.read() as connection:
            for end, part in enumerate(parts):
                if part != ROOT or end == 0:
                    continue
                row = self._owner(connection, parts[end - 1])
                root = "/".join(parts[: end + 1])
                if row is not None and is_own(row.location) and own_path(row.location) == root:
                    return Place(parts[end - 1], "/".join(parts[end + 1 :]))
        raise NotFound(
            f"artifact path {path[:200]!r}: no run or logged model keeps its artifacts there; use "
            "the artifact_uri that the server gave"
        )

    def location(self, owner: str) -> str:
        """Say where a run or a logged model keeps its artifacts."""
        with self.database.read() as connection:
            row = self._owner(connection, owner)
        if row is None:
            raise NotFound(f"Run with id={owner[:60]} not found")
        return str(row.location)

    def put(self, place: Place, *, digest: Digest, size_bytes: int) -> None:
        """Let a path lead to a blob; one that was there leads to the new one.

        Raises:
            Refused: The owner is deleted, or a closed run of a pipeline.
        """
        file = ArtifactFile(checked_path(place.path), digest, size_bytes)

        def work(connection: Connection) -> None:
            self._writable(connection, place.owner)
            put_artifacts(connection, self.project, place.owner, [file])

        self.database.write(work)

    def check_writable(self, place: Place) -> None:
        """Refuse early what `put` would refuse, before the bytes are taken."""
        if not place.path:
            raise InvalidInput("Invalid path: an upload names a file below the artifact root")
        checked_path(place.path)
        with self.database.read() as connection:
            self._writable(connection, place.owner)

    def remove(self, place: Place) -> int:
        """Remove a file, or a folder with all below it; gives how many files there were."""

        def work(connection: Connection) -> int:
            self._writable(connection, place.owner)
            mine = self._of(place.owner)
            if place.path:
                paths = [f.path for f in self._files(connection, place.owner, place.path)]
                mine &= ARTIFACT.c.path.in_(paths)
            return connection.execute(delete(ARTIFACT).where(mine)).rowcount

        return self.database.write(work)

    def file(self, place: Place) -> ArtifactFile:
        """Give the file at a path."""
        query = select(ARTIFACT).where(self._of(place.owner), ARTIFACT.c.path == place.path)
        with self.database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"No such artifact: '{place.path[:200]}'")
        return _file(row)

    def files(self, place: Place) -> Mapping[str, Digest]:
        """Give all files at or below a path, by their path relative to it."""
        with self.database.read() as connection:
            found = self._files(connection, place.owner, place.path)
        cut = len(place.path) + 1 if place.path else 0
        return {file.path[cut:]: file.digest for file in found if file.path[cut:]}

    def listing(self, place: Place) -> list[Entry]:
        """List a folder: its files and folders by name; a missing one is empty."""
        mine = self._of(place.owner)
        here = place.path
        with self.database.read() as connection:
            rows = connection.execute(
                select(ARTIFACT.c.path, ARTIFACT.c.size_bytes).where(
                    mine, ARTIFACT.c.folder == here
                )
            ).all()
            folders = connection.execute(select(ARTIFACT.c.folder).where(mine).distinct())
            below = {_child(folder, here) for folder in folders.scalars()}
        entries = [Entry(row.path, row.size_bytes) for row in rows]
        entries += [Entry(folder, None) for folder in below if folder is not None]
        return sorted(entries, key=lambda entry: entry.path)

    def _files(self, connection: Connection, owner: str, path: str) -> list[ArtifactFile]:
        rows = connection.execute(select(ARTIFACT).where(self._of(owner)).order_by(ARTIFACT.c.path))
        return [
            _file(row)
            for row in rows
            if not path or row.path == path or row.path.startswith(f"{path}/")
        ]

    def _writable(self, connection: Connection, owner: str) -> None:
        row = self._owner(connection, owner)
        if row is None:
            raise NotFound(f"Run with id={owner[:60]} not found")
        if row.deleted_ms is not None:
            raise Refused(
                f"The run {owner} must be in the 'active' state. Current state is deleted."
            )
        if row.managed and row.status != "running":
            raise Refused(f"run {owner} of a pipeline is {row.status}: what it logged is sealed")

    def _owner(self, connection: Connection, owner: str) -> Any:
        mine = (RUN_RECORD.c.project == self.project) & (RUN_RECORD.c.run == owner)
        query = select(
            RUN_RECORD.c.location,
            RUN_RECORD.c.deleted_ms,
            RUN_RECORD.c.managed,
            RUN_RECORD.c.status,
        )
        row = connection.execute(query.where(mine)).first()
        if row is not None:
            return row
        trace = (TRACE.c.project == self.project) & (TRACE.c.trace == owner)
        if owner.startswith("tr-"):
            # A trace is neither hidden nor managed.
            never = TRACE.c.trace.is_(None).label("managed")
            gone = null().label("deleted_ms")
            query = select(TRACE.c.location, TRACE.c.state.label("status"), never, gone)
            return connection.execute(query.where(trace)).first()
        model = (LOGGED_MODEL.c.project == self.project) & (LOGGED_MODEL.c.model == owner)
        columns = (LOGGED_MODEL.c.location, LOGGED_MODEL.c.deleted_ms, LOGGED_MODEL.c.status)
        # A logged model is never managed.
        unmanaged = LOGGED_MODEL.c.model.is_(None).label("managed")
        return connection.execute(select(*columns, unmanaged).where(model)).first()

    def _of(self, owner: str) -> Any:
        return (ARTIFACT.c.project == self.project) & (ARTIFACT.c.owner == owner)


def put_artifacts(
    connection: Connection, project: str, owner: str, files: Sequence[ArtifactFile]
) -> None:
    """Let paths of an owner lead to blobs, inside a write."""
    for file in files:
        values = {"digest": file.digest, "size_bytes": file.size_bytes}
        mine = (ARTIFACT.c.project == project) & (ARTIFACT.c.owner == owner)
        path = checked_path(file.path)
        same = mine & (ARTIFACT.c.path == path)
        if connection.execute(update(ARTIFACT).where(same).values(**values)).rowcount == 0:
            folder = path.rpartition("/")[0]
            row = {"project": project, "owner": owner, "path": path, "folder": folder, **values}
            connection.execute(insert(ARTIFACT).values(row))


def artifacts_of(connection: Connection, project: str, owner: str) -> dict[str, ArtifactFile]:
    """Give all files of an owner by path."""
    mine = (ARTIFACT.c.project == project) & (ARTIFACT.c.owner == owner)
    rows = connection.execute(select(ARTIFACT).where(mine).order_by(ARTIFACT.c.path))
    return {row.path: _file(row) for row in rows}


def _file(row: Row[Any]) -> ArtifactFile:
    return ArtifactFile(row.path, Digest(row.digest), row.size_bytes)


def _child(folder: str, here: str) -> str | None:
    """Give the folder directly below `here` that a folder lies in or is."""
    if folder == here or (here and not folder.startswith(f"{here}/")):
        return None
    return (
        folder[: len(here) + 1] + folder[len(here) + 1 :].split("/")[0]
        if here
        else (folder.split("/")[0] or None)
    )
