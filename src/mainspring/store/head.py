"""The head file: the newest fact's number and hash, kept beside the database.

A ledger that ends before its head was cut off. A ledger that goes on after it is sound: the
process was killed between the commit and the head's renewal.
"""

import contextlib
import os
from pathlib import Path
from threading import Lock

import msgspec

from mainspring.core.errors import Corrupt
from mainspring.core.ids import NO_FACT, Digest, Seq, canonical

GENESIS = Digest("0" * 64)
"""What the first fact carries in place of the hash before it."""


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of the chain."""

    seq: Seq
    hash: Digest


class HeadFile:
    """Follows the ledger; never goes back. Thread-safe. Without a path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = Lock()
        self._held = self.read()[0]
        self._newest = self._held or Head(NO_FACT, GENESIS)

    def read(self) -> tuple[Head | None, list[str]]:
        """Read the file: what it holds, and a finding if it is no head."""
        if self.path is None:
            return None, []
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Head), []
        except FileNotFoundError:
            return None, []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return None, [f"head file {self.path.name} is not readable: {error}"]

    def check(self, tail: Head) -> None:
        """Refuse to go on from a chain that lacks acknowledged facts; begin the file if new.

        Appending to it would renew the head and hide what is missing.
        """
        held = self._held
        if held is None:
            if tail.seq == NO_FACT:
                self._write(tail)
        elif tail.seq < held.seq or (tail.seq == held.seq and tail.hash != held.hash):
            raise Corrupt(
                f"ledger: ends with fact {tail.seq}, expected fact {held.seq} with hash "
                f"{held.hash[:12]} as the head file says; restore the database, or remove "
                "the head file to accept the loss"
            )

    def advance(self, head: Head) -> None:
        """Renew the file after a commit; of several threads the newest head wins."""
        with self._lock:
            if head.seq > self._newest.seq:
                self._newest = head
            if self._held is None or self._newest.seq > self._held.seq:
                self._write(self._newest)

    def _write(self, head: Head) -> None:
        # The facts are durable already; a head that stays behind because the disk is full is
        # sound, and the next append renews it.
        with contextlib.suppress(OSError):
            if self.path is not None:
                fresh = self.path.with_name(f"{self.path.name}.new")
                with fresh.open("wb") as file:
                    file.write(canonical(head))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(fresh, self.path)
            self._held = head
