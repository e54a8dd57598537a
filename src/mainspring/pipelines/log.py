"""The log of a run: what its steps print and log, line by line with the time."""

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from mainspring.core.clock import Clock


class RunLog:
    """Appends lines to a run's log file. Thread-safe; a second attempt writes on below the first.

    Each line is `<time> <step> <stream> | <text>`.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._rest: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)

    def line(self, step: str, stream: str, text: str) -> None:
        """Write one line, or several when the text has line ends."""
        at = self._clock.now().isoformat(timespec="milliseconds")
        lines = [f"{at} {step or '-'} {stream} | {part}\n" for part in text.splitlines() or [""]]
        with self._lock, self.path.open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)

    def write(self, step: str, stream: str, text: str) -> None:
        """Take output as it comes; a line is written when it ends."""
        whole, end, rest = (self._rest.pop(stream, "") + text).rpartition("\n")
        if rest:
            self._rest[stream] = rest
        if end:
            self.line(step, stream, whole)

    def flush(self, step: str) -> None:
        """Write what has no line end yet."""
        for stream, rest in list(self._rest.items()):
            self.line(step, stream, rest)
        self._rest.clear()

    @contextmanager
    def capturing(self, step: str) -> Iterator[None]:
        """Send what this thread prints and logs within the block into the log.

        Other threads keep their own output: the process may do other work meanwhile.
        """
        token = _target.set((self, step))
        handler = _ToLog()
        root = logging.getLogger()
        level = root.level
        if level == logging.WARNING:
            # The default of a process that never set it up; a run wants to keep progress too.
            root.setLevel(logging.INFO)
        root.addHandler(handler)
        try:
            with _routed():
                yield
        finally:
            root.removeHandler(handler)
            if root.level == logging.INFO:
                root.setLevel(level)
            _target.reset(token)
            self.flush(step)


@dataclass(frozen=True, slots=True)
class LogPart:
    """Lines of a log, the byte behind them, and whether the log ends there."""

    lines: tuple[str, ...]
    next: int
    at_end: bool


def read_log(path: Path, offset: int, limit: int, *, over: bool) -> LogPart:
    """Read whole lines of a log that may be growing, from a byte on.

    A line longer than the limit comes in parts, none of them torn within a character.

    Args:
        limit: Bytes at most; 4 or more, so that a character fits.
        over: Nobody writes any more, so a last line without its end is given too.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(limit)
            at_end = not file.read(1)
    except FileNotFoundError:
        return LogPart((), offset, True)
    whole = content.rfind(b"\n") + 1
    if not whole and len(content) >= limit:
        whole = _whole_characters(content)
    if at_end and over:
        whole = len(content)
    text = content[:whole].decode("utf-8", "replace")
    lines = tuple(text.removesuffix("\n").split("\n")) if whole else ()
    return LogPart(lines, offset + whole, at_end and whole == len(content))


def _whole_characters(content: bytes) -> int:
    """Say how many bytes there are up to a character that is cut off at the end, if one is."""
    for behind in range(1, min(_CHARACTER, len(content) + 1)):
        lead = content[-behind]
        if lead >= 0xC0:
            length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return len(content) - behind if behind < length else len(content)
        if lead < 0x80:
            break
    return len(content)


_CHARACTER = 4
"""Bytes of a character at most."""

_target: ContextVar[tuple[RunLog, str] | None] = ContextVar("mainspring_log", default=None)


class _ToLog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        target = _target.get()
        if target is not None:
            log, step = target
            text = logging.Formatter("%(levelname)s %(name)s: %(message)s").format(record)
            log.line(step, "log", text)


class _Router(io.TextIOBase):
    """A standard stream that sends a capturing thread's text to its log, all else onward."""

    def __init__(self, onward: TextIO, stream: str) -> None:
        self._onward = onward
        self._stream = stream

    def write(self, text: str) -> int:
        target = _target.get()
        if target is None:
            return self._onward.write(text)
        log, step = target
        log.write(step, self._stream, text)
        return len(text)

    def flush(self) -> None:
        if _target.get() is None:
            self._onward.flush()

    def isatty(self) -> bool:
        return False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


@contextmanager
def _routed() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    mine = _Router(sys.stdout, "out"), _Router(sys.stderr, "err")
    sys.stdout, sys.stderr = mine
    try:
        yield
    finally:
        # Another run may have put its router on top; it passes on what is not its own.
        if sys.stdout is mine[0]:
            sys.stdout = before[0]
        if sys.stderr is mine[1]:
            sys.stderr = before[1]
