"""A disk that is full, and a database that is taken away: refused whole, and usable again."""

import subprocess
import sys
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


# 20 kB stop the rows, 60 kB let them land and stop the database behind them.
@pytest.mark.parametrize("size_bytes", [20_000, 60_000, 100_000])
def test_a_commit_on_a_full_disk_changes_nothing_and_works_when_there_is_space(
    applied: "Shell", size_bytes: int
) -> None:
    versions, facts = applied.json("data", "log", "readings"), applied.facts()
    rows = pl.read_csv(applied.directory / "readings.csv")
    more = rows.with_columns(reading_id="x" + pl.col("reading_id"))
    more.write_csv(applied.directory / "more.csv")

    full = limited(applied, size_bytes, "data", "commit", "readings", "more.csv")

    assert (full.returncode, full.stdout) == (1, "")
    assert full.stderr.startswith("storage_full: "), full.stderr
    assert "free space and repeat" in full.stderr
    assert applied.json("data", "log", "readings") == versions
    assert applied.facts() == facts
    assert applied.json("audit", "verify")["ok"] is True
    done = applied.json("data", "commit", "readings", "more.csv")
    assert (done["version"], done["rows"]) == (2, 5395)


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
