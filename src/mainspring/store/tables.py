"""Delta tables: rows appended once per token, durable on return, read at a version."""

import errno
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from mainspring.core.errors import (
    Corrupt,
    InvalidInput,
    MainspringError,
    Misconfigured,
    NotFound,
    Refused,
    SchemaMismatch,
    StorageFull,
    Unavailable,
)
from mainspring.core.ids import checked_name
from mainspring.store.columns import fitted, table_schema
from mainspring.store.deltalog import commit_path, find_token, read_commit, sync_commit, sync_files

_CHECKPOINT_EVERY = 50
_ATTEMPTS = 5
_FULL = re.compile(rf"os error ({errno.ENOSPC}|{errno.EFBIG}|{errno.EDQUOT})\b")
# Versions are pinned by facts and tokens must stay findable: no log entry is ever cleaned away.
_CONFIGURATION = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
}
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


# delta-rs takes `%20` for a space and `[` for a host, Polars takes `=` for a partition's value.
_MISREAD = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]\\=]")


class _LocalTable(DeltaTable):
    """A table whose files are named as the disk does: delta-rs leaves the folder's URL quoted."""

    def file_uris(self, *filters: Any, **predicates: Any) -> list[str]:
        quoted = self.table_uri.removeprefix("file://")
        folder = unquote(quoted)
        files = super().file_uris(*filters, **predicates)
        return [folder + file.removeprefix(quoted) for file in files]


@dataclass(slots=True)
class _Open:
    """What this process keeps of one table."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)
    newest: DeltaTable | None = None
    """Moves on; used under the lock only."""
    schema: pl.Schema | None = None
    reader: DeltaTable | None = None
    """Stays at its version; lazy frames hold it."""
    landed: dict[str, int | None] = field(default_factory=dict)
    """By writer, the highest number as of version `landed_at`."""
    landed_at: int = -1
    settled: bool = False
    unsynced: str | None = None


class DeltaTables:
    """The Delta tables below a folder. Thread-safe.

    Writers of other processes are seen. A writer's numbers grow; gaps are allowed.

    Raises:
        Misconfigured: The folder's path holds a character that libraries misread.
    """

    def __init__(self, root: Path) -> None:
        if found := _MISREAD.search(os.path.realpath(root)):
            raise Misconfigured(
                f"folder {root}: found {found[0]!r} in its path, which the libraries of Delta "
                "tables misread; choose a home without it"
            )
        self._root = root
        self._lock = threading.Lock()
        self._tables: dict[str, _Open] = {}

    def append(
        self,
        name: str,
        frame: pl.DataFrame,
        *,
        writer: str,
        number: int,
        partition_by: Sequence[str] = (),
    ) -> int:
        """Append rows as one version, created with the table if it is the first, and durable.

        Idempotent by (writer, number): a repeat writes nothing, whatever its rows.

        Returns:
            The Delta version that holds this token's rows, also on a repeat.

        Raises:
            SchemaMismatch: Columns or types do not fit the table exactly.
            Refused: The writer has gone on past this number, which never landed.
            StorageFull: The disk refused; no row is visible.
        """
        if not writer or number < 0:
            raise InvalidInput(
                f"table {name}: token {writer!r}:{number}; expected a writer and a number from 0 on"
            )
        table = self._open(name)
        with table.lock:
            for _ in range(_ATTEMPTS):
                repeated = _landed_at(table, writer, number)
                if repeated is not None:
                    _settle(table, repeated)
                    return repeated
                version = _try_append(table, frame, writer, number, partition_by)
                if version is not None:
                    _settle(table, version)
                    _shorten(table, version)
                    return version
        raise Unavailable(
            f"table {name}: {_ATTEMPTS} appends met another writer's; take the table's lease"
        )

    def read(self, name: str, *, version: int | None = None) -> pl.LazyFrame:
        """Read a version lazily, the newest by default; it stays that version.

        Raises:
            NotFound: There is no such table or version.
        """
        table = self._open(name)
        with table.lock:
            newest = _refresh(table)
            if newest is None:
                raise NotFound(f"table {name} does not exist; nothing was appended yet")
            wanted = newest.version() if version is None else version
            if not 0 <= wanted <= newest.version():
                raise NotFound(
                    f"table {name}: version {wanted} does not exist, newest is {newest.version()}"
                )
            if table.reader is None or table.reader.version() != wanted:
                table.reader = _load(table.path, wanted)
            return pl.scan_delta(table.reader)

    def version(self, name: str) -> int | None:
        """Give the newest version; null when there is no table."""
        table = self._open(name)
        with table.lock:
            newest = _refresh(table)
            return None if newest is None else newest.version()

    def landed(self, name: str, writer: str) -> int | None:
        """Give the highest number that a writer has landed."""
        table = self._open(name)
        with table.lock:
            newest = _refresh(table)
            return None if newest is None else _landed(table, newest, writer)

    def _open(self, name: str) -> _Open:
        checked_name(name, what="table")
        with self._lock:
            if name not in self._tables:
                self._tables[name] = _Open(self._root / name)
            return self._tables[name]


def _refresh(table: _Open) -> DeltaTable | None:
    """Bring the cached table up to its newest version; cheap when nothing was added."""
    if table.newest is None:
        if not DeltaTable.is_deltatable(str(table.path)):
            return None
        if table.path.is_symlink():
            raise Corrupt(f"table {table.path.name}: found a link, expected a folder; remove it")
        table.newest = _load(table.path, None)
    elif commit_path(table.path, table.newest.version() + 1).exists():
        table.newest.update_incremental()
    return table.newest


def _load(path: Path, version: int | None) -> DeltaTable:
    try:
        return _LocalTable(path, version=version)
    except (DeltaError, OSError) as error:
        raise Corrupt(f"table {path.name}: not readable ({error}); restore it") from error


def _landed(table: _Open, newest: DeltaTable, writer: str) -> int | None:
    # delta-rs takes a millisecond for it, so it is asked once per writer and foreign version.
    if table.landed_at != newest.version():
        table.landed, table.landed_at = {}, newest.version()
    if writer not in table.landed:
        table.landed[writer] = newest.transaction_version(writer)
    return table.landed[writer]


def _landed_at(table: _Open, writer: str, number: int) -> int | None:
    newest = _refresh(table)
    landed = None if newest is None else _landed(table, newest, writer)
    if newest is None or landed is None or landed < number:
        return None
    version = find_token(table.path, newest.version(), writer=writer, number=number)
    if version is None:
        raise Refused(
            f"table {table.path.name}: writer {writer!r} has landed {landed} and never landed "
            f"{number}; give the rows a new number"
        )
    return version


def _try_append(
    table: _Open, frame: pl.DataFrame, writer: str, number: int, partition_by: Sequence[str]
) -> int | None:
    """Write one version; null when another writer came first and the token must be looked up."""
    name = table.path.name
    if table.newest is not None and table.schema is None:
        table.schema = pl.scan_delta(table.newest).collect_schema()
    schema = table.schema if table.schema is not None else table_schema(frame, table=name)
    rows = fitted(frame, schema, table=name)
    try:
        write_deltalake(
            table.path if table.newest is None else table.newest,
            rows,
            mode="append",
            partition_by=list(partition_by) or None,
            configuration=_CONFIGURATION if table.newest is None else None,
            commit_properties=CommitProperties(app_transactions=[Transaction(writer, number)]),
            post_commithook_properties=_NO_HOOKS,
        )
    except (DeltaError, OSError) as error:
        return _after_failure(table, error, writer, number)
    newest = _refresh(table)
    assert newest is not None
    version = newest.version()
    if read_commit(table.path, version).tokens.get(writer) == number:
        if version == table.landed_at + 1:
            table.landed[writer], table.landed_at = number, version
        return version
    return _landed_at(table, writer, number)


def _after_failure(table: _Open, error: Exception, writer: str, number: int) -> int | None:
    """Tell an append that failed from one that landed all the same."""
    table.newest = None
    version = _landed_at(table, writer, number)
    if version is not None or isinstance(error, CommitFailedError):
        return version
    raise _named(table.path.name, error) from error


def _named(name: str, error: Exception) -> MainspringError:
    if _FULL.search(str(error)):
        return StorageFull(f"table {name}: disk full; no row is visible: free space and repeat")
    if isinstance(error, DeltaError):
        return SchemaMismatch(f"table {name}: the rows cannot be written ({error}); correct them")
    return Unavailable(f"table {name}: {error}; check the disk and repeat")


def _settle(table: _Open, version: int) -> None:
    """Make a version durable before anybody rests on it."""
    name = table.path.name
    if table.unsynced is not None:
        raise Unavailable(table.unsynced)
    try:
        for unsure in {version} if table.settled else {version, *_left_behind(table)}:
            sync_commit(table.path, unsure)
    except OSError as error:
        # The kernel may have dropped the pages, and a second fsync would say all is well.
        table.unsynced = f"table {name}: version {version} is not on disk ({error}); restart"
        raise Unavailable(table.unsynced) from error
    table.settled = True


def _left_behind(table: _Open) -> set[int]:
    """Name the versions that a process killed between commit and sync may have left unsynced."""
    newest = _refresh(table)
    assert newest is not None
    return {max(newest.version() - 1, 0), newest.version()}


def _shorten(table: _Open, version: int) -> None:
    """Sum the log up now and then; without it the table is whole, only slower to open."""
    newest = table.newest
    if newest is None or (version + 1) % _CHECKPOINT_EVERY:
        return
    with suppress(DeltaError, OSError):
        newest.create_checkpoint()
        log = table.path / "_delta_log"
        sums = [*log.glob(f"{newest.version():020d}.checkpoint*.parquet"), log / "_last_checkpoint"]
        sync_files(sums, top=table.path)
    # A freshly loaded table starts from the checkpoint; an updated one keeps growing slower.
    table.newest = None
