"""Uploads in parts: pieces of a file to come, in any order, and again after a break.

A part is a file among the blobs' temporary ones: whole under its name or not there. Nothing of an
upload is a blob before `complete`; what nobody goes on with is swept.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from mainspring.core.clock import Instant
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import Digest
from mainspring.store.blobs import FolderBlobs, full_disk_named

PARTS_AT_MOST = 10_000

_PART = re.compile(r"upload-[0-9a-f]{32}\.(?P<number>\d{1,5})\.(?P<digest>[0-9a-f]{64})")
_ID = re.compile(r"[0-9a-f]{32}")
_CHUNK_BYTES = 1 << 20
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is there."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Uploads:
    """The uploads of one store of blobs. Thread-safe."""

    blobs: FolderBlobs

    def begin(self, note: bytes) -> str:
        """Begin an upload; `note` is kept for whoever goes on with it. Gives its secret id."""
        upload = secrets.token_hex(16)
        self.put_note(upload, note)
        return upload

    def put_note(self, upload: str, note: bytes) -> None:
        """Replace the note, durably."""
        with self.blobs.temporary() as folder, full_disk_named():
            name = f"upload-{upload}"
            file = os.open(f"{name}.new", _FLAGS | os.O_TRUNC, 0o600, dir_fd=folder)
            with os.fdopen(file, "wb") as opened:
                opened.write(note)
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(f"{name}.new", name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)

    def note(self, upload: str) -> bytes:
        """Give the note of an upload that was begun.

        Raises:
            NotFound: There is none of this id, or it was swept.
        """
        with self.blobs.temporary() as folder:
            try:
                file = os.open(_name(upload), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            except FileNotFoundError as error:
                raise _unknown() from error
            with os.fdopen(file, "rb") as opened:
                return opened.read()

    def part(self, upload: str, number: int) -> "IncomingPart":
        """Begin to take a part; one that is there is replaced once the new one is whole."""
        if not 1 <= number <= PARTS_AT_MOST:
            raise InvalidInput(f"part {number}: expected a number of 1 to {PARTS_AT_MOST}")
        return IncomingPart(self, upload, number)

    def parts(self, upload: str) -> Mapping[int, Part]:
        """List the parts that are there, by number."""
        with self.blobs.temporary() as folder:
            found = _parts(folder, _name(upload))
            return {
                number: Part(digest, os.stat(name, dir_fd=folder).st_size)
                for number, (name, digest) in sorted(found.items())
            }

    def complete(self, upload: str, parts: Sequence[tuple[int, str]]) -> tuple[Digest, int]:
        """Make a blob of parts, one after the other; they stay until `forget`.

        Args:
            parts: Numbers in rising order, each with the digest that was answered for it.

        Raises:
            InvalidInput: A part is not there, has another digest, or they are out of order.
        """
        numbers = [number for number, _ in parts]
        if not numbers or numbers != sorted(set(numbers)):
            raise InvalidInput("parts: expected the number of each once, in rising order")
        with self.blobs.temporary() as folder, self.blobs.incoming() as whole:
            there = _parts(folder, _name(upload))
            for number, digest in parts:
                name, found = there.get(number, ("", ""))
                if not name or found != digest:
                    raise InvalidInput(
                        f"part {number}: found {found[:12] or 'none'}, expected {digest[:64]!r}; "
                        "send the part again and repeat with what is answered for it"
                    )
                for chunk in _chunks(folder, name):
                    whole.write(chunk)
            return whole.finish(), whole.size_bytes

    def forget(self, upload: str, *, note: bool = True) -> None:
        """Remove the parts of an upload, and its note."""
        with self.blobs.temporary() as folder:
            for name, _ in _parts(folder, _name(upload)).values():
                _remove(folder, name)
            if note:
                _remove(folder, _name(upload))

    def sweep(self, before: Instant) -> int:
        """Remove the uploads of which nothing was touched since; gives how many there were."""
        with self.blobs.temporary() as folder:
            touched: dict[str, float] = {}
            names: dict[str, list[str]] = {}
            for name in os.listdir(folder):
                if name.startswith("upload-"):
                    upload = name[:39]
                    with suppress(FileNotFoundError):
                        at = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
                        touched[upload] = max(at, touched.get(upload, 0.0))
                        names.setdefault(upload, []).append(name)
            old = [upload for upload, at in touched.items() if at < before.timestamp()]
            for upload in old:
                for name in names[upload]:
                    _remove(folder, name)
            return len(old)


class IncomingPart:
    """A part whose bytes come in pieces; a context, used by one thread at a time."""

    def __init__(self, uploads: Uploads, upload: str, number: int) -> None:
        self._uploads = uploads
        self._name = _name(upload)
        self._number = number
        self._hash = sha256()
        # Its own name, for two senders of one part must not write into one file.
        self._temporary = f"{self._name}.{number}.{secrets.token_hex(8)}.new"
        with uploads.blobs.temporary() as folder, full_disk_named():
            self._file = os.open(self._temporary, _FLAGS | os.O_EXCL, 0o600, dir_fd=folder)

    def write(self, chunk: bytes | bytearray) -> None:
        """Take the next piece; raises StorageFull."""
        self._hash.update(chunk)
        rest = memoryview(chunk)
        with full_disk_named():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def finish(self) -> str:
        """Give the part its name, durably; gives its digest."""
        digest = self._hash.hexdigest()
        with full_disk_named(), self._uploads.blobs.temporary() as folder:
            os.fsync(self._file)
            name = f"{self._name}.{self._number}.{digest}"
            before = _parts(folder, self._name).get(self._number)
            os.replace(self._temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            if before is not None and before[0] != name:
                _remove(folder, before[0])
            os.fsync(folder)
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        with self._uploads.blobs.temporary() as folder:
            _remove(folder, self._temporary)


def _name(upload: str) -> str:
    if not _ID.fullmatch(upload):
        raise _unknown()
    return f"upload-{upload}"


def _unknown() -> NotFound:
    return NotFound("upload: there is none of this id, or it lay too long; begin it anew")


def _parts(folder: int, upload: str) -> dict[int, tuple[str, str]]:
    """Find the parts of an upload: number -> name, digest."""
    found: dict[int, tuple[str, str]] = {}
    for name in os.listdir(folder):
        match = _PART.fullmatch(name) if name.startswith(f"{upload}.") else None
        if match is not None:
            found[int(match["number"])] = (name, match["digest"])
    return found


def _chunks(folder: int, name: str) -> Iterator[bytes]:
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    with os.fdopen(file, "rb") as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            yield chunk


def _remove(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
