"""Backups: a copy of a home as of one instant, made while the home is at work.

Online tables and routes are copied before the database's snapshot: a table that lags behind the
record of pushes catches up from it, one that is ahead would swallow pushes. All else comes after
the snapshot, which refers only to what was there before it, and is cut where the snapshot ends. Of
a Delta table that is the last version it knows of: a token that landed unknown would be refused for
good to a writer who sends its rows again. Of a segment it is the size before the snapshot: a later
answer may name a rollout that the restored loop will never have begun.
"""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec
from sqlalchemy import URL, Connection, create_engine, select, update
from sqlalchemy.pool import NullPool

from mainspring.core.clock import Instant
from mainspring.core.errors import Corrupt, NotFound, Unavailable
from mainspring.core.home import Home
from mainspring.core.ids import NO_FACT, Digest, Seq, canonical
from mainspring.store.chain import LEDGER
from mainspring.store.copies import (
    Copied,
    FileCopies,
    Told,
    check_free,
    digest_of_file,
    files_below,
    placed,
)
from mainspring.store.deltalog import Commit, commit_path, read_commit
from mainspring.store.head import GENESIS, Head
from mainspring.store.leases import LEASE
from mainspring.store.sqlite import take_snapshot

MANIFEST = "backup.json"
CONTENT = "home"
_FORMAT = 1
_ATTEMPTS = 20
_LOG_ENTRY = re.compile(r"(\d{20})\.(json|checkpoint\..*parquet)")
_BLOB_FOLDER = re.compile(r"[0-9a-f]{2}")


class Known(Protocol):
    """What a database knows of the files beside it."""

    def has_version(self, project: str, table: str, version: int, commit: Commit) -> bool:
        """Say whether it knows a version of a Delta table."""
        ...

    def segment_end(self, name: str) -> int:
        """Give the bytes of a segment's file that it refers to."""
        ...


Knowing = Callable[[Connection], Known]


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backup holds, and the point it stands for.

    Attributes:
        made: When it began: what was acknowledged by then is in it.
        seq: Number of its newest fact.
        hash: Of that fact; keep it elsewhere, and nobody can pass off another ledger.
        version: Of the mainspring that made it.
    """

    format: int
    version: str
    made: datetime
    seq: Seq
    hash: Digest
    files: tuple[Copied, ...]

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files)


def back_up(
    home: Home,
    target: Path,
    *,
    now: Instant,
    version: str,
    knowing: Knowing,
    told: Told = lambda _: None,
) -> Backup:
    """Copy a home, at work or not, into a new directory.

    Leases in the copy are over, because nobody works there. The home's lock, addresses, worker
    states, platform logs and unpacked sources are left out.

    Raises:
        AlreadyExists, InvalidInput, NotFound: The target cannot be one.
        Corrupt: The database or a blob is damaged, so a copy would be none.
        StorageFull: No room; nothing is left behind.
        Unavailable: The database is not there or held.
    """
    check_free(target, apart_from=[home.root], empty=False)
    if not home.database.is_file():
        raise NotFound(f"home {home.root}: there is no {home.database.name} in it; check the path")
    with placed(target) as unfinished:
        content = unfinished / CONTENT
        copies = FileCopies(content, told)
        content.mkdir()
        if home.routes.is_file():
            copies.copy(home.routes, home.routes.name)
        for project in _projects(home):
            _copy_online(home, project, copies)
        answered = {path: path.stat().st_size for path in files_below(home.segments)}
        head, known = _snapshot(home, content, knowing)
        copies.write(home.ledger_head.name, canonical(head))
        for path in files_below(home.segments):
            size = max(answered.get(path, 0), known.segment_end(path.name))
            copies.copy(path, _relative(home, path), size=size)
        for project in _projects(home):
            _copy_project(home, project, copies, known)
        size, digest = digest_of_file(content / home.database.name)
        backup = Backup(
            format=_FORMAT,
            version=version,
            made=now,
            seq=head.seq,
            hash=head.hash,
            files=(Copied(home.database.name, size, digest), *copies.done),
        )
        (unfinished / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(backup)))
    return backup


def restore(source: Path, home: Home, *, told: Told = lambda _: None) -> Backup:
    """Make a home from a backup, after every file of it has shown its digest.

    Args:
        home: Not there, or an empty directory.

    Raises:
        AlreadyExists, InvalidInput, NotFound: The home cannot be made there, or there is no backup.
        Corrupt: Files are missing or altered; the message names them. Nothing is left behind.
        StorageFull: No room; nothing is left behind.
    """
    backup = read_backup(source)
    check_free(home.root, apart_from=[source], empty=True)
    content = source / CONTENT
    findings = [text for file in backup.files if (text := _finding(content, file))]
    if findings:
        raise _damaged(source, findings)
    with placed(home.root) as unfinished:
        copies = FileCopies(unfinished, told)
        for file in backup.files:
            if copies.copy(content / file.path, file.path) != file:
                raise _damaged(source, [f"{file.path} changed while it was copied"])
    return backup


def read_backup(source: Path) -> Backup:
    """Read what a backup says of itself; a copy that was not finished says nothing."""
    try:
        backup = msgspec.json.decode((source / MANIFEST).read_bytes(), type=Backup)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"directory {source}: it holds no {MANIFEST}, so it is no backup") from error
    except msgspec.DecodeError as error:
        raise Corrupt(
            f"backup {source}: {MANIFEST} is not readable ({error}); use another backup, or the "
            "version of mainspring that made it"
        ) from error
    if strange := [file.path for file in backup.files if not _is_ours(file.path)]:
        raise Corrupt(f"backup {source}: {strange[0]!r} is no path of a home; use another backup")
    return backup


def _snapshot(home: Home, content: Path, knowing: Knowing) -> tuple[Head, Known]:
    path = content / home.database.name
    take_snapshot(home.database, path)
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(update(LEASE).values(token=None, ends_us=0))
        tail = select(LEDGER.c.seq, LEDGER.c.hash).order_by(LEDGER.c.seq.desc()).limit(1)
        row = connection.execute(tail).first()
        known = knowing(connection)
    head = Head(NO_FACT, GENESIS) if row is None else Head(Seq(row.seq), Digest(row.hash))
    return head, known


def _projects(home: Home) -> list[str]:
    folder = home.root / "projects"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _copy_online(home: Home, project: str, copies: FileCopies) -> None:
    """Copy the online tables, each in one generation: `current` is the same before and after."""
    folder = home.online(project)
    for view in sorted(folder.iterdir()) if folder.is_dir() else []:
        for _ in range(_ATTEMPTS):
            generation = _content(view / "current")
            if generation is None or _copy_view(home, view, generation, copies):
                break
            copies.forget(_relative(home, view))
        else:
            raise Unavailable(f"online table {view.name}: it changed {_ATTEMPTS} times; repeat")


def _copy_view(home: Home, view: Path, generation: bytes, copies: FileCopies) -> bool:
    try:
        for path in files_below(view):
            if not path.name.startswith("."):
                _copy_at(home, path, copies)
    except FileNotFoundError:
        return False
    return _content(view / "current") == generation


def _copy_project(home: Home, project: str, copies: FileCopies, known: Known) -> None:
    blobs = home.blobs(project)
    for folder in sorted(blobs.iterdir()) if blobs.is_dir() else []:
        if _BLOB_FOLDER.fullmatch(folder.name):
            for path in files_below(folder):
                _copy_blob(home, path, copies)
    for path in files_below(home.runs(project)):
        _copy_at(home, path, copies)
    tables = home.tables(project)
    for table in sorted(tables.iterdir()) if tables.is_dir() else []:
        _copy_table(home, project, table, copies, known)


def _copy_blob(home: Home, path: Path, copies: FileCopies) -> None:
    copied = _copy_at(home, path, copies)
    if copied.digest != path.parent.name + path.name:
        raise Corrupt(
            f"blob {path.parent.name}{path.name}: its {copied.size} bytes have digest "
            f"{copied.digest}; restore it from an earlier backup"
        )


def _copy_table(home: Home, project: str, table: Path, copies: FileCopies, known: Known) -> None:
    """Copy a Delta table up to the last version that the snapshot knows of."""
    log = table / "_delta_log"
    entries = [(path, int(m[1])) for path in files_below(log) if (m := _log_entry(path))]
    last = _last_known(project, table, (number for _, number in entries), known)
    if last is None:
        return
    for version in range(last + 1):
        for name in read_commit(table, version).files:
            _copy_at(home, table / name, copies)
    for path, number in entries:
        if number <= last:
            _copy_at(home, path, copies)
    newest_sum = _content(log / "_last_checkpoint")
    if newest_sum is not None and msgspec.json.decode(newest_sum)["version"] <= last:
        copies.write(_relative(home, log / "_last_checkpoint"), newest_sum)


def _last_known(project: str, table: Path, numbers: Iterable[int], known: Known) -> int | None:
    for version in sorted(set(numbers), reverse=True):
        if commit_path(table, version).exists() and known.has_version(
            project, table.name, version, read_commit(table, version)
        ):
            return version
    return None


def _log_entry(path: Path) -> re.Match[str] | None:
    return _LOG_ENTRY.fullmatch(path.name)


def _copy_at(home: Home, path: Path, copies: FileCopies) -> Copied:
    return copies.copy(path, _relative(home, path))


def _relative(home: Home, path: Path) -> str:
    return path.relative_to(home.root).as_posix()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_ours(path: str) -> bool:
    parts = path.split("/")
    return not ({"", ".", ".."} & set(parts)) and "\0" not in path


def _finding(content: Path, file: Copied) -> str | None:
    try:
        found = digest_of_file(content / file.path)
    except OSError as error:
        return f"{file.path}: {error.strerror}"
    except Corrupt as error:
        return str(error)
    return None if found == (file.size, file.digest) else f"{file.path}: altered"


def _damaged(source: Path, findings: list[str]) -> Corrupt:
    shown = "; ".join(findings[:5])
    return Corrupt(
        f"backup {source}: {len(findings)} files are not what {MANIFEST} says: {shown}; "
        "nothing was restored: use another backup"
    )
