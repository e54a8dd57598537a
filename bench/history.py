"""Long and wide runs: ten million points in one series, twelve thousand metrics in one run.

    python bench/history.py                # 10,000,000 points
    python bench/history.py --size 0.01    # a hundredth

Prints one JSON object: milliseconds of a sampled window (whole, a tenth, a thousandth of the
series, at places that change), seconds and server memory of the whole export over HTTP, and how
long MLflow's client takes to open the wide run.
"""

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from artifacts import pss_mib, watched
from tracking import API, AT_MS, BINARIES, Server, ask, children, connected, started
from tracking import argv as words_of

LONG, WIDE = f"{1:032x}", f"{2:032x}"
POINTS, KEYS = 10_000_000, 12_000
PIECE = 1 << 20


def main() -> int:
    """Fill a home, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the points")
    parser.add_argument("--repeats", type=int, default=20)
    wanted = parser.parse_args()
    points = max(1_000, round(POINTS * wanted.size))
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        figures: dict[str, Any] = {"points": points, "keys": KEYS, "fill_s": filled(folder, points)}
        command = [str(BINARIES / "mainspring"), "up", "--json", "--port", "0"]
        command += ["--inference-port", "0", "--workers", "1"]
        with started(command, folder) as process:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            pids = [p for p in children(process.pid) if b"mainspring.server" in words_of(p)]
            server = Server("mainspring", url, pids)
            figures["sampled"] = {
                f"{name}, {most} points": sampled(server, points, share, most, wanted.repeats)
                for name, share in (("whole", 1.0), ("a tenth", 0.1), ("a thousandth", 0.001))
                for most in (320, 2500)
            }
            figures["export"] = exported(server, points)
            figures["wide"] = opened(server)
    print(json.dumps(figures, indent=2))
    return 0


def sampled(server: Server, points: int, share: float, most: int, repeats: int) -> dict[str, float]:
    """Ask for a sample of a window, as MLflow's pages do."""
    source, taken, found = random.Random(1), [], 0
    span = max(1, round(points * share))
    with connected(server) as connection:
        for _ in range(repeats):
            begin = source.randrange(points - span + 1)
            query = f"run_ids={LONG}&metric_key=loss&max_results={most}"
            query += f"&start_step={begin}&end_step={begin + span - 1}"
            path = f"{API}/metrics/get-history-bulk-interval?{query}"
            begun = time.perf_counter()
            answer = ask(connection, "GET", path, b"")
            taken.append((time.perf_counter() - begun) * 1000)
            found = len(json.loads(answer)["metrics"])
    taken.sort()
    p95 = taken[len(taken) * 95 // 100]
    return {"p50_ms": round(statistics.median(taken), 1), "p95_ms": round(p95, 1), "points": found}


def exported(server: Server, points: int) -> dict[str, float]:
    """Read the whole history in one answer."""
    rest, size, pieces = pss_mib(server), 0, 0
    with watched(server) as seen, connected(server) as connection:
        connection.request("GET", f"{API}/metrics/get-history?run_id={LONG}&metric_key=loss")
        answer = connection.getresponse()
        while piece := answer.read(PIECE):
            size += len(piece)
            pieces += piece.count(b'"timestamp"')
    return {
        "wall_s": round(seen["wall_s"], 2),
        "cpu_s": round(seen["cpu_s"], 2),
        "mib": round(size / 2**20, 1),
        "grown_mib": round(seen["highest_mib"] - rest, 1),
        # Counted by pieces of the stream, so a name that a piece cuts in two is missed.
        "share_seen": round(pieces / points, 4),
    }


def opened(server: Server) -> dict[str, float]:
    """Open the wide run with MLflow's client."""
    from mlflow import MlflowClient

    client, taken, found = MlflowClient(server.url), [], 0
    for _ in range(3):
        begun = time.perf_counter()
        found = len(client.get_run(WIDE).data.metrics)
        taken.append(time.perf_counter() - begun)
    return {"metrics": found, "client_s": round(statistics.median(taken), 3)}


def filled(folder: Path, points: int) -> float:
    """Make a home with the two runs; gives the seconds it took."""
    begun = time.perf_counter()
    for words in ("init", "events --json"):
        command = [str(BINARIES / "mainspring"), *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    database = folder / ".mainspring" / "mainspring.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        connection.execute(
            "INSERT OR IGNORE INTO experiment (project, number, experiment, name, location, "
            "created_ms, updated_ms) VALUES ('default', 0, '0', 'Default', 'mlflow-artifacts:/0', "
            f"{AT_MS}, {AT_MS})"
        )
        connection.executemany(
            "INSERT INTO run_record (project, run, experiment, name, person, status, location, "
            "managed, started_ms) VALUES ('default', ?, '0', 'r', 'u', 'finished', 'a', 0, ?)",
            [(LONG, AT_MS), (WIDE, AT_MS)],
        )
        last = "INSERT INTO metric (number, project, run, key, step, at_ms, is_nan, value) "
        last += "VALUES (?, 'default', ?, ?, ?, ?, 0, ?)"
        connection.execute(last, (1, LONG, "loss", points - 1, AT_MS + points, 0.5))
        connection.executemany(last, ((2 + k, WIDE, f"m{k}", 1, AT_MS, k / 7) for k in range(KEYS)))
        connection.executemany(
            "INSERT INTO metric_point (series, step, at_ms, is_nan, value) VALUES (?, ?, ?, 0, ?)",
            ((1, step, AT_MS + step, 1 / (step + 1)) for step in range(points)),
        )
        connection.executemany(
            "INSERT INTO metric_point (series, step, at_ms, is_nan, value) VALUES (?, 1, ?, 0, ?)",
            ((2 + k, AT_MS, k / 7) for k in range(KEYS)),
        )
        connection.execute("COMMIT")
    return round(time.perf_counter() - begun, 1)


if __name__ == "__main__":
    sys.exit(main())
