"""What a run worked with: interpreter, system, exact packages, hardware, and the code's commit."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.ids import Digest, digest_bytes

_SOURCES = {".py", ".toml", ".yaml", ".yml", ".json", ".sql", ".cfg", ".txt"}
_LARGEST_BYTES = 1_000_000
_GIT_TIMEOUT_S = 20


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the project folder's repository."""

    commit: str | None
    """Null before the first commit."""
    branch: str | None
    dirty: bool
    patch: Digest | None
    """Of the changes since the commit, new source files included; null when clean."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """The machine, as far as a model's numbers and speed may depend on it."""

    machine: str
    cpu: str
    cpus: int
    memory_bytes: int
    gpus: tuple[str, ...]
    """Models of the GPUs; empty says there is none."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run is reproduced with, besides its code and data."""

    python: str
    implementation: str
    system: str
    packages: dict[str, str]
    hardware: Hardware
    code: Commit | None
    """Null where the project is in no repository."""


def capture(folder: Path) -> tuple[Environment, bytes]:
    """Record the environment, and the patch that the project folder carries (empty when clean)."""
    code, patch = _commit(folder)
    return (
        Environment(
            python=platform.python_version(),
            implementation=sys.implementation.name,
            system=f"{platform.system()} {platform.release()}",
            packages=dict(_packages()),
            hardware=_hardware(),
            code=code,
        ),
        patch,
    )


@cache
def _packages() -> tuple[tuple[str, str], ...]:
    found = {
        str(distribution.metadata["Name"]): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    return tuple(sorted(found.items()))


@cache
def _hardware() -> Hardware:
    return Hardware(
        machine=platform.machine(),
        cpu=_cpu_model(),
        cpus=os.cpu_count() or 1,
        memory_bytes=_memory_bytes(),
        gpus=_gpus(),
    )


def _cpu_model() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _gpus() -> tuple[str, ...]:
    folder = Path("/proc/driver/nvidia/gpus")
    cards = sorted(folder.glob("*/information")) if folder.is_dir() else []
    return tuple(
        line.partition(":")[2].strip()
        for card in cards
        for line in _lines(card)
        if line.startswith("Model")
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _commit(folder: Path) -> tuple[Commit | None, bytes]:
    if _git(folder, "rev-parse", "--is-inside-work-tree") is None:
        return None, b""
    commit = _text(_git(folder, "rev-parse", "--verify", "--quiet", "HEAD"))
    branch = _text(_git(folder, "symbolic-ref", "--quiet", "--short", "HEAD"))
    changes = _git(folder, "diff", "--binary", "HEAD", "--", ".") if commit else b""
    patch = (changes or b"") + _untracked(folder)
    state = Commit(
        commit=commit,
        branch=branch,
        dirty=bool(patch),
        patch=digest_bytes(patch) if patch else None,
    )
    return state, patch


def _untracked(folder: Path) -> bytes:
    """Give new source files as a patch; data, hidden folders and large files are not code."""
    listed = _git(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", ".") or b""
    parts: list[bytes] = []
    for name in sorted(filter(None, listed.decode("utf-8", "replace").split("\0"))):
        path = folder / name
        hidden = any(part.startswith(".") for part in Path(name).parts)
        if hidden or path.suffix not in _SOURCES or not path.is_file():
            continue
        if path.stat().st_size <= _LARGEST_BYTES:
            # Exit status 1 says that the two differ, which is what is wanted here.
            new = _git(folder, "diff", "--no-index", "--binary", "--", "/dev/null", name, ok=(0, 1))
            parts.append(new or b"")
    return b"".join(parts)


def _git(folder: Path, *arguments: str, ok: tuple[int, ...] = (0,)) -> bytes | None:
    """Run git, or give None where it or the repository is missing or fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode in ok else None


def _text(output: bytes | None) -> str | None:
    return output.decode("utf-8", "replace").strip() or None if output is not None else None


def as_json(environment: Environment) -> dict[str, Any]:
    """Give the environment as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(environment)
    return plain
