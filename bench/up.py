"""The running platform: start, memory, the V2 path, health, metric logging, and the demo by phase.

    python bench/up.py                            # everything, the demo for three days
    python bench/up.py --seconds 1 --days 0       # as quick as can be, without the demo

Prints one JSON object. The load client is one process of this bench, closed loop: each connection
has one request under way. On few cores it takes its share from the workers, so the workers' own
CPU seconds per request stand beside each rate.
"""

import argparse
import http.client
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMAND = str(Path(sys.executable).with_name("mainspring"))
UNTIL = "2026-04-01"
INPUTS = ("temperature", "vibration", "load", "age")
REST_S = 3.0
TICKS_S = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per measurement of the V2 path")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 25])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--starts", type=int, default=5, help="how often the start is timed")
    parser.add_argument("--metrics", type=int, default=200, help="metrics logged through mlflow")
    parser.add_argument("--days", type=int, default=3, help="days of the demo; 0 = no demo")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = platform_figures(Path(folder), wanted)
    if wanted.days:
        figures["demo"] = demo_figures(wanted.days)
    print(json.dumps(figures, indent=2))
    return 0


def platform_figures(folder: Path, wanted: argparse.Namespace) -> dict[str, Any]:
    """Set a small project up, and measure the platform on it."""
    run(folder, "init")
    starts: list[float] = []
    for _ in range(wanted.starts - 1):
        with platform(folder, wanted.workers, starts):
            pass
    with platform(folder, wanted.workers, starts) as told:
        for command in (
            "apply",
            "data commit readings readings.csv",
            "data commit stops stops.csv",
        ):
            run(folder, *command.split())
        run(folder, "endpoint", "advance", "stop", "--until", UNTIL)
        at_rest = rested(folder)
        return {
            "cores": os.cpu_count(),
            "workers": wanted.workers,
            "start_s": {"median": round(statistics.median(starts), 2), "all": starts},
            "memory_mib": {
                "together": at_rest["memory_mib"],
                **{one["process"]: one["memory_mib"] for one in at_rest["processes"]},
            },
            "health_control": load_figures(told["url"], get("/health"), 1, wanted.seconds),
            "health_inference": load_figures(
                told["inference_url"], get("/health"), 1, wanted.seconds
            ),
            "v2": [
                {"connections": connections, "rows": rows}
                | load_figures(
                    told["inference_url"],
                    infer(rows),
                    connections,
                    wanted.seconds,
                    [one["pid"] for one in at_rest["processes"] if one["role"] == "inference"],
                )
                for connections in wanted.connections
                for rows in wanted.rows
            ],
            "log_metric": metric_figures(told["url"], wanted.metrics),
        }


def rested(folder: Path) -> dict[str, Any]:
    """Give what is up once nothing has come or gone for a while: a spare for runs may stay."""
    seen: list[int] = []
    while True:
        found: dict[str, Any] = json.loads(run(folder, "status", "--json"))["platform"]
        pids = [one["pid"] for one in found["processes"]]
        if pids == seen:
            return found
        seen = pids
        time.sleep(REST_S)


@contextmanager
def platform(folder: Path, workers: int, starts: list[float]) -> Iterator[dict[str, Any]]:
    """Keep the platform up; note the seconds from the command to all being ready."""
    ports = ("--port", "0", "--inference-port", "0")
    begun = time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "up", "--json", *ports, "--workers", str(workers)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        starts.append(round(time.perf_counter() - begun, 2))
        yield told
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.stdout.close()


def run(folder: Path, *arguments: str) -> str:
    """Run a command in the project's directory and give what it printed."""
    return subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def get(path: str) -> bytes:
    """Write a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def infer(rows: int) -> bytes:
    """Write a V2 request for some rows, with keys and event times."""
    columns: list[tuple[str, str, list[Any]]] = [
        ("__key__", "BYTES", [f"bench-{row}" for row in range(rows)]),
        ("__event_time__", "BYTES", ["2026-04-01T12:00:00+00:00"] * rows),
        *((name, "FP64", [0.1 + row / rows for row in range(rows)]) for name in INPUTS),
    ]
    body = json.dumps(
        {
            "inputs": [
                {"name": name, "shape": [rows], "datatype": kind, "data": values}
                for name, kind, values in columns
            ]
        }
    ).encode()
    head = (
        "POST /v2/models/stop/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def load_figures(
    url: str, request: bytes, connections: int, seconds: float, pids: Sequence[int] = ()
) -> dict[str, Any]:
    """Send one request again and again over kept connections; a fifth of the time warms up."""
    parts = urlsplit(url)
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            opened = socket.create_connection((parts.hostname, parts.port))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(opened, selectors.EVENT_READ, Exchange(opened, request))
        drive(selector, seconds / 5)
        cpu_s, begun = cpu_of(pids), time.perf_counter()
        taken = drive(selector, seconds)
        wall_s, cpu_s = time.perf_counter() - begun, cpu_of(pids) - cpu_s
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
    cuts = statistics.quantiles(taken, n=100)
    figures = {
        "requests_per_s": round(len(taken) / wall_s),
        "p50_ms": round(cuts[49] * 1000, 3),
        "p99_ms": round(cuts[98] * 1000, 3),
    }
    if pids:
        figures["worker_cpu_us"] = round(cpu_s / len(taken) * 1e6)
    return figures


class Exchange:
    """One connection's request under way."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self._connection = connection
        self._request = request
        self._got = b""
        self._sent_s = 0.0
        self.busy = False

    def send(self) -> None:
        """Send the request."""
        self._sent_s, self._got, self.busy = time.perf_counter(), b"", True
        self._connection.sendall(self._request)

    def receive(self) -> float | None:
        """Take what came; give the seconds when the answer is whole."""
        chunk = self._connection.recv(1 << 16)
        self._got += chunk
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not chunk or (found and b" 200 " not in head.split(b"\r\n", 1)[0]):
            raise RuntimeError(f"no answer but {self._got[:500]!r}")
        if not found or len(body) < length_of(head):
            return None
        self.busy = False
        return time.perf_counter() - self._sent_s


def length_of(head: bytes) -> int:
    """Read the content length out of an answer's head."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def drive(selector: selectors.BaseSelector, seconds: float) -> list[float]:
    """Keep every connection busy for some seconds; give the time that each answer took."""
    taken: list[float] = []
    exchanges: list[Exchange] = [key.data for key in selector.get_map().values()]
    for exchange in exchanges:
        exchange.send()
    ends = time.perf_counter() + seconds
    while any(exchange.busy for exchange in exchanges):
        for key, _ in selector.select():
            exchange = key.data
            took_s = exchange.receive()
            if took_s is not None:
                taken.append(took_s)
                if time.perf_counter() < ends:
                    exchange.send()
    return taken


def cpu_of(pids: Sequence[int]) -> float:
    """Give the CPU seconds that processes have used."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_S


def metric_figures(url: str, count: int) -> dict[str, Any] | None:
    """Log metrics one by one with MLflow's own client; none without the client or the protocol."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
    except ImportError:
        return None
    if not speaks_mlflow(url):
        return None
    client = MlflowClient(tracking_uri=url)
    run = client.create_run(client.create_experiment("bench")).info.run_id
    taken = []
    for step in range(count):
        begun = time.perf_counter()
        client.log_metric(run, "loss", 1 / (step + 1), step=step)
        taken.append(time.perf_counter() - begun)
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_ms": round(cuts[49] * 1000, 2), "p99_ms": round(cuts[98] * 1000, 2)}


def speaks_mlflow(url: str) -> bool:
    """Ask for an experiment as MLflow's client does."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0")
        return connection.getresponse().status == http.client.OK
    finally:
        connection.close()


def demo_figures(days: int) -> dict[str, Any]:
    """Run the demo in a process of its own; seconds by phase, and whatever else it counts."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [COMMAND, "demo", str(Path(folder) / "demo"), "--json", "--days", str(days)],
            capture_output=True,
            text=True,
            check=False,
        )
    if not done.stdout:
        return {"exit_code": done.returncode, "said": done.stderr[-500:]}
    figures = json.loads(done.stdout)
    shown = {name: figures[name] for name in figures if name not in ("months", "claims")}
    return {"days": days, "exit_code": done.returncode, **shown}


if __name__ == "__main__":
    sys.exit(main())
