"""Open what a command speaks to: the home of the project it was called in."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mainspring.core.errors import NotFound

if TYPE_CHECKING:
    from mainspring.api.client import Client
    from mainspring.core.config import Config, Setting

DEFAULT_HOME = ".mainspring"
MARKS = (DEFAULT_HOME, "mainspring.toml")


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
    """Read the configuration of the directory this was called in, or of one above it.

    A `--home` is meant as seen from here, a configured one as seen from the project.
    """
    from mainspring.core.config import load

    directory = project_directory(Path.cwd())
    home = None if common.home is None else str(Path.cwd() / common.home)
    config, listed = load(directory, flags={"home": home, "project": common.project})
    return config, listed, directory


def project_directory(start: Path) -> Path:
    """Find the nearest directory, from here up, that holds a home or a configuration."""
    for directory in (start, *start.parents):
        if any((directory / mark).exists() for mark in MARKS):
            return directory
    return start


@contextmanager
def opened(common: Common, *, make: bool = False) -> Iterator["Client"]:
    """Open the home for one command.

    Args:
        common: Options of the command.
        make: Make a home that is not there.

    Raises:
        NotFound: There is none, and it is not to be made: a look must leave nothing behind.
    """
    from mainspring.api.local import open_local

    config, _, directory = settings(common)
    home = directory / config.home
    if not make and not home.is_dir():
        raise NotFound(f"home {home} does not exist; `mainspring apply project.py` makes it")
    with open_local(config, home) as client:
        yield client
