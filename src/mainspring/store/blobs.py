"""Blobs: immutable bytes addressed by their digest, durable once `put` returns."""

import errno
import itertools
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

from mainspring.core.clock import Instant
from mainspring.core.errors import Corrupt, InvalidInput, NotFound, StorageFull
from mainspring.core.ids import Digest, digest_bytes

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK_BYTES = 2**20
_TEMPORARY = "tmp"


class Blobs(Protocol):
    """A store of immutable bytes. Methods are idempotent and thread-safe."""

    def put(self, content: bytes) -> Digest:
        """Store bytes durably; raises StorageFull."""
        ...

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes durably, without holding them in memory; raises StorageFull."""
        ...

    def get(self, digest: Digest) -> bytes:
        """Give the bytes; raises NotFound, or Corrupt when they do not have their digest."""
        ...

    def path(self, digest: Digest) -> Path:
        """Give a local file with the bytes, to be read only; raises NotFound."""
        ...

    def delete(self, digest: Digest) -> None:
        """Remove a blob if it is there."""
        ...


class FolderBlobs:
    """Blobs in a folder: `ab/cdef...` by digest, complete or absent at every instant.

    No link is followed below the root, and only a digest becomes a name.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._synced: set[str] = set()

    def put(self, content: bytes) -> Digest:
        """Store bytes durably."""
        digest = digest_bytes(content)
        with self._folder(digest[:2], create=True) as folder:
            if _size_at(folder, digest[2:]) == len(content):
                # Its writer may have been killed before the folder's entry was durable.
                os.fsync(folder)
                return digest
        return self._store((content,))

    def put_file(self, path: Path) -> Digest:
        """Store a file's bytes durably; the digest is of the bytes that were read."""
        with path.open("rb") as file:
            return self._store(iter(lambda: file.read(_CHUNK_BYTES), b""))

    def get(self, digest: Digest) -> bytes:
        """Give the bytes, with their digest verified."""
        _checked(digest)
        with self._folder(digest[:2]) as folder:
            try:
                file = os.open(digest[2:], os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            except OSError as error:
                raise _unreadable(digest, error) from error
            with os.fdopen(file, "rb") as opened:
                content = opened.read()
        if digest_bytes(content) != digest:
            raise Corrupt(
                f"blob {digest}: its {len(content)} bytes have digest {digest_bytes(content)}; "
                "restore it from a backup"
            )
        return content

    def path(self, digest: Digest) -> Path:
        """Give the blob's file, without reading it."""
        _checked(digest)
        with self._folder(digest[:2]) as folder:
            if _size_at(folder, digest[2:]) is None:
                raise NotFound(f"blob {digest} does not exist; check the digest")
        return self._root / digest[:2] / digest[2:]

    def delete(self, digest: Digest) -> None:
        """Remove a blob if it is there."""
        _checked(digest)
        with suppress(NotFound), self._folder(digest[:2]) as folder:
            with suppress(FileNotFoundError):
                os.unlink(digest[2:], dir_fd=folder)
            os.fsync(folder)

    def incoming(self) -> "Incoming":
        """Begin a blob whose bytes come in pieces; raises StorageFull."""
        return Incoming(self)

    @contextmanager
    def temporary(self) -> Iterator[int]:
        """Give the folder of what is no blob yet, by descriptor."""
        with self._folder(_TEMPORARY, create=True) as folder:
            yield folder

    def sweep(self, before: Instant) -> int:
        """Remove what killed writers left behind: temporary files not touched since.

        Returns:
            How many there were.
        """
        swept = 0
        with self._folder(_TEMPORARY, create=True) as temporary:
            for name in os.listdir(temporary):
                with suppress(FileNotFoundError):
                    found = os.stat(name, dir_fd=temporary, follow_symlinks=False)
                    if found.st_mtime < before.timestamp():
                        os.unlink(name, dir_fd=temporary)
                        swept += 1
        return swept

    def _store(self, chunks: Iterable[bytes]) -> Digest:
        with self._folder(_TEMPORARY, create=True) as temporary, full_disk_named():
            name, file = _temporary_file(temporary)
            try:
                digest, size = _write(file, chunks)
                with self._folder(digest[:2], create=True) as folder:
                    _link(temporary, name, folder, digest[2:], size)
                    os.fsync(folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=temporary)
        return digest

    @contextmanager
    def _folder(self, name: str, *, create: bool = False) -> Iterator[int]:
        """Open a folder of the store by descriptor, never through a link."""
        folder = self._open_folder(name, create=create)
        try:
            yield folder
        finally:
            os.close(folder)

    def _open_folder(self, name: str, *, create: bool) -> int:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if create and name not in self._synced:
                with suppress(FileExistsError), full_disk_named():
                    os.mkdir(name, dir_fd=root)
                os.fsync(root)
                self._synced.add(name)
            return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except FileNotFoundError as error:
            self._synced.discard(name)
            raise NotFound(f"blob {name}... does not exist; check the digest") from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Corrupt(
                    f"blobs: {name!r} is no folder of ours; remove what is there"
                ) from error
            raise
        finally:
            os.close(root)


class Incoming:
    """A blob whose bytes come in pieces: nothing is visible before `finish`, nothing kept if it
    never comes. Used as a context, by one thread at a time.
    """

    def __init__(self, blobs: FolderBlobs) -> None:
        self._blobs = blobs
        self._hash = sha256()
        self.size_bytes = 0
        with blobs._folder(_TEMPORARY, create=True) as temporary, full_disk_named():
            self._name, self._file = _temporary_file(temporary)

    def write(self, chunk: bytes | bytearray) -> None:
        """Take the next piece; raises StorageFull."""
        self._hash.update(chunk)
        self.size_bytes += len(chunk)
        rest = memoryview(chunk)
        with full_disk_named():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def finish(self) -> Digest:
        """Make the blob durable and visible; gives its digest."""
        digest = Digest(self._hash.hexdigest())
        with full_disk_named():
            os.fsync(self._file)
            with (
                self._blobs._folder(_TEMPORARY) as temporary,
                self._blobs._folder(digest[:2], create=True) as folder,
            ):
                _link(temporary, self._name, folder, digest[2:], self.size_bytes)
                os.fsync(folder)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        with (
            suppress(NotFound, FileNotFoundError),
            self._blobs._folder(_TEMPORARY) as temporary,
        ):
            os.unlink(self._name, dir_fd=temporary)


def _temporary_file(folder: int) -> tuple[str, int]:
    while True:
        name = f"{os.getpid()}-{next(_numbers)}"
        # Taken only by a killed process that had our number; it is left for the sweep.
        with suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            return name, os.open(name, flags, 0o644, dir_fd=folder)


def _write(file: int, chunks: Iterable[bytes]) -> tuple[Digest, int]:
    hashed, size = sha256(), 0
    with os.fdopen(file, "wb", buffering=0) as opened:
        for chunk in chunks:
            hashed.update(chunk)
            rest = memoryview(chunk)
            size += len(rest)
            while rest:
                rest = rest[opened.write(rest) :]
        os.fsync(opened.fileno())
    return Digest(hashed.hexdigest()), size


def _link(temporary: int, name: str, folder: int, target: str, size: int) -> None:
    """Give complete bytes their name; a damaged namesake is replaced, a sound one kept."""
    try:
        os.link(name, target, src_dir_fd=temporary, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        if _size_at(folder, target) != size:
            os.replace(name, target, src_dir_fd=temporary, dst_dir_fd=folder)


def _size_at(folder: int, name: str) -> int | None:
    """Give a regular file's size; null for anything else."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _checked(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"digest {digest[:80]!r}: expected 64 of 0-9 and a-f; check it")


def _unreadable(digest: Digest, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"blob {digest} does not exist; check the digest")
    if error.errno == errno.ELOOP:
        return Corrupt(f"blob {digest}: found a link, expected a file; remove it")
    return error


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Turn the system's ways of saying that a disk is full into StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(
            f"blob: {error.strerror}; nothing was stored: free space and repeat"
        ) from error


_numbers = itertools.count()
