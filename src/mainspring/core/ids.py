"""Identifiers: time-ordered ids, subjects, digests."""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, NewType

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput

Id = NewType("Id", str)
"""A UUIDv7 in 32 lower-case hex digits."""

Digest = NewType("Digest", str)
"""A SHA-256 in 64 lower-case hex digits."""

Seq = NewType("Seq", int)
"""The number of a fact in the ledger, from 1 on; 0 stands for "no fact yet"."""

NO_FACT = Seq(0)
DEFAULT_PROJECT = "default"

# The first digit of the tail: two bits say which UUID it is, two are random.
_VARIANT = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,127}")


class IdSource:
    """Makes UUIDv7 ids that never go backwards within one source, even when the clock does.

    Thread-safe. The 12 bits after the version count ids of one millisecond.
    """

    def __init__(self, clock: Clock, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._lock = Lock()
        self._last = 0

    def new(self) -> Id:
        """Make one id."""
        return self.several(1)[0]

    def several(self, count: int) -> list[Id]:
        """Make ids in their order; together they cost less than one by one."""
        now_ms = int(self._clock.now().timestamp() * 1000)
        with self._lock:
            first = max(now_ms << 12, self._last + 1)
            self._last = first + count - 1
        tails = self._entropy(8 * count).hex()
        ids = []
        for i in range(count):
            tick, at = first + i, 16 * i
            begin = f"{tick >> 12:012x}7{tick & 0xFFF:03x}{_VARIANT[tails[at]]}"
            ids.append(Id(begin + tails[at + 1 : at + 16]))
        return ids


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a fact speaks of: one named thing of one kind in one project."""

    project: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> "Subject":
        """Read the printed form, `project/kind/name`."""
        parts = text.split("/")
        if len(parts) != 3:
            raise InvalidInput(
                f"subject {text!r}: found {len(parts)} parts, expected project/kind/name"
            )
        return cls(*(checked_name(part, what="subject") for part in parts))


def checked_name(name: str, *, what: str) -> str:
    """Return the name if it may stand in a subject, else say what may.

    Names are the only client strings that reach storage keys, so the alphabet is closed:
    letters, digits and `_ . : @ -`, not starting with a punctuation mark, 128 at most.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{what} name {name!r} is not allowed: use 1 to 128 letters, digits, '_', '-', '.', "
            "':' or '@', starting with a letter, digit or '_'"
        )
    return name


def canonical(value: Any) -> bytes:
    """Encode to the one JSON text that equal values share (keys sorted, no spaces, UTF-8)."""
    return _canonical_json.encode(value)


def digest_of(value: Any) -> Digest:
    """Digest a value by its canonical encoding."""
    return digest_bytes(canonical(value))


def digest_bytes(content: bytes) -> Digest:
    """Digest raw bytes."""
    return Digest(hashlib.sha256(content).hexdigest())


_canonical_json = msgspec.json.Encoder(order="deterministic")
