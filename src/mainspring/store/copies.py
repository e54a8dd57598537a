"""Copying files so that a copy is whole, has a known digest, and lasts."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from mainspring.core.errors import (
    AlreadyExists,
    Corrupt,
    InvalidInput,
    NotFound,
    StorageFull,
    Unavailable,
)
from mainspring.core.ids import Digest

_CHUNK_BYTES = 2**20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

Told = Callable[[int], None]
"""Is told how many bytes were copied since it was told last."""


class Copied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a copy."""

    path: str
    """Relative, with `/`."""
    size: int
    digest: Digest


class FileCopies:
    """Copies files into a folder and keeps the list of them."""

    def __init__(self, target: Path, told: Told) -> None:
        self._target = target
        self._told = told
        self._done: dict[str, Copied] = {}

    @property
    def done(self) -> tuple[Copied, ...]:
        """The copies, by path."""
        return tuple(self._done[path] for path in sorted(self._done))

    def copy(self, source: Path, path: str, *, size: int | None = None) -> Copied:
        """Copy a file, as long as it was when it was opened; what it gains meanwhile is left out.

        Args:
            size: Bytes at most, from the beginning.

        Raises:
            Corrupt: It is a link or no file.
        """
        target = self._target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        hashed, left = sha256(), 0
        with os.fdopen(_opened(source), "rb") as file, target.open("xb") as copy:
            found = os.fstat(file.fileno()).st_size
            whole = left = found if size is None else min(found, size)
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                hashed.update(chunk)
                copy.write(chunk)
                left -= len(chunk)
                self._told(len(chunk))
        self._done[path] = Copied(path, whole - left, Digest(hashed.hexdigest()))
        return self._done[path]

    def write(self, path: str, content: bytes) -> None:
        """Make a file of these bytes."""
        target = self._target / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        self._done[path] = Copied(path, len(content), Digest(sha256(content).hexdigest()))

    def forget(self, prefix: str) -> None:
        """Take the copies below a folder back."""
        shutil.rmtree(self._target / prefix, ignore_errors=True)
        self._done = {p: one for p, one in self._done.items() if not p.startswith(f"{prefix}/")}


def digest_of_file(path: Path) -> tuple[int, Digest]:
    """Give the size and digest of a file's bytes, without holding them in memory."""
    hashed, size = sha256(), 0
    with os.fdopen(_opened(path), "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
    return size, Digest(hashed.hexdigest())


def files_below(folder: Path) -> Iterator[Path]:
    """List the files below a folder in a steady order; a folder that is not there has none.

    Raises:
        Corrupt: A link is among them: following it would copy what is not ours.
    """
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(here) / f).is_symlink())]):
            path = Path(here) / name
            if path.is_symlink():
                raise _link(path)
            yield path


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Fill a folder beside `target`; it gets that name when the block ends, whole and synced.

    When the block raises, nothing is left. Killed, it leaves a folder with another name.

    Args:
        target: Not there, or an empty folder; its parent must exist.
    """
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        with _disk_named(target):
            unfinished.mkdir()
            yield unfinished
            _sync_all(unfinished)
            os.rename(unfinished, target)
            _sync(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def check_free(target: Path, *, apart_from: Sequence[Path], empty: bool) -> None:
    """Refuse a place to copy to that would harm what is there, or be part of what is copied.

    Args:
        empty: An empty folder counts as not there.
    """
    if not target.name or not target.parent.is_dir():
        raise NotFound(f"directory {target.parent} does not exist; make it first")
    for other in apart_from:
        if target.resolve().is_relative_to(other.resolve()):
            raise InvalidInput(f"directory {target}: it lies inside {other}; choose one outside")
    if os.path.lexists(target) and not (empty and _is_empty(target)):
        raise AlreadyExists(f"directory {target}: it is there already; choose a new one")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link(path) from error
        raise


def _link(path: Path) -> Corrupt:
    return Corrupt(f"{path}: found a link, expected a file of ours; remove it")


def _sync_all(folder: Path) -> None:
    """Sync last, after all was written: the disk then has most of it already."""
    for here, _, names in os.walk(folder):
        for name in names:
            _sync(Path(here) / name)
        _sync(Path(here))


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _disk_named(target: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Unavailable(
            f"{error.filename}: it went away while it was copied; nothing was kept: repeat"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"directory {target}: {error.strerror}; nothing was kept: free space and repeat"
            ) from error
        raise
