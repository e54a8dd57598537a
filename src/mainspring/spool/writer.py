"""The writing end of a spool: a request is kept when `append` returns, and `append` never fails."""

import os
import threading
from pathlib import Path

import msgspec

from mainspring.formats.frame import FrameFile
from mainspring.spool.folder import PART_BYTES, Request, SpoolFolder, part_path


class SpoolWriter:
    """Appends requests to a spool's files. Thread-safe.

    A request that was appended survives the death of the process; within a second, when its sender
    has synced it, a loss of power too.

    Args:
        folder: The spool; this process owns it.
        limit_bytes: What may wait on disk; beyond it requests are lost, and counted.
    """

    def __init__(self, folder: SpoolFolder, *, limit_bytes: int) -> None:
        self._folder = folder.path
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._file: FrameFile | None = None
        self._freed: int = 0
        self._written = 0
        self.next = 0
        """Number of the next request."""
        self.lost = 0
        """Requests that the disk, or the limit, had no room for."""
        self.why_lost = ""

    def append(self, path: str, body: bytes) -> int | None:
        """Keep a request; gives its number, or None where it is lost."""
        payload = _encode(Request(path, body))
        with self._lock:
            if self._written + len(payload) - self._freed > self._limit_bytes:
                self._lose(f"more than {self._limit_bytes >> 20} MiB wait")
                return None
            try:
                self._open_part().append(payload)
            except OSError as error:
                self._lose(error.strerror or str(error))
                return None
            number, self.next = self.next, self.next + 1
            self._written += len(payload)
            return number

    def sync(self) -> None:
        """Make what was appended survive a loss of power, as far as the disk does."""
        with self._lock:
            if self._file is not None:
                try:
                    self._file.sync()
                except OSError as error:
                    self.why_lost = error.strerror or str(error)
                    self._close()

    def free(self, size_bytes: int) -> None:
        """Note that so much need not wait any more."""
        with self._lock:
            self._freed += size_bytes

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._close()

    def _open_part(self) -> FrameFile:
        if self._file is not None and self._file.end >= PART_BYTES:
            self._close()
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            path: Path = part_path(self._folder, self.next)
            descriptor = os.open(path, flags, 0o600)
            self._file = FrameFile(descriptor, os.fstat(descriptor).st_size)
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _lose(self, why: str) -> None:
        self.lost += 1
        self.why_lost = why


_encode = msgspec.msgpack.Encoder().encode
