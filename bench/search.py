"""Searching runs among many: a home is filled by its own tables, then asked over HTTP.

    python bench/search.py                # a million runs of 20 metrics, 10 parameters, 5 tags
    python bench/search.py --size 0.01    # a hundredth
    python bench/search.py --home DIR     # keep the filled home there, or use the one that is there

Prints one JSON object: for each question the milliseconds of its first page of 100, by median and
95th percentile over repeats, with values that change from one to the next.
"""

import argparse
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tracking import API, AT_MS, BINARIES, Server, ask, connected, started

RUNS, METRICS, PARAMS, TAGS, EXPERIMENTS = 1_000_000, 20, 10, 5, 20
PAGE = 100
PIECE = 5_000


def main() -> int:
    """Fill a home, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of a million runs")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--home", type=Path)
    wanted = parser.parse_args()
    runs = max(100, round(RUNS * wanted.size))
    with tempfile.TemporaryDirectory() as temporary:
        folder = wanted.home or Path(temporary)
        figures: dict[str, Any] = {"runs": runs, "fill_s": filled(folder, runs)}
        command = [str(BINARIES / "mainspring"), "up", "--json", "--port", "0"]
        command += ["--inference-port", "0", "--workers", "1"]
        with started(command, folder) as process:
            assert process.stdout is not None
            server = Server("mainspring", json.loads(process.stdout.readline())["url"], ())
            figures["questions"] = {
                name: timed(server, bodies(name, runs, wanted.repeats)) for name in QUESTIONS
            }
    print(json.dumps(figures, indent=2))
    return 0


QUESTIONS: dict[str, dict[str, Any]] = {
    "first page": {},
    "tag, common": {"filter": "tags.team = 'team{common}'"},
    "tag, rare": {"filter": "tags.commit = 'commit{rare}'"},
    "metric above": {"filter": "metrics.m3 > 0.{tail}"},
    "parameter": {"filter": "params.p2 = 'value{common}'"},
    "like": {"filter": "tags.note LIKE 'note{common}%'"},
    "by metric": {"order_by": ["metrics.m{number} DESC"]},
    "by metric, tag": {
        "filter": "tags.team = 'team{common}'",
        "order_by": ["metrics.m1 ASC"],
    },
    "by metric, rare tag": {
        "filter": "tags.commit = 'commit{rare}'",
        "order_by": ["metrics.m1 ASC"],
    },
    "by parameter": {"order_by": ["params.p{place} ASC"]},
    "by tag, metric above": {
        "filter": "metrics.m2 > 0.5",
        "order_by": ["tags.team DESC"],
    },
    "all three": {
        "filter": "tags.team = 'team{common}' AND params.p1 = 'value{common}' AND metrics.m5 < 0.5",
        "order_by": ["metrics.m4 DESC"],
    },
    "oldest": {"order_by": ["attributes.start_time ASC"]},
    "by name": {"filter": "attributes.run_name = 'run-{rare}'"},
}
"""What is asked of all experiments; the words in braces change from one to the next."""


def bodies(name: str, runs: int, count: int) -> Iterator[bytes]:
    """Write a question again and again, each time with other values."""
    source = random.Random(name)
    for _ in range(count):
        words = {
            "{common}": str(source.randrange(20)),
            "{rare}": str(source.randrange(runs)),
            "{tail}": f"{source.randrange(90, 99)}",
            "{number}": str(source.randrange(METRICS)),
            "{place}": str(source.randrange(PARAMS)),
        }
        text = json.dumps(QUESTIONS[name])
        for word, value in words.items():
            text = text.replace(word, value)
        experiments = [str(one) for one in range(EXPERIMENTS)]
        asked = {**json.loads(text), "experiment_ids": experiments, "max_results": PAGE}
        yield json.dumps(asked).encode()


def timed(server: Server, asked: Iterator[bytes]) -> dict[str, float]:
    """Ask one after another."""
    taken, found = [], 0
    with connected(server) as connection:
        for body in asked:
            begun = time.perf_counter()
            answer = ask(connection, "POST", f"{API}/runs/search", body)
            taken.append((time.perf_counter() - begun) * 1000)
            found += len(json.loads(answer).get("runs", ()))
    taken.sort()
    return {
        "p50_ms": round(statistics.median(taken), 1),
        "p95_ms": round(taken[len(taken) * 95 // 100], 1),
        "runs_a_page": round(found / len(taken), 1),
    }


def filled(folder: Path, runs: int) -> float:
    """Make a home with so many runs, unless it is there; gives the seconds it took."""
    database = folder / ".mainspring" / "mainspring.db"
    begun = time.perf_counter()
    if not database.exists():
        folder.mkdir(parents=True, exist_ok=True)
        init = [str(BINARIES / "mainspring"), "init"]
        subprocess.run(init, cwd=folder, check=True, capture_output=True)
        # The platform makes its own tables.
        status = [str(BINARIES / "mainspring"), "events", "--json"]
        subprocess.run(status, cwd=folder, check=True, capture_output=True)
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("PRAGMA cache_size=-2000000")
            fill(connection, runs)
    return round(time.perf_counter() - begun, 1)


def fill(connection: sqlite3.Connection, runs: int) -> None:
    """Write runs with all that is logged to them, spread over experiments and time."""
    # In one go, indexes last: what is searched is the same as what clients would have logged.
    names = ("param", "tag", "metric", "run_record")
    kept = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        f"AND tbl_name IN ({','.join('?' * len(names))})",
        names,
    ).fetchall()
    for name, _ in kept:
        connection.execute(f"DROP INDEX {name}")
    source = random.Random(1)
    for number in range(EXPERIMENTS):
        connection.execute(
            "INSERT OR IGNORE INTO experiment (project, number, experiment, name, location, "
            "created_ms, updated_ms) VALUES ('default', ?, ?, ?, ?, ?, ?)",
            (number, str(number), f"e{number}", f"mlflow-artifacts:/{number}", AT_MS, AT_MS),
        )
    for first in range(0, runs, PIECE):
        connection.execute("BEGIN")
        some = range(first, min(runs, first + PIECE))
        connection.executemany(
            "INSERT INTO run_record (project, run, experiment, name, person, status, location, "
            "managed, started_ms, ended_ms) "
            "VALUES ('default', ?, ?, ?, 'u', 'finished', ?, 0, ?, ?)",
            (
                (f"{n:032x}", str(n % EXPERIMENTS), f"run-{n}", f"a/{n}", AT_MS + n, AT_MS + n + 1)
                for n in some
            ),
        )
        connection.executemany(
            "INSERT INTO metric (project, run, key, step, at_ms, is_nan, value) "
            "VALUES ('default', ?, ?, 1, ?, 0, ?)",
            ((f"{n:032x}", f"m{k}", AT_MS, source.random()) for n in some for k in range(METRICS)),
        )
        connection.executemany(
            "INSERT INTO param (project, owner, key, value) VALUES ('default', ?, ?, ?)",
            (
                (f"{n:032x}", f"p{k}", f"value{source.randrange(20)}")
                for n in some
                for k in range(PARAMS)
            ),
        )
        connection.executemany(
            "INSERT INTO tag (project, owner, key, value) VALUES ('default', ?, ?, ?)",
            (
                (f"{n:032x}", key, value)
                for n in some
                for key, value in (
                    ("team", f"team{source.randrange(20)}"),
                    ("commit", f"commit{n}"),
                    ("note", f"note{source.randrange(1000)} of this run"),
                    ("mlflow.runName", f"run-{n}"),
                    ("mlflow.user", "u"),
                )
            ),
        )
        connection.execute("COMMIT")
    for _, statement in kept:
        connection.execute(statement)


if __name__ == "__main__":
    sys.exit(main())
