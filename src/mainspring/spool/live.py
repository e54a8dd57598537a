"""The spools of this process: one for each server, made when first written to, ended with it."""

import atexit
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mainspring.spool.folder import SpoolFolder
from mainspring.spool.line import HttpLine
from mainspring.spool.sender import Sender
from mainspring.spool.settings import SpoolSettings
from mainspring.spool.writer import SpoolWriter

LINE_TIMEOUT_S = 30.0


class SpoolWarning(UserWarning):
    """Something about what was logged that the user should know; training goes on."""


@dataclass(frozen=True, slots=True)
class LiveSpool:
    """A spool that is being written and sent."""

    folder: SpoolFolder
    writer: SpoolWriter
    line: HttpLine
    sender: Sender
    settings: SpoolSettings

    def append(self, path: str, body: bytes) -> int | None:
        """Keep a request; gives its number, or None where it is lost, which is told once."""
        number = self.writer.append(path, body)
        if number is None and self.writer.lost & (self.writer.lost - 1) == 0:
            warn(
                f"{self.writer.lost} calls that log are lost: {self.writer.why_lost} "
                f"({self.folder.path})"
            )
        return number

    def settle(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was logged is at the server; tells whether it is."""
        wait_s = self.settings.wait_s if timeout_s is None else timeout_s
        return self.sender.wait(self.writer.next, wait_s)


_live: dict[str, LiveSpool] = {}
_lock = threading.Lock()


def live_spool(
    target: str, credentials: Callable[[], Any], settings: SpoolSettings
) -> LiveSpool | None:
    """Give this process's spool for a server; None, told once, where the disk allows none."""
    with _lock:
        found = _live.get(target)
        if found is None:
            try:
                folder = SpoolFolder.create(settings.root, target)
            except OSError as error:
                warn(f"no spool in {settings.root} ({error}): calls wait for the server")
                return None
            writer = SpoolWriter(folder, limit_bytes=settings.limit_bytes)
            line = HttpLine(credentials, timeout_s=LINE_TIMEOUT_S)
            sender = Sender(folder, writer, line, warn=warn)
            found = _live[target] = LiveSpool(folder, writer, line, sender, settings)
        return found


def warn(what: str) -> None:
    """Tell the user; a filter that makes warnings errors must not end the training."""
    try:
        warnings.warn(f"mainspring: {what}", SpoolWarning, stacklevel=4)
    except SpoolWarning:
        print(f"mainspring: {what}", file=sys.stderr)


def _end() -> None:
    """Send what is left within the time for it, and say what is not."""
    for target, one in list(_live.items()):
        left = one.sender.end(one.settings.exit_s)
        if left:
            print(
                f"mainspring: {left} calls that logged to {target} wait in {one.folder.path}; the "
                f"next process that logs there sends them, or: mainspring spool flush "
                f"{one.settings.root}",
                file=sys.stderr,
            )
    _live.clear()


def _after_fork() -> None:
    """Leave the parent's spools to it: the child's threads are gone, and one may only be written
    by one process.
    """
    global _lock
    for one in _live.values():
        # Closes the child's copy only: the parent's lock stays.
        one.folder.release()
    _live.clear()
    _lock = threading.Lock()


atexit.register(_end)
os.register_at_fork(after_in_child=_after_fork)
