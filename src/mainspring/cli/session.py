"""Open what a command speaks to: the platform that is up, or the home in this process."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mainspring.core.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from mainspring.api.client import Client
    from mainspring.core.config import Config, Setting
    from mainspring.core.home import Home
    from mainspring.supervisor.roster import Roster

DEFAULT_HOME = ".mainspring"
MARKS = (DEFAULT_HOME, "mainspring.toml")

_BEGIN_S = 5.0
_LOOK_S = 0.02


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


def settings(
    common: Common, *, flags: Mapping[str, Any] | None = None
) -> "tuple[Config, list[Setting], Path]":
    """Read the configuration of the directory this was called in, or of one above it.

    A `--home` is meant as seen from here, a configured one as seen from the project.

    Args:
        common: Options of the command.
        flags: Further settings that were given as options; None stands for not given.
    """
    from mainspring.core.config import load

    directory = project_directory(Path.cwd())
    home = None if common.home is None else str(Path.cwd() / common.home)
    given = {"home": home, "project": common.project, **(flags or {})}
    config, listed = load(directory, flags=given)
    return config, listed, directory


def home_of(config: "Config", directory: Path) -> "Home":
    """Give the home of a configuration, absolute."""
    from mainspring.core.home import Home

    return Home((directory / config.home).absolute())


def project_directory(start: Path) -> Path:
    """Find the nearest directory, from here up, that holds a home or a configuration."""
    for directory in (start, *start.parents):
        if any((directory / mark).exists() for mark in MARKS):
            return directory
    return start


@contextmanager
def opened(common: Common, *, make: bool = False) -> Iterator["Client"]:
    """Open what holds the home: over HTTP while the platform is up, else in this process.

    Args:
        common: Options of the command.
        make: Make a home that is not there.

    Raises:
        NotFound: There is none, and it is not to be made: a look must leave nothing behind.
        Unavailable: Another command has the home, or the platform does not answer.
    """
    config, _, directory = settings(common)
    home = home_of(config, directory)
    if not make and not home.root.is_dir():
        raise NotFound(f"home {home.root} does not exist; `mainspring apply project.py` makes it")
    roster = what_is_up(home)
    if roster is not None:
        with _remote(roster.url, config, home) as client:
            yield client
        return
    from mainspring.api.local import open_local

    with open_local(config, home.root) as client:
        yield client


def what_is_up(home: "Home") -> "Roster | None":
    """Give the addresses of the platform that is up; None when none is.

    Raises:
        Unavailable: One has the home and does not say where it is.
    """
    from mainspring.supervisor.roster import read_roster, supervisor_of

    deadline_s = time.monotonic() + _BEGIN_S
    while True:
        roster = read_roster(home)
        if roster is not None:
            return roster
        holder = supervisor_of(home)
        if holder is None:
            return None
        # It has the lock and is about to bind its sockets, or is just going.
        if time.monotonic() > deadline_s:
            raise Unavailable(
                f"home {home.root}: held by process {holder.pid} ({holder.role}), which has not "
                "said where it listens; look at its logs, or end it with `mainspring down`"
            )
        time.sleep(_LOOK_S)


@contextmanager
def _remote(url: str, config: "Config", home: "Home") -> Iterator["Client"]:
    from mainspring.api.client import Client
    from mainspring.api.http import HttpCaller
    from mainspring.data.writing import RowWriter
    from mainspring.store.tables import DeltaTables

    writer = RowWriter(DeltaTables(home.tables(config.project)))
    with HttpCaller(url, config.token or None) as caller:
        yield Client(caller, writer, config.project)
