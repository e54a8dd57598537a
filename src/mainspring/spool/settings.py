"""What the environment says about the spool."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mainspring.core.errors import Misconfigured

FOLDER = "MAINSPRING_SPOOL"
LIMIT = "MAINSPRING_SPOOL_LIMIT_MIB"
EXIT = "MAINSPRING_SPOOL_EXIT_S"
WAIT = "MAINSPRING_SPOOL_WAIT_S"


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Where a spool is, and its bounds."""

    root: Path
    limit_bytes: int = 1 << 30
    """What may wait on disk."""
    exit_s: float = 10.0
    """How long a process that ends waits until all is sent."""
    wait_s: float = 5.0
    """How long what reads, or begins a run, waits for what was logged before."""

    @classmethod
    def of_environment(cls) -> Self | None:
        """Read them; None where no spool is wanted.

        Raises:
            Misconfigured: A bound is no number.
        """
        folder = os.environ.get(FOLDER, "")
        if folder.lower() in ("", "0", "off", "false", "no"):
            return None
        if folder.lower() in ("1", "on", "true", "yes"):
            state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
            folder = f"{state}/mainspring/spool"
        return cls(
            Path(folder).expanduser().absolute(),
            int(_number(LIMIT, 1024) * (1 << 20)),
            _number(EXIT, 10),
            _number(WAIT, 5),
        )


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        found = float(text) if text else default
    except ValueError as error:
        raise _wrong(name, text) from error
    if not 0 <= found < 1e9:
        raise _wrong(name, text)
    return found


def _wrong(name: str, text: str) -> Misconfigured:
    return Misconfigured(f"{name}: found {text[:40]!r}, expected 0 or more; correct it")
