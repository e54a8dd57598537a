"""The card of a version: what is recorded, what is missing, and nothing that becomes markup."""

import json
from typing import TYPE_CHECKING

from mainspring.governance.card import ModelCard, html, markdown
from mainspring.governance.trace import Section

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


def test_the_card_of_a_version_says_what_is_recorded(live: "Shell") -> None:
    told = live.done("model", "card", "stop", "1")
    found = live.json("model", "card", "stop", "1")

    assert told.startswith("# stop, version 1\n")
    titles = [section["title"] for section in found["sections"]]
    assert "takes and gives" in titles
    assert "datasets it was trained on" in titles
    assert any(title.startswith("gate: ") for title in titles)
    assert any("digest" in line for s in found["sections"] for line in s["lines"])
    assert "a description" in found["missing"]
    assert "## Not recorded" in told
    shown = live.done("model", "card", "stop", "1", "--html", "card.html")
    page = (live.directory / "card.html").read_text("utf-8")
    assert shown.strip() == "card.html"
    assert page.startswith("<!doctype html>")
    assert "<script" not in page
    assert "not_found" in live.refused("model", "card", "stop", "99")


def test_what_people_wrote_is_no_markup() -> None:
    evil = "<script>alert(1)</script> [x](javascript:1) `*_#|"
    section = Section(title=evil, lines=(evil, "line\nbreak"), data=None)
    card = ModelCard(model=evil, version="1", summary=evil, sections=(section,), missing=(evil,))

    page, text = html(card), markdown(card)

    assert "<script>" not in page
    assert "\\<script>" in text
    assert "](javascript" not in text.replace("\\[x](javascript", "")
    assert "\nbreak" not in text
    assert json.dumps(page)
