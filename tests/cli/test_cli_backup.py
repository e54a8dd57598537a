"""Backup and restore as commands: the restored home goes on as the first one would have."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

LIMITED = """
import resource, sys
from mainspring.cli import execute
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(execute(sys.argv[2:]))
"""


def test_a_restored_home_says_the_same_and_goes_on(live: "Shell") -> None:
    live.done("backup", "../kept")
    before = live.json("endpoint", "show", "stop"), live.json("data", "log", "readings")
    live.done("endpoint", "advance", "stop", "--until", "2026-04-02")

    restored = live.json("restore", "../kept", "--home", "other")

    there = ("--home", "other")
    assert restored["audit"]["ok"] is True
    assert restored["audit"]["facts"] == restored["backup"]["seq"]
    assert live.json("endpoint", "show", "stop", *there) == before[0]
    assert live.json("data", "log", "readings", *there) == before[1]
    # The next commit, training and advance go on as they would have.
    assert live.json("data", "commit", "readings", "readings.csv", *there)["version"] == 1
    live.write("more.csv", _renamed((live.directory / "readings.csv").read_text("utf-8")))
    assert live.json("data", "commit", "readings", "more.csv", *there)["version"] == 2
    advanced = live.json("endpoint", "advance", "stop", "--until", "2026-04-03", *there)
    assert advanced["error"] is None
    assert live.json("audit", "verify", *there)["ok"] is True


def _renamed(text: str) -> str:
    """Give rows ids of their own, so that they are other rows."""
    header, *rows = text.splitlines()
    return "\n".join([header, *(f"x{row}" for row in rows)])


def test_a_backup_says_which_point_it_stands_for(applied: "Shell") -> None:
    newest = applied.json("events", "--limit", "1000")[-1]

    made = applied.json("backup", "../kept")

    assert (made["seq"], made["hash"]) == (newest["seq"], newest["hash"])
    told = json.loads((applied.directory.parent / "kept" / "backup.json").read_text("utf-8"))
    assert len(told["files"]) == made["files"]
    assert sum(file["size"] for file in told["files"]) == made["size_bytes"]


def test_a_home_that_is_there_is_not_restored_over(applied: "Shell") -> None:
    applied.done("backup", "../kept")

    assert "choose a new one" in applied.refused("restore", "../kept")
    assert "choose a new one" in applied.refused("backup", "../kept")
    assert "lies inside" in applied.refused("backup", ".mainspring/kept")
    assert "is no backup" in applied.refused("restore", ".", "--home", "other")


def test_an_empty_home_beside_a_project_is_restored_into(applied: "Shell") -> None:
    applied.done("backup", "../kept")
    shutil.rmtree(applied.directory / ".mainspring")
    (applied.directory / ".mainspring").mkdir()

    applied.done("restore", "../kept")

    assert applied.json("data", "log", "readings")[0]["rows"] == 5395


def test_a_ledger_that_was_forged_is_restored_and_told(applied: "Shell") -> None:
    with closing(sqlite3.connect(applied.database)) as connection, connection:
        connection.execute("UPDATE ledger SET actor = 'nobody' WHERE seq = 1")
    applied.done("backup", "../kept")

    said = applied("restore", "../kept", "--home", "other", "--json")

    assert said.code == 1
    audit = json.loads(said.out)["audit"]
    assert audit["ok"] is False
    assert "fact 1" in audit["findings"][0]


def test_a_full_disk_leaves_no_half_backup_and_no_half_home(applied: "Shell") -> None:
    parent = applied.directory.parent
    names = sorted(os.listdir(parent))

    for size_bytes in (20_000, 300_000):
        told = _limited(applied, size_bytes, "backup", "../kept")
        assert told.startswith("storage_full: ")
        assert "free space and repeat" in told
        assert sorted(os.listdir(parent)) == names
    applied.done("backup", "../kept")
    told = _limited(applied, 20_000, "restore", "../kept", "--home", "other")

    assert told.startswith("storage_full: ")
    assert not (applied.directory / "other").exists()
    applied.done("restore", "../kept", "--home", "other")


def _limited(shell: "Shell", size_bytes: int, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size_bytes), *arguments],
        cwd=shell.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()[-1]
