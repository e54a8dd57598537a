"""What people decide, by command: each prints its fact as a table or as JSON."""

import json
from pathlib import Path
from shutil import copytree

import pytest

from mainspring.cli import execute

COMMENT = ("--comment", "looked at it")


@pytest.fixture
def home(asked_home: Path, tmp_path: Path) -> Path:
    """A home whose second version waits for a person, owned by nobody."""
    return copytree(asked_home, tmp_path / "home")


@pytest.mark.parametrize(
    ("command", "event"),
    [
        (("approve", "stop", "2"), "Approved"),
        (("reject", "stop", "2"), "Rejected"),
        (("promote", "stop", "2"), "Promoted"),
    ],
)
def test_a_decision_prints_its_fact_as_json(
    home: Path, command: tuple[str, ...], event: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = execute(["endpoint", *command, *COMMENT, "--home", str(home), "--json"])

    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert json.loads(said.out)["event"] == event
    assert _newest(home, json.loads(said.out)["fact"], capsys) == event


def test_a_rollback_prints_its_fact_as_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--home", str(home), "--json")
    for command in (
        ["endpoint", "approve", "stop", "2", *COMMENT, *where],
        ["endpoint", "advance", "stop", "--until", "2026-04-01", *where],
    ):
        assert execute(command) == 0
    capsys.readouterr()

    code = execute(["endpoint", "rollback", "stop", *COMMENT, *where])

    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert json.loads(said.out)["event"] == "RolledBack"
    assert _newest(home, json.loads(said.out)["fact"], capsys) == "RolledBack"


@pytest.mark.parametrize("command", ["approve", "reject", "promote"])
def test_a_refused_decision_leaves_standard_output_empty(
    home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = execute(["endpoint", command, "stop", "9", *COMMENT, "--home", str(home), "--json"])

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert said.err.startswith("refused: ")


def _newest(home: Path, fact: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert execute(["events", "--after", str(fact - 1), "--home", str(home), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    return str((facts if isinstance(facts, list) else facts["facts"])[0]["event"])
