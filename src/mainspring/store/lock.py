"""The home's lock: one process owns a home, and the others can say who."""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from mainspring.core.errors import Unavailable
from mainspring.core.ids import canonical

_TRIES = 5
_PAUSE_S = 0.02


class Holder(msgspec.Struct, frozen=True):
    """Who holds a home."""

    pid: int
    role: str


class HomeLock:
    """An exclusive lock on a file, freed by the kernel when the process ends, however it ends.

    Children of `exec` do not inherit it. The file stays where it is.
    """

    def __init__(self, path: Path, *, role: str) -> None:
        self._path = path
        self._role = role
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock, at once or not at all.

        Raises:
            Unavailable: Another holder has it; the message names its pid and role.
        """
        assert self._file is None, "a home lock is taken once"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tries = 0
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_at_path(file):
                    break
            except OSError as error:
                os.close(file)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                tries += 1
                if tries == _TRIES:
                    raise Unavailable(self._refusal()) from error
                # Whoever asks for the holder has the lock for an instant: that is none.
                time.sleep(_PAUSE_S)
                continue
            # Somebody removed the file between open and lock: a lock on it excludes nobody.
            os.close(file)
        os.ftruncate(file, 0)
        # On a full disk the lock holds all the same; only its holder stays unnamed.
        with suppress(OSError):
            os.pwrite(file, canonical(Holder(os.getpid(), self._role)), 0)
        self._file = file

    def release(self) -> None:
        """Give the lock up. Idempotent."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = None

    def holder(self) -> Holder | None:
        """Say who holds the lock now; the answer may be old when it arrives."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
        finally:
            os.close(file)
        return None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _refusal(self) -> str:
        holder = self.holder()
        who = f"process {holder.pid} ({holder.role})" if holder else "another process"
        return f"home {self._path.parent}: held by {who}; speak to it, or stop it and repeat"


def _read(file: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(file, 4096, 0), type=Holder)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
