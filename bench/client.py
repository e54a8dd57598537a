"""What a user of MLflow's client waits for: against servers that do nothing, in the same run.

    python bench/client.py                   # 700 runs and metrics, 35 batches of 1,000
    python bench/client.py --size 0.01       # a hundredth

Prints one JSON object. The client is the installed mlflow, unmodified, one call after another on
one thread. The servers take turns, round by round; the median of the rounds' medians counts, and
`times_NAME` is the median over rounds of a median against that of the named server beside it:
`nothing` answers from a bare socket, `nothing_asgi` through uvicorn.
Before the first round every server is written to until it is as it stays: a database's log grows
at first, which each durable write waits for.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tracking import AT_MS, Server, cpu_of, drive, missing_peer, new_run, ours, peer
from tracking import set_tag as tag_over_http

Call = Callable[[Any, str, int], object]
WARMING_CALLS = 2000


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the calls")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mlflow", help="the command of a peer to put beside")
    wanted = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with ExitStack() as stack:
        servers = [stack.enter_context(one) for one in (ours(), nothing(), nothing("--asgi"))]
        figures: dict[str, Any] = {"cores": os.cpu_count(), "rounds": wanted.rounds}
        if wanted.mlflow and (why := missing_peer(wanted.mlflow)):
            figures["skipped"] = why
        elif wanted.mlflow:
            servers.append(stack.enter_context(peer(wanted.mlflow)))
        for server in servers:
            warmed(server, max(1, round(WARMING_CALLS * wanted.size)))
        figures["spooled"] = spooled(servers[0], max(1_000, round(100_000 * wanted.size)))
        figures["calls"] = {
            name: measured(servers, call, max(1, round(calls * wanted.size)), wanted.rounds)
            for name, call, calls in (
                ("create_run", create_run, 100),
                ("log_metric", log_metric, 100),
                ("log_batch_1000", log_batch, 5),
                ("set_tag", set_tag, 100),
            )
        }
    print(json.dumps(figures, indent=2))
    return 0


def warmed(server: Server, calls: int) -> None:
    """Write to a server until it is as it stays."""
    run = new_run(server)
    drive(server, run, tag_over_http(run), numbers=range(calls))


def create_run(client: Any, _run: str, number: int) -> object:
    """Begin a run."""
    return client.create_run("0", run_name=f"r{number}")


def log_metric(client: Any, run: str, number: int) -> object:
    """One point."""
    return client.log_metric(run, "loss", 1 / (number + 1), AT_MS + number, number)


def log_batch(client: Any, run: str, number: int) -> object:
    """A thousand points of ten metrics."""
    from mlflow.entities import Metric

    points = [
        Metric(f"m{place % 10}", place / 7, AT_MS + number, number * 1000 + place)
        for place in range(1000)
    ]
    return client.log_batch(run, metrics=points)


def set_tag(client: Any, run: str, number: int) -> object:
    """A tag that changes."""
    return client.set_tag(run, "t", str(number))


SPOOLED = """
import json, sys, time
import mlflow
client, calls = mlflow.MlflowClient(), int(sys.argv[1])
run = client.create_run("0").info.run_id
taken, begun, cpu = [], time.perf_counter(), time.process_time()
for step in range(calls):
    at = time.perf_counter()
    client.log_metric(run, "loss", 1 / (step + 1), step=step)
    taken.append(time.perf_counter() - at)
logged, cpu = time.perf_counter() - begun, time.process_time() - cpu
found = client.get_run(run)
sent = time.perf_counter() - begun
taken.sort()
print(json.dumps({
    "calls": calls, "p50_us": taken[calls // 2] * 1e6, "p99_us": taken[calls * 99 // 100] * 1e6,
    "longest_us": taken[-1] * 1e6, "cpu_us": cpu / calls * 1e6, "calls_per_s": calls / logged,
    "until_read_s": sent, "last_step_is_there": found.data.metrics["loss"] == 1 / calls,
}))
"""


def spooled(server: Server, calls: int) -> dict[str, Any]:
    """Log through a spool: what a training loop waits for, and when all of it can be read."""
    with tempfile.TemporaryDirectory() as root:
        environment = {
            **os.environ,
            "MAINSPRING_SPOOL": root,
            "MAINSPRING_SPOOL_WAIT_S": "600",
            "MLFLOW_TRACKING_URI": server.url,
        }
        cpu_s = cpu_of(server.pids)
        answered = subprocess.run(
            [sys.executable, "-c", SPOOLED, str(calls)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        figures: dict[str, Any] = json.loads(answered.stdout)
        cpu_us = (cpu_of(server.pids) - cpu_s) / calls * 1e6
    rounded = {what: round(value, 2) for what, value in figures.items()}
    return {**rounded, "server_cpu_us": round(cpu_us, 2)}


def measured(
    servers: list[Server], call: Call, calls: int, rounds: int
) -> dict[str, dict[str, float] | list[float]]:
    """Measure one kind of call at each server, `calls` in each of the rounds."""
    from mlflow import MlflowClient

    clients = {server.name: MlflowClient(server.url) for server in servers}
    runs = {name: client.create_run("0").info.run_id for name, client in clients.items()}
    found: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    for turn in range(rounds + 1):
        for server in servers:
            numbers = range(turn * calls, (turn + 1) * calls)
            one = timed(server, call, clients[server.name], runs[server.name], numbers)
            if turn:  # the first warms up
                found[server.name].append(one)
    figures: dict[str, Any] = {
        name: {what: round(statistics.median(one[what] for one in each), 3) for what in each[0]}
        for name, each in found.items()
    }
    for name, floor in [(name, found[name]) for name in found if name.startswith("nothing")]:
        for other in found.keys() - {"nothing", "nothing_asgi"}:
            ratios = [a["p50_ms"] / b["p50_ms"] for a, b in zip(found[other], floor, strict=True)]
            figures[other][f"times_{name}"] = round(statistics.median(ratios), 2)
    return figures


def timed(server: Server, call: Call, client: Any, run: str, numbers: range) -> dict[str, float]:
    """Make calls; give a client's waiting time and the server's CPU for one."""
    taken: list[float] = []
    cpu_s = cpu_of(server.pids)
    for number in numbers:
        begun = time.perf_counter()
        call(client, run, number)
        taken.append(time.perf_counter() - begun)
    cpu_s = cpu_of(server.pids) - cpu_s
    return {
        "p50_ms": statistics.median(taken) * 1000,
        "p99_ms": sorted(taken)[len(taken) * 99 // 100] * 1000,
        "server_cpu_ms": cpu_s / len(taken) * 1000,
    }


@contextmanager
def nothing(way: str = "") -> Iterator[Server]:
    """Keep a server that does nothing up."""
    command = [sys.executable, str(Path(__file__).with_name("nothing.py")), way]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server("nothing" + way.replace("--", "_"), f"http://127.0.0.1:{port}", [process.pid])
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


if __name__ == "__main__":
    sys.exit(main())
