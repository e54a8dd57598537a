"""A disk that is full, and a database that is taken away: refused whole, and usable again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mainspring.api.local import local_client
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.errors import Unavailable
from mainspring.platform import Platform

if TYPE_CHECKING:
    from tests.cli.conftest import Shell

LIMITED = """
import resource, sys
from mainspring.cli import execute
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(execute(sys.argv[2:]))
"""


def limited(shell: "Shell", size_bytes: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process that may write no file beyond a size, as on a full disk."""
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(size_bytes), *arguments],
        cwd=shell.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def new_rows(shell: "Shell", count: int) -> str:
    rows = pl.read_csv(shell.directory / "readings.csv").head(count)
    rows.with_columns(reading_id="x" + pl.col("reading_id")).write_csv(shell.directory / "new.csv")
    return "new.csv"


def told(full: "subprocess.CompletedProcess[str]") -> str:
    """Give the last line: threads of the Delta library may have cried before."""
    assert (full.returncode, full.stdout) == (1, "")
    return full.stderr.splitlines()[-1]


# 20 kB stop the database before anything is written, 60 kB the rows.
@pytest.mark.parametrize("size_bytes", [20_000, 60_000])
def test_a_commit_on_a_full_disk_changes_nothing_and_works_when_there_is_space(
    applied: "Shell", size_bytes: int
) -> None:
    versions, facts = applied.json("data", "log", "readings"), applied.facts()
    commit = ["data", "commit", "readings", new_rows(applied, 5400)]

    said = told(limited(applied, size_bytes, *commit))

    assert said.startswith("storage_full: ")
    assert "free space and repeat" in said
    assert applied.json("data", "log", "readings") == versions
    assert applied.facts() == facts
    assert applied.json("audit", "verify")["ok"] is True
    done = applied.json(*commit)
    assert (done["version"], done["rows"], done["rows_total"]) == (2, 5395, 2 * 5395)


def test_rows_that_landed_before_the_disk_was_full_are_counted_once(applied: "Shell") -> None:
    log = applied.directory / ".mainspring/projects/default/tables/dataset.readings/_delta_log"
    versions, facts = applied.json("data", "log", "readings"), applied.facts()
    commit = ["data", "commit", "readings", new_rows(applied, 2)]

    # At some size the few rows have landed and the database has no place left for the fact.
    for size_bytes in range(36_000, 70_000, 4_000):
        said = told(limited(applied, size_bytes, *commit))
        if len(list(log.glob("*.json"))) == 2:
            break

    assert len(list(log.glob("*.json"))) == 2
    assert said.startswith("storage_full: database")
    assert applied.json("data", "log", "readings") == versions
    assert applied.facts() == facts
    done = applied.json(*commit)
    assert (done["version"], done["rows"], done["rows_total"]) == (2, 2, 5397)
    assert len(applied.json("data", "log", "readings")) == 2
    assert applied.json("audit", "verify")["ok"] is True


@pytest.fixture
def small_disk(applied: "Shell") -> Iterator[Path]:
    """The project's home on a file system of its own, of 24 MiB."""
    home = applied.directory / ".mainspring"
    kept = applied.directory / "kept"
    home.rename(kept)
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mount: a tmpfs cannot be mounted here; the file size limit shows the same")
    try:
        shutil.copytree(kept, home, dirs_exist_ok=True)
        yield home
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.parametrize("free_kib", [0, 24, 64, 128])
def test_a_commit_on_a_disk_without_space_changes_nothing_and_works_when_there_is_some(
    applied: "Shell", small_disk: Path, free_kib: int
) -> None:
    versions, facts = applied.json("data", "log", "readings"), applied.facts()
    commit = ["data", "commit", "readings", new_rows(applied, 5400)]
    ballast = filled(small_disk, free_kib)

    code, out, err = _in_a_process(applied, *commit)

    assert (code, out) == (1, ""), (out, err)
    assert err.splitlines()[-1].startswith("storage_full: ")
    ballast.unlink()
    assert applied.json("data", "log", "readings") == versions
    assert applied.facts() == facts
    assert applied.json("audit", "verify")["ok"] is True
    done = applied.json(*commit)
    assert (done["version"], done["rows"], done["rows_total"]) == (2, 5395, 2 * 5395)


def filled(disk: Path, free_kib: int) -> Path:
    """Fill a file system but for a little; gives the file that fills it."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    os.truncate(ballast, ballast.stat().st_size - free_kib * 1024)
    return ballast


def _in_a_process(shell: "Shell", *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [Path(sys.executable).with_name("mainspring"), *arguments],
        cwd=shell.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_that_was_taken_away_answers_no_write(applied: "Shell", replaced: bool) -> None:
    home = applied.directory / ".mainspring"
    config = Config()
    with Platform.open(config, home, clock=SystemClock()) as platform:
        client = local_client(platform, config)
        client.advance("stop", datetime(2026, 1, 2, tzinfo=UTC), settle=False)
        _take_away(home / "mainspring.db", replaced=replaced)

        for attempt in (
            lambda: client.advance("stop", datetime(2026, 1, 3, tzinfo=UTC), settle=False),
            lambda: client.apply(applied.directory / "project.py"),
            lambda: client.commit_file("stops", applied.directory / "stops.csv", token=None),
            client.status,
        ):
            with pytest.raises(Unavailable, match="restore the file and restart"):
                attempt()


def _take_away(database: Path, *, replaced: bool) -> None:
    kept = database.read_bytes()
    database.unlink()
    if replaced:
        database.write_bytes(kept)
