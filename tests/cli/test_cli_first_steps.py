"""A new user's way: from an empty directory to a live version, each step harmless to repeat."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.home import Home
from mainspring.core.ids import IdSource
from mainspring.serving.engine import Answer, Engine, Rows

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

COMMAND = Path(sys.executable).with_name("mainspring")


def test_init_writes_a_project_and_says_what_comes_next(empty: "Shell") -> None:
    said = empty.done("init")

    assert {"project.py", "readings.csv", "stops.csv"} <= set(os.listdir(empty.directory))
    assert "mainspring apply" in said


def test_init_never_overwrites(empty: "Shell") -> None:
    files = [one["file"] for one in empty.json("init", "new")]
    (empty.directory / "new/project.py").write_text("mine")

    again = empty("init", "new")

    assert files == ["project.py", "readings.csv", "stops.csv"]
    assert again.code == 1
    assert "choose another directory" in again.err
    assert (empty.directory / "new/project.py").read_text() == "mine"


def test_a_new_project_is_its_own_also_below_another_one(applied: "Shell") -> None:
    applied.done("init", "inner")

    status = applied("status", within="inner")

    assert "nothing is declared yet" in status.out


def test_the_installed_command_runs_in_a_process_of_its_own(applied: "Shell") -> None:
    done = subprocess.run(
        [COMMAND, "data", "log", "readings"],
        cwd=applied.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "5395" in done.stdout


def test_applying_again_changes_nothing(applied: "Shell") -> None:
    before = applied.facts()

    again = applied.json("apply")

    assert again["changed"] is False
    assert (again["datasets"], again["endpoints"]) == (["readings", "stops"], ["stop"])
    assert applied.facts() == before


def test_a_change_is_applied_and_said(applied: "Shell") -> None:
    file = applied.directory / "project.py"
    file.write_text(file.read_text().replace('wait="1d"', 'wait="2d"'))

    assert applied.json("apply")["changed"] is True


def test_committing_a_file_again_gives_the_version_it_became(applied: "Shell") -> None:
    before = applied.facts()

    again = applied.json("data", "commit", "readings", "readings.csv")

    assert (again["version"], again["rows"], again["quarantined"]) == (1, 5395, 5)
    assert applied.facts() == before
    assert [one["version"] for one in applied.json("data", "log", "readings")] == [1]


def test_a_version_is_listed_and_shown(applied: "Shell") -> None:
    listed = applied.json("data", "log", "readings")
    shown = applied.json("data", "show", "readings", "--rows", "2", "--version", "1")
    table = applied.done("data", "show", "readings", "--rows", "2")

    assert (listed[0]["rows"], listed[0]["reasons"]) == (5395, {"between(load)": 5})
    assert [row["reading_id"] for row in shown] == ["r05398", "r05399"]
    assert all(row["reading_id"] in table for row in shown)


def test_refused_rows_are_shown_with_their_reason(applied: "Shell") -> None:
    refused = applied.json("data", "quarantine", "readings")

    assert [(row["load"], row["reason"]) for row in refused] == [(1.7, "between(load)")] * 5
    assert "between(load)" in applied.done("data", "quarantine", "readings", "--rows", "1")


def test_a_declared_dataset_without_rows_is_empty_not_unknown(applied: "Shell") -> None:
    assert applied.json("data", "log", "stops") == []
    assert "no version yet" in applied.done("data", "log", "stops")
    assert "nothing is quarantined" in applied.done("data", "quarantine", "stops")


def test_the_first_version_is_live_and_every_view_says_so(live: "Shell") -> None:
    (status,) = live.json("status")["endpoints"]
    shown = live.json("endpoint", "show", "stop")
    (run,) = live.json("run", "list")
    detail = live.json("run", "show", run["run"])

    assert (status["endpoint"], status["live"], status["error"]) == ("stop", "1", None)
    assert (shown["live"], shown["versions"][0]["verdict"]) == ("1", "pass")
    assert (run["state"], run["trigger"], run["version"]) == ("finished", "first", "1")
    assert detail["run"]["run"] == detail["tracked"]["run"] == run["run"]
    assert "live 1" in live.done("endpoint", "show", "stop")
    assert run["run"] in live.done("run", "list")
    assert "stop" in live.done("status")
    assert "finished" in live.done("run", "show", run["run"])


def test_advancing_to_an_older_or_the_same_time_changes_nothing(live: "Shell") -> None:
    before = live.facts()

    older = live.json("endpoint", "advance", "stop", "--until", "2026-02-01T00:00:00Z")
    same = live.json("endpoint", "advance", "stop", "--until", "2026-04-01")

    assert older["watermark"] == same["watermark"] == "2026-04-01T00:00:00Z"
    assert older["steps"] == same["steps"] == []
    assert live.facts() == before


def test_a_run_by_hand_takes_parameters_and_its_token_starts_it_once(live: "Shell") -> None:
    start = ["run", "start", "stop", "-p", "strength=2", "--token", "mine"]

    first = live.json(*start)
    facts = live.facts()
    again = live.json(*start)

    assert first["run"]["parameters"] == {"strength": 2}
    assert (first["run"]["state"], first["error"]) == ("finished", None)
    assert again["run"] == first["run"]
    assert live.facts() == facts


def test_events_are_the_facts_in_order(live: "Shell") -> None:
    facts = live.json("events", "--limit", "100")
    datasets = live.json("events", "--subject", "dataset/stops")

    assert [fact["seq"] for fact in facts] == list(range(1, live.facts() + 1))
    assert facts[0]["event"] == "Applied"
    assert facts[-1]["event"] == "Promoted"
    assert {fact["subject"] for fact in datasets} == {"default/dataset/stops"}
    assert live.json("events", "--after", str(len(facts))) == []
    assert "Promoted" in live.done("events")


def test_the_record_is_whole(live: "Shell") -> None:
    said = live.json("audit", "verify")

    assert (said["ok"], said["facts"], said["findings"]) == (True, live.facts(), [])
    assert "True" in live.done("audit", "verify")


def test_config_says_where_each_value_came_from(
    live: "Shell", monkeypatch: pytest.MonkeyPatch
) -> None:
    live.write("mainspring.toml", 'lease = "90s"\nactor = "ann"\n')
    monkeypatch.setenv("MAINSPRING_ACTOR", "ben")

    told = {one["setting"]: one for one in live.json("config", "--project", "other")}

    assert (told["lease"]["value"], told["lease"]["from"]) == ("90s", "mainspring.toml")
    assert (told["actor"]["value"], told["actor"]["from"]) == (
        "ben",
        "environment MAINSPRING_ACTOR",
    )
    assert (told["project"]["value"], told["project"]["from"]) == ("other", "flag --project")
    assert told["run_deadline"]["from"] == "default"
    assert "MAINSPRING_ACTOR" in live.done("config")


def test_an_answered_row_can_be_traced_to_its_data(live: "Shell") -> None:
    answer = _predict(live)
    live.done("endpoint", "advance", "stop", "--until", "2026-04-02")

    traced = live.json("trace", answer.prediction)
    told = live.done("trace", f"{answer.prediction}:0")

    assert (traced["endpoint"], traced["version"]) == ("stop", "1")
    assert "readings" in told
    assert "temperature = 60" in told


def test_status_finds_the_home_from_a_folder_below(live: "Shell") -> None:
    (live.directory / "notes/of/mine").mkdir(parents=True)

    found = live("status", "--json", within="notes/of/mine")
    given = live("status", "--json", "--home", "../../../.mainspring", within="notes/of/mine")

    assert '"live": "1"' in found.out
    assert given.out == found.out
    assert os.listdir(live.directory / "notes/of/mine") == []


def test_apply_finds_the_project_file_from_a_folder_below(applied: "Shell") -> None:
    (applied.directory / "below").mkdir()

    said = applied("apply", "--json", within="below")

    assert '"changed": false' in said.out


def _predict(shell: "Shell") -> Answer:
    clock = SystemClock()
    home = Home(shell.directory / ".mainspring")
    engine = Engine(home, worker="one", clock=clock, ids=IdSource(clock))
    engine.refresh()
    at = int(datetime(2026, 4, 1, 6, tzinfo=UTC).timestamp() * 1_000_000)
    columns = {"temperature": [60.0], "vibration": [2.0], "load": [0.5], "age": [3.0]}
    answer = engine.predict("default", "stop", Rows(["m1"], [at], columns))
    engine.sync()
    return answer
