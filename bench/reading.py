"""Reading what was logged, and many writers at once, beside MLflow's own server in the same run.

    python bench/reading.py --mlflow path/to/bin/mlflow --size 0.1    # a tenth
    python bench/reading.py --size 0.01                               # ours alone, a hundredth

Both servers are filled over HTTP with the same runs. Then: all runs ordered by a metric (a page of
100), the whole raw history of one series, and single metrics from 64 connections. Prints one JSON
object; ratios are medians over rounds in which the servers take turns.
"""

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

from tracking import (
    API,
    AT_MS,
    Server,
    ask,
    connected,
    drive,
    log_metric,
    missing_peer,
    new_run,
    ours,
    peer,
    post,
)

RUNS, POINTS, CALLS, WRITERS = 10_000, 100_000, 6_400, 64


def main() -> int:
    """Fill, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of runs, points and calls")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mlflow", help="the peer's command")
    wanted = parser.parse_args()
    runs = max(20, round(RUNS * wanted.size))
    points = max(1_000, round(POINTS * wanted.size) // 1000 * 1000)
    with ExitStack() as stack:
        servers = [stack.enter_context(ours())]
        figures: dict[str, Any] = {"cores": os.cpu_count(), "runs": runs, "points": points}
        if wanted.mlflow and (why := missing_peer(wanted.mlflow)):
            figures["skipped"] = why
        elif wanted.mlflow:
            servers.append(stack.enter_context(peer(wanted.mlflow)))
        series = {server.name: filled(server, runs, points) for server in servers}
        body = {"experiment_ids": ["0"], "order_by": ["metrics.m DESC"], "max_results": 100}
        figures["order_runs"] = compared(
            servers, lambda s: timed(s, *post("runs/search", body)), wanted.rounds
        )
        figures["history"] = compared(
            servers,
            lambda s: timed(
                s, "GET", f"{API}/metrics/get-history?run_id={series[s.name]}&metric_key=long", b""
            ),
            wanted.rounds,
        )
        calls = max(WRITERS, round(CALLS * wanted.size))
        figures["writers"] = {server.name: written(server, calls) for server in servers}
        if len(servers) == 2:
            first, second = figures["writers"].values()
            figures["writers"]["times_p99"] = round(second["p99_ms"] / first["p99_ms"], 1)
    print(json.dumps(figures, indent=2))
    return 0


def filled(server: Server, runs: int, points: int) -> str:
    """Log runs with one metric each, and one long series; gives that run."""

    with connected(server) as connection:
        for number in range(runs):
            body = {"experiment_id": "0", "start_time": AT_MS + number, "run_name": "r"}
            made = json.loads(ask(connection, *post("runs/create", body)))
            run = made["run"]["info"]["run_id"]
            point = {"run_id": run, "key": "m", "value": number * 7919 % runs, "step": 0}
            ask(connection, *post("runs/log-metric", {**point, "timestamp": AT_MS}))
    run = new_run(server)
    with connected(server) as connection:
        for first in range(0, points, 1000):
            metrics = [
                {"key": "long", "value": step / 7, "step": step, "timestamp": AT_MS + step}
                for step in range(first, first + 1000)
            ]
            ask(connection, *post("runs/log-batch", {"run_id": run, "metrics": metrics}))
    return run


def timed(server: Server, method: str, path: str, body: bytes) -> float:
    """Ask once; gives the milliseconds."""
    with connected(server) as connection:
        begun = time.perf_counter()
        ask(connection, method, path, body)
        return (time.perf_counter() - begun) * 1000


def compared(servers: list[Server], one: Any, rounds: int) -> dict[str, Any]:
    """Ask the servers in turns."""
    found: dict[str, list[float]] = {server.name: [] for server in servers}
    for turn in range(rounds + 1):
        for server in servers:
            taken = one(server)
            if turn:  # the first warms up
                found[server.name].append(taken)
    figures: dict[str, Any] = {
        f"{name}_ms": round(statistics.median(some), 2) for name, some in found.items()
    }
    if len(servers) == 2:
        ours_ms, theirs_ms = found.values()
        ratios = [b / a for a, b in zip(ours_ms, theirs_ms, strict=True)]
        figures["times"] = round(statistics.median(ratios), 1)
    return figures


def written(server: Server, calls: int) -> dict[str, float]:
    """Log single metrics from many connections at once."""
    run = new_run(server)
    drive(server, run, log_metric(run), numbers=range(WRITERS), connections=WRITERS)
    numbers = range(WRITERS, WRITERS + calls)
    found = drive(server, run, log_metric(run), numbers=numbers, connections=WRITERS)
    return {what: round(value, 3) for what, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
