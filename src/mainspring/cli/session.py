"""Open what a command speaks to: the home of the project it was called in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from mainspring.api.client import Client
    from mainspring.core.config import Config, Setting

MARKS = (".mainspring", "mainspring.toml")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every command."""

    json: Annotated[bool, Parameter(negative="")] = False
    """Print JSON."""
    home: str | None = None
    """Directory of the state; default: .mainspring beside the project."""
    project: str | None = None
    """Project to speak of."""


DEFAULTS = Common()


def settings(common: Common) -> "tuple[Config, list[Setting], Path]":
    """Read the configuration of the directory this was called in, or of one above it."""
    from mainspring.core.config import load

    directory = project_directory(Path.cwd())
    config, listed = load(directory, flags={"home": common.home, "project": common.project})
    return config, listed, directory


def project_directory(start: Path) -> Path:
    """Find the nearest directory, from here up, that holds a home or a configuration."""
    for directory in (start, *start.parents):
        if any((directory / mark).exists() for mark in MARKS):
            return directory
    return start


@contextmanager
def opened(common: Common) -> Iterator["Client"]:
    """Open the home for one command."""
    from mainspring.api.local import open_local

    config, _, directory = settings(common)
    with open_local(config, directory / config.home) as client:
        yield client
