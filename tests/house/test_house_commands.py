"""Every command has its line in docs/commands.md, says what it does, and can print JSON."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cyclopts import App

from mainspring.cli.app import app

ROOT = Path(__file__).parents[2]


def _commands(tree: App, path: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in tree:
        if name.startswith("-"):
            continue
        child = tree[name]
        whole = f"{path} {name}".strip()
        if child.default_command is not None:
            yield whole, child.default_command
        yield from _commands(child, whole)


def test_every_command_has_a_line() -> None:
    text = (ROOT / "docs" / "commands.md").read_text("utf-8")
    documented = set(
        re.findall(r"^\| `mainspring ([a-z -]+?)[ `]*(?:[A-Z\[<].*?)?` \|", text, re.M)
    )

    assert documented == {name for name, _ in _commands(app)}


def test_every_command_says_what_it_does() -> None:
    silent = [name for name, function in _commands(app) if not inspect.getdoc(function)]

    assert not silent


def test_every_command_can_print_json() -> None:
    without = [
        name
        for name, function in _commands(app)
        if "common" not in inspect.signature(function).parameters
    ]

    assert not without
