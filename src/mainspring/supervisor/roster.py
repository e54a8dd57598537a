"""The file that says what is up: addresses and processes."""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from mainspring.core.home import Home
from mainspring.formats.wire import Process
from mainspring.store.lock import Holder, HomeLock

SUPERVISOR = "supervisor"
"""Role under which a supervisor holds the home's lock."""


class Roster(msgspec.Struct, frozen=True):
    """What is up in a home."""

    pid: int
    """Of the supervisor."""
    url: str
    inference_url: str
    started: datetime
    processes: tuple[Process, ...]
    grpc_address: str = ""
    """Host and port; empty where the workers speak no gRPC."""


def supervisor_of(home: Home) -> Holder | None:
    """Say which supervisor holds a home; None when none does."""
    holder = HomeLock(home.lock, role="reader").holder()
    return holder if holder is not None and holder.role == SUPERVISOR else None


def read_roster(home: Home) -> Roster | None:
    """Give what is up in a home; None when no supervisor holds it or it has not begun yet."""
    holder = supervisor_of(home)
    if holder is None:
        return None
    try:
        roster = _decoder.decode(home.roster.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    # One left behind by a killed predecessor says nothing of this one.
    return roster if roster.pid == holder.pid else None


def write_roster(home: Home, roster: Roster) -> None:
    """Replace the file at once as a whole. Not durable: after a power cut nothing is up."""
    new = _new_file(home)
    new.write_bytes(msgspec.json.format(msgspec.json.encode(roster), indent=2) + b"\n")
    os.replace(new, home.roster)


def remove_roster(home: Home) -> None:
    """Remove the file, if it is there."""
    for file in (home.roster, _new_file(home)):
        with suppress(OSError):
            file.unlink()


def _new_file(home: Home) -> Path:
    return home.roster.with_name(f".{home.roster.name}.new")


_decoder = msgspec.json.Decoder(Roster)
