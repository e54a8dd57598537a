"""The commits of a Delta table as files: which tokens they carry, which files make them durable.

delta-rs writes a commit's data files and then its log entry, and never asks the disk to keep them.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import msgspec

from mainspring.core.errors import Corrupt


class _Add(msgspec.Struct):
    path: str


class _Txn(msgspec.Struct, rename="camel"):
    app_id: str
    version: int


class _Action(msgspec.Struct):
    add: _Add | None = None
    txn: _Txn | None = None


class Commit(msgspec.Struct, frozen=True):
    """What one version added."""

    files: tuple[str, ...]
    """Paths of data files, relative to the table."""
    tokens: dict[str, int]
    """Writer -> number."""


def commit_path(table: Path, version: int) -> Path:
    """Say where a version's log entry lies."""
    return table / "_delta_log" / f"{version:020d}.json"


def read_commit(table: Path, version: int) -> Commit:
    """Read one version's log entry.

    Raises:
        Corrupt: It is missing or cut off.
    """
    try:
        lines = commit_path(table, version).read_bytes().splitlines()
        actions = [_decoder.decode(line) for line in lines if line]
    except (OSError, msgspec.MsgspecError) as error:
        raise Corrupt(
            f"table {table.name}: log entry of version {version} is not readable ({error}); "
            "restore it from a backup"
        ) from error
    return Commit(
        tuple(unquote(action.add.path) for action in actions if action.add),
        {action.txn.app_id: action.txn.version for action in actions if action.txn},
    )


def find_token(table: Path, newest: int, *, writer: str, number: int) -> int | None:
    """Find the version that carries a token, the newest first: retries follow soon.

    Log entries are kept for good, so that old tokens are found too, at about 50 us a version.
    """
    for version in range(newest, -1, -1):
        found = read_commit(table, version).tokens.get(writer)
        if found is not None and found <= number:
            return version if found == number else None
    return None


def sync_commit(table: Path, version: int) -> None:
    """Make one version durable: its data files, its log entry, and their folders."""
    files = [table / name for name in read_commit(table, version).files]
    # The first version brings the table's own folder, and perhaps the folder of all tables.
    top = table if version > 0 else table.parent.parent
    sync_files([*files, commit_path(table, version)], top=top)


def sync_files(files: Iterable[Path], *, top: Path) -> None:
    """Make files durable, then every folder between them and `top`, deepest first."""
    folders: set[Path] = {top}
    for file in files:
        _sync(file, os.O_RDONLY | os.O_NOFOLLOW)
        folders.update(folder for folder in file.parents if folder.is_relative_to(top))
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    opened = os.open(path, flags)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


_decoder = msgspec.json.Decoder(_Action)
