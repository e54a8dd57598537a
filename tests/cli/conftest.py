"""A starter project in a directory of its own, and commands run in it."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mainspring.cli import execute

UNTIL = "2026-04-01"


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Shell:
    """Commands in a directory, in this process."""

    def __init__(self, directory: Path, capture: pytest.CaptureFixture[str] | None) -> None:
        self.directory = directory
        self._capture = capture

    def __call__(self, *arguments: str, within: str = ".") -> Said:
        with chdir(self.directory / within):
            code = execute(list(arguments))
        if self._capture is None:
            return Said(code, "", "")
        out, err = self._capture.readouterr()
        return Said(code, out, err)

    def done(self, *arguments: str) -> str:
        """Run a command that must succeed."""
        said = self(*arguments)
        assert said.code == 0, said.err
        assert said.err == ""
        return said.out

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and read its JSON."""
        return json.loads(self.done(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """Run a command that must be refused and change nothing; give what it said."""
        before = self.facts()
        said = self(*arguments)
        assert (said.code, said.out) == (1, ""), said
        assert self.facts() == before
        return said.err

    def facts(self) -> int:
        """Count the ledger's facts, past all of ours."""
        with closing(sqlite3.connect(self.database)) as connection:
            return int(connection.execute("SELECT count(*) FROM ledger").fetchone()[0])

    @property
    def database(self) -> Path:
        return self.directory / ".mainspring" / "mainspring.db"

    def write(self, name: str, text: str) -> str:
        """Write a file into the directory."""
        (self.directory / name).write_text(text, "utf-8")
        return name


def _copied(made: Path, tmp_path: Path, capture: pytest.CaptureFixture[str]) -> Shell:
    directory = tmp_path / "project"
    shutil.copytree(made, directory)
    return Shell(directory, capture)


@pytest.fixture(scope="session")
def applied_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shell = Shell(tmp_path_factory.mktemp("applied"), None)
    for command in ("init", "apply", "data commit readings readings.csv"):
        assert shell(*command.split()).code == 0
    return shell.directory


@pytest.fixture(scope="session")
def live_directory(applied_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shell = Shell(tmp_path_factory.mktemp("live") / "project", None)
    shutil.copytree(applied_directory, shell.directory)
    for command in ("data commit stops stops.csv", f"endpoint advance stop --until {UNTIL}"):
        assert shell(*command.split()).code == 0
    return shell.directory


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A directory with nothing in it."""
    return Shell(tmp_path, capsys)


@pytest.fixture
def applied(applied_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The starter project: applied, its readings committed."""
    return _copied(applied_directory, tmp_path, capsys)


@pytest.fixture
def live(live_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """The starter project with a live version."""
    return _copied(live_directory, tmp_path, capsys)


@pytest.fixture
def edited(applied: Shell) -> Callable[..., str]:
    """Apply the project with one text replaced and one added; give the refusal."""

    def apply(old: str, new: str, added: str = "") -> str:
        file = applied.directory / "project.py"
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1) + added, "utf-8")
        return applied.refused("apply")

    return apply
