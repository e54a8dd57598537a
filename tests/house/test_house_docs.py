"""Every event, error, setting and command has its line in the documents, and no line is left over.

A line is a table row that begins with the name in backticks.
"""

import re
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from mainspring.api.table import VERBS
from mainspring.core import errors, events
from mainspring.core.config import Config

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _documented(page: str) -> set[str]:
    text = (DOCS / page).read_text("utf-8")
    return set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE))


def _errors() -> Iterator[type[errors.MainspringError]]:
    yield errors.MainspringError
    yield from errors.MainspringError.__subclasses__()


def test_every_event_has_a_line() -> None:
    known = {event.__name__ for event in typing.get_args(events.AnyEvent)}

    assert _documented("events.md") == known


def test_every_event_class_is_in_the_closed_union() -> None:
    assert set(events.Event.__subclasses__()) == set(typing.get_args(events.AnyEvent))


def test_every_error_code_has_a_line() -> None:
    assert _documented("errors.md") == {error.code for error in _errors()}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in _errors()]

    assert len(codes) == len(set(codes))


def test_every_verb_has_a_line_with_its_permission() -> None:
    text = (DOCS / "api.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", text, flags=re.MULTILINE)

    documented = {
        name: (resource, action)
        for names, permission in rows
        for name, (resource, action) in zip(
            re.findall(r"`([^`]+)`", names),
            _permissions(permission, names.count("`") // 2),
            strict=True,
        )
    }

    assert documented == {verb.name: (verb.resource, verb.action) for verb in VERBS}


def _permissions(text: str, verbs: int) -> list[tuple[str, str]]:
    """Read `resource, action` or `resource, one and another`, one for each verb of a row."""
    resource, actions = text.split(", ", 1)
    each = actions.split(" and ")
    return [(resource, action) for action in (each if len(each) == verbs else each * verbs)]


def test_every_setting_has_a_line() -> None:
    assert _documented("settings.md") == {field.name for field in fields(Config)}


def test_the_readme_shows_both_commands_and_every_link_leads_somewhere() -> None:
    text = (ROOT / "README.md").read_text("utf-8")

    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]

    assert text.index("make demo") < text.index("make test") < text.index("## ")
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_the_loop_in_the_readme_is_short_and_declares_what_it_says() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {"__name__": "readme"}

    exec(compile(code, "README.md", "exec"), names)

    assert code.count("\n") <= 25
    assert names["stop"].rows == "readings"  # type: ignore[attr-defined]
    assert names["stop"].features == ("recent",)  # type: ignore[attr-defined]


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        f"{page.name}: {link}"
        for page in DOCS.rglob("*.md")
        for link in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert not dead
