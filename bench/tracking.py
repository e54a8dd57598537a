"""What tracking costs the server: its CPU per call over HTTP, and the latency a client sees.

    python bench/tracking.py                 # 2,000 single metrics, 200 batches of 1,000
    python bench/tracking.py --size 0.01     # a hundredth

Prints one JSON object. The same requests go to `mlflow server --workers 1` on SQLite when the full
mlflow package is installed; else the peer is named as skipped. Calls are made one after another on
one kept connection (and by several threads where a line says so), in interleaved rounds of which
the median counts. CPU is that of the process that answers and its children.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BINARIES = Path(sys.executable).parent
API = "/api/2.0/mlflow"
AT_MS = 1_700_000_000_000
Work = Callable[[int], tuple[str, str, bytes]]


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers: where, and the processes whose CPU counts."""

    name: str
    url: str
    pids: Sequence[int]


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the calls")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--mlflow", default="mlflow", help="the peer's command")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        servers = [stack.enter_context(ours())]
        skipped = None if wanted.no_peer else missing_peer(wanted.mlflow)
        if skipped is None and not wanted.no_peer:
            servers.append(stack.enter_context(peer(wanted.mlflow)))
        figures: dict[str, Any] = {"cores": os.cpu_count(), "rounds": wanted.rounds}
        if skipped:
            figures["skipped"] = skipped
        figures["calls"] = {
            name: measured(servers, work, calls, wanted)
            for name, work, calls in workloads(wanted.size)
        }
    print(json.dumps(figures, indent=2))
    return 0


def workloads(size: float) -> list[tuple[str, Callable[[str], Work], int]]:
    """Give what is asked of a run, each with how many calls in all."""

    def calls(whole: int) -> int:
        return max(1, round(whole * size))

    return [
        ("health", lambda _run: lambda _number: ("GET", "/health", b""), calls(2000)),
        ("log_metric", log_metric, calls(2000)),
        ("log_batch_1_key", lambda run: log_batch(run, same_key=True), calls(100)),
        ("log_batch_1000_keys", lambda run: log_batch(run, same_key=False), calls(100)),
        ("set_tag", set_tag, calls(1000)),
        ("create_run", create_run, calls(500)),
        ("get_run", get_run, calls(500)),
        ("history_of_1000", history, calls(200)),
    ]


def log_metric(run: str) -> Work:
    """One point of one metric, the step counting on."""

    def one(number: int) -> tuple[str, str, bytes]:
        body = {"run_id": run, "key": "loss", "value": 1 / (number + 1), "step": number}
        return post("runs/log-metric", {**body, "timestamp": AT_MS + number})

    return one


def log_batch(run: str, *, same_key: bool) -> Work:
    """A thousand points: of one metric, or one each of a thousand."""

    def one(number: int) -> tuple[str, str, bytes]:
        points = [
            {
                "key": "one" if same_key else f"m{place}",
                "value": place / 7,
                "step": number * 1000 + place if same_key else number,
                "timestamp": AT_MS + number,
            }
            for place in range(1000)
        ]
        return post("runs/log-batch", {"run_id": run, "metrics": points, "params": [], "tags": []})

    return one


def set_tag(run: str) -> Work:
    """A tag that changes."""
    return lambda number: post("runs/set-tag", {"run_id": run, "key": "t", "value": str(number)})


def create_run(_run: str) -> Work:
    """A run as a client begins it."""
    tags = [{"key": f"mlflow.t{place}", "value": "x"} for place in range(3)]
    body = {"experiment_id": "0", "user_id": "u", "start_time": AT_MS, "tags": tags}
    return lambda number: post("runs/create", {**body, "run_name": f"r{number}"})


def get_run(run: str) -> Work:
    """A run with one metric and one tag."""
    return lambda _number: ("GET", f"{API}/runs/get?run_id={run}", b"")


def history(run: str) -> Work:
    """A thousand points of a metric, asked for in one page."""
    path = f"{API}/metrics/get-history?run_id={run}&metric_key=one&max_results=1000"
    return lambda _number: ("GET", path, b"")


def post(path: str, body: dict[str, Any]) -> tuple[str, str, bytes]:
    """Write a request as clients do."""
    return "POST", f"{API}/{path}", json.dumps(body).encode()


def measured(
    servers: Sequence[Server],
    work: Callable[[str], Work],
    calls: int,
    wanted: argparse.Namespace,
) -> dict[str, Any]:
    """Measure one kind of call at each server, in rounds that take turns."""
    each = max(1, calls // wanted.rounds)
    runs = {server.name: new_run(server) for server in servers}
    asked = {name: work(run) for name, run in runs.items()}
    found: dict[str, list[dict[str, float]]] = {server.name: [] for server in servers}
    for server in servers:
        drive(server, runs[server.name], asked[server.name], numbers=range(each // 5 + 1))
        run = runs[server.name]
        drive(server, run, log_batch(run, same_key=True), numbers=range(1))
    for turn in range(1, wanted.rounds + 1):
        for server in servers:
            numbers = range(turn * each, (turn + 1) * each)
            name = server.name
            found[name].append(drive(server, runs[name], asked[name], numbers=numbers))
    figures: dict[str, Any] = {
        name: {what: round(statistics.median(one[what] for one in rounds), 3) for what in rounds[0]}
        for name, rounds in found.items()
    }
    numbers = range((wanted.rounds + 1) * each, (wanted.rounds + 2) * each)
    for server in servers:
        many = drive(
            server,
            runs[server.name],
            asked[server.name],
            numbers=numbers,
            connections=wanted.connections,
        )
        figures[server.name][f"at_{wanted.connections}"] = {
            what: round(value, 3) for what, value in many.items()
        }
    if len(servers) == 2:
        ratios = [b["cpu_ms"] / a["cpu_ms"] for a, b in zip(*found.values(), strict=True)]
        figures["times_less_cpu"] = [round(f(ratios), 1) for f in (min, statistics.median, max)]
    return figures


def new_run(server: Server) -> str:
    """Begin a run for a measurement."""
    with connected(server) as connection:
        answer = ask(connection, *create_run("")(0))
    return str(json.loads(answer)["run"]["info"]["run_id"])


def drive(
    server: Server, run: str, work: Work, *, numbers: Sequence[int], connections: int = 1
) -> dict[str, float]:
    """Make calls over kept connections; give CPU and latency of one, and the rate."""
    requests = [work(number) for number in numbers]
    taken: list[float] = []

    def some(part: Sequence[tuple[str, str, bytes]]) -> None:
        with connected(server) as connection:
            for request in part:
                begun = time.perf_counter()
                ask(connection, *request)
                taken.append(time.perf_counter() - begun)

    threads = [
        threading.Thread(target=some, args=(requests[place::connections],))
        for place in range(connections)
    ]
    cpu_s, begun = cpu_of(server.pids), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun
    with connected(server) as connection:
        # What a server puts off until somebody reads is part of the calls' cost.
        ask(connection, "GET", f"{API}/runs/get?run_id={run}", b"")
    cpu_s = cpu_of(server.pids) - cpu_s
    if len(taken) != len(requests):
        raise RuntimeError(f"{server.name}: {len(taken)} of {len(requests)} calls were answered")
    return {
        "cpu_ms": cpu_s / len(requests) * 1000,
        "p50_ms": statistics.median(taken) * 1000,
        "p99_ms": sorted(taken)[len(taken) * 99 // 100] * 1000,
        "calls_per_s": len(requests) / wall_s,
    }


@contextmanager
def connected(server: Server) -> Iterator[http.client.HTTPConnection]:
    """Keep one connection."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> bytes:
    """Send one request and read its answer."""
    connection.request(method, path, body or None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{method} {path}: {answer.status} {content[:300]!r}")
    return content


def cpu_of(pids: Sequence[int]) -> float:
    """Give the CPU seconds that processes have used, by thread and exactly."""
    total_ns = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text("utf-8").split()[0])
    return total_ns / 1e9


@contextmanager
def ours() -> Iterator[Server]:
    """Keep the platform up in a folder of its own."""
    command = [str(BINARIES / "mainspring"), "up", "--json", "--port", "0"]
    command += ["--inference-port", "0", "--workers", "1"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([command[0], "init"], cwd=folder, check=True, capture_output=True)
        with started(command, Path(folder)) as process:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            control = [pid for pid in children(process.pid) if b"mainspring.server" in argv(pid)]
            yield Server("mainspring", told["url"], control)


def missing_peer(command: str) -> str | None:
    """Say why the peer cannot be measured here."""
    found = shutil.which(command)
    if found is None:
        return f"mlflow server: no command {command!r}; name one with --mlflow"
    shown = subprocess.run([found, "server", "--help"], capture_output=True, check=False)
    if shown.returncode != 0:
        return "mlflow server: needs the full mlflow package, found the one without a server"
    return None


@contextmanager
def peer(mlflow: str) -> Iterator[Server]:
    """Keep MLflow's own server up on SQLite."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        command = [mlflow, "server", "--workers", "1", "--port", str(port)]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
        # Its log of requests would fill a pipe that nobody empties, and then it stands still.
        with started(command, Path(folder), told=False) as process:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            yield Server("mlflow", url, [process.pid, *children(process.pid)])


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        try:
            with connected(Server("", url, ())) as connection:
                ask(connection, "GET", "/health", b"")
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"{url} did not answer in two minutes")


@contextmanager
def started(
    command: Sequence[str], folder: Path, *, told: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """Keep a process running; with `told` its output can be read."""
    output = subprocess.PIPE if told else subprocess.DEVNULL
    process = subprocess.Popen(
        command, cwd=folder, stdout=output, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def children(pid: int) -> list[int]:
    """List a process's descendants."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text("utf-8").split():
            found += [int(child), *children(int(child))]
    return found


def argv(pid: int) -> bytes:
    """Give a process's command line."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
