"""Decisions from the page: recorded with a reason, refused when stale, foreign or wordless."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.ui.ui_console import HOSTILE, Console

from mainspring.api.local import local_client
from mainspring.cli.starter import rows
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform

STARTER = Path(rows.__file__).with_name("project.py")


@pytest.fixture(scope="module")
def asked_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose second version waits for a person."""
    folder = tmp_path_factory.mktemp("asked")
    text = STARTER.read_text("utf-8")
    for old, new in (
        ("strength: float = 1.0", "strength: float = 1e-5"),
        ('{"auc": 0.7}', '{"auc": 0.6}'),
        ('deadline="30d"', 'deadline="30d", approval="3d"'),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "project.py").write_text(text, "utf-8")
    rows.write_rows(folder)
    with Platform.open(Config(), folder / "home", clock=SystemClock()) as platform:
        client = local_client(platform, Config())
        client.apply(folder / "project.py")
        for name in ("readings", "stops"):
            client.commit_file(name, folder / f"{name}.csv", token=f"test-{name}:1")
        client.advance("stop", datetime(2026, 4, 1, tzinfo=UTC))
        client.start_run("stop", ["strength=1.0"], token="second")
    return folder / "home"


@pytest.fixture
def asked(asked_home: Path, tmp_path: Path) -> Iterator[Console]:
    shutil.copytree(asked_home, tmp_path / "home")
    console = Console(tmp_path / "home")
    console.start()
    yield console
    console.close()


def _seen(console: Console) -> str:
    found = re.search(r'name="expect" value="(\d+)"', console.get("/endpoints/stop")[1])
    assert found is not None
    return found[1]


def _facts(console: Console) -> list[str]:
    return [fact.event for fact in console.client.events(limit=10_000).facts]


def test_the_page_asks_for_the_decision_that_the_loop_waits_for(asked: Console) -> None:
    _, first = asked.get("/")
    _, text = asked.get("/endpoints/stop")

    assert "Decide on version 2" in first
    assert "Version 2 waits for your decision" in text
    assert 'action="/endpoints/stop/approve"' in text
    assert 'formaction="/endpoints/stop/reject"' in text


def test_an_approval_becomes_a_fact_with_its_reason(asked: Console) -> None:
    form = {"version": "2", "expect": _seen(asked), "comment": f"looks right {HOSTILE}"}

    status, text = asked.post("/endpoints/stop/approve", form)

    approved = asked.client.events(limit=10_000, subject="endpoint/stop").facts[-1]
    assert status == 200
    assert "Done: Approved" in text
    assert HOSTILE not in text
    assert approved.event == "Approved"
    assert approved.body["comment"] == form["comment"]
    assert approved.actor == "local"


def test_a_decision_on_an_older_page_is_told_to_read_again(asked: Console) -> None:
    seen = _seen(asked)
    asked.client.answer_approval("stop", "2", False, "not now")
    before = _facts(asked)

    status, text = asked.post(
        "/endpoints/stop/approve", {"version": "2", "expect": seen, "comment": "yes"}
    )

    assert status == 409
    assert "Read it again" in text
    assert "Nothing was changed" in text
    assert _facts(asked) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"comment": ""}, "say why"),
        ({"comment": "  "}, "say why"),
        ({"comment": "x" * 3000}, "3000 characters"),
        ({"expect": ""}, "decide anew"),
        ({"expect": "-1"}, "decide anew"),
        ({"expect": "9" * 40}, "decide anew"),
        ({"version": "77"}, "does not wait for an approval"),
    ],
)
def test_a_decision_that_lacks_something_changes_nothing(
    asked: Console, change: dict[str, str], said: str
) -> None:
    form = {"version": "2", "expect": _seen(asked), "comment": "yes", **change}
    before = _facts(asked)

    status, text = asked.post("/endpoints/stop/approve", form)

    assert status in (409, 400)
    assert said in text
    assert _facts(asked) == before


def test_a_page_of_another_site_cannot_decide(asked: Console) -> None:
    form = {"version": "2", "expect": _seen(asked), "comment": "yes"}
    before = _facts(asked)

    foreign, _ = asked.post("/endpoints/stop/approve", form, Origin="http://evil.example")
    opaque, _ = asked.post("/endpoints/stop/approve", form, Origin="null")
    plain, _ = asked.post("/endpoints/stop/approve", form, **{"Content-Type": "text/plain"})
    by_get, _ = asked.get("/endpoints/stop/approve")

    assert foreign == opaque == 403
    assert plain == 400
    assert by_get == 405
    assert _facts(asked) == before


def test_a_version_that_passed_may_be_promoted_and_no_rollout_rolled_back(asked: Console) -> None:
    rolled, said = asked.post("/endpoints/stop/rollback", {"comment": "stop it"})
    form = {"version": "2", "expect": _seen(asked), "comment": "now"}

    status, text = asked.post("/endpoints/stop/promote", form)

    assert rolled == 409
    assert "no rollout is open" in said
    assert status == 200
    assert "Done: Promoted" in text
    assert asked.client.endpoint("stop").live == "2"
