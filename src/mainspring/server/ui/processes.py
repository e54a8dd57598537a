"""The platform's own processes: what the supervisor says of them, and the memory each holds."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mainspring.formats.wire import Process

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Watched(Protocol):
    """Whoever hears of the supervisor's processes; control does."""

    @property
    def processes(self) -> Sequence[Process]:
        """Give the newest list."""
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """One process as the first page shows it."""

    role: str
    name: str
    pid: int
    state: str
    restarts: int
    started: datetime
    memory_bytes: int | None


def lines(watched: Watched | None) -> list[Line]:
    """List the processes; none when the platform runs in a single one."""
    return [
        Line(one.role, one.name, one.pid, one.state, one.restarts, one.started, resident(one.pid))
        for one in (watched.processes if watched is not None else ())
    ]


def resident(pid: int) -> int | None:
    """Give the bytes of memory that a process holds, if the system says so."""
    if pid <= 0:
        return None
    try:
        return int(Path(f"/proc/{pid:d}/statm").read_text("ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
