"""What a gRPC call for one row costs the inference worker, beside MLServer in the same run.

    python bench/calls.py --size 0.1                          # the worker alone, a tenth
    python bench/calls.py --mlserver path/to/bin/python       # with the peer

One connection of a load client of our own, so many calls in flight as asked; requests are encoded
before, and vary. The servers take turns; CPU is that of the server and its children, the ratio the
median over rounds. Prints one JSON object.
"""

import argparse
import json
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from ngh2 import Connection, DataReceived, ResponseReceived, Role, StreamClosed

from mainspring.core.home import Home
from mainspring.serving.grpc_messages import REQUESTS, SERVICE
from peers import cpu_s, mlserver_up, stored
from serving import made
from serving import serving as worker

METHOD = f"/{SERVICE}/ModelInfer"


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of the calls")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 64])
    parser.add_argument(
        "--mlserver", default=os.environ.get("MAINSPRING_BENCH_MLSERVER"), metavar="PYTHON"
    )
    wanted = parser.parse_args()
    wanted.trees, wanted.leaves, wanted.features, wanted.rollout = 100, 31, 28, False
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(measured(Path(folder), wanted, stack), indent=2))
    return 0


def measured(folder: Path, wanted: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    """Start the servers and measure them in turns."""
    home = Home(folder / "home")
    columns = made(home, wanted)
    calls = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=1024)))
    _, process = stack.enter_context(worker(home, calls))
    servers = {"mainspring": (calls.getsockname()[1], process.pid)}
    figures: dict[str, Any] = {"rounds": wanted.rounds}
    if wanted.mlserver is None:
        figures["skipped"] = "mlserver: no interpreter named"
    else:
        stored(home, folder)
        _, port, pid = stack.enter_context(mlserver_up(folder, wanted.mlserver))
        servers["mlserver"] = (port, pid)
    requests = encoded(columns, 512)
    for in_flight in wanted.in_flight:
        count = max(20, round(4000 * wanted.size))
        found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        for turn in range(wanted.rounds + 1):
            for name, (port, pid) in servers.items():
                one = driven(port, pid, requests, in_flight, count)
                if turn:  # the first warms up
                    found[name].append(one)
        shown: dict[str, Any] = {
            name: {what: round(statistics.median(o[what] for o in some), 3) for what in some[0]}
            for name, some in found.items()
        }
        if "mlserver" in found:
            pairs = zip(found["mainspring"], found["mlserver"], strict=True)
            ratios = [b["cpu_us"] / a["cpu_us"] for a, b in pairs]
            shown["times_less_cpu"] = round(statistics.median(ratios), 1)
        figures[f"in_flight_{in_flight}"] = shown
    return figures


def encoded(columns: Sequence[str], count: int) -> list[bytes]:
    """Write requests of one row each, with a float64 for each column, as bytes."""
    source, found = random.Random(2), []
    for _ in range(count):
        request = REQUESTS[METHOD](model_name="trees")
        for name in columns:
            request.inputs.add(name=name, datatype="FP64", shape=[1])
            request.raw_input_contents.append(np.float64(round(source.gauss(0, 1), 5)).tobytes())
        content = request.SerializeToString()
        found.append(b"\0" + len(content).to_bytes(4, "big") + content)
    return found


def driven(
    port: int, pid: int, requests: Sequence[bytes], in_flight: int, count: int
) -> dict[str, float]:
    """Make calls on one connection, so many at once."""
    http = Connection(Role.CLIENT)
    http.initiate_connection()
    head = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", METHOD.encode()),
        (b":authority", b"127.0.0.1"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    begun: dict[int, float] = {}
    taken: list[float] = []

    def ask(number: int) -> None:
        stream = http.send_request(head)
        http.send_data(stream, requests[number % len(requests)], end_stream=True)
        begun[stream] = time.perf_counter()

    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cpu, wall = cpu_s(pid), time.perf_counter()
        for number in range(in_flight):
            ask(number)
        asked, answers = in_flight, 0
        while len(taken) < count:
            peer.sendall(http.data_to_send())
            http.receive_data(peer.recv(1 << 18))
            for event in http.events():
                match event:
                    case DataReceived():
                        answers += 1
                    case ResponseReceived(_, headers, True):
                        raise RuntimeError(f"refused: {dict(headers)}")
                    case StreamClosed():
                        taken.append(time.perf_counter() - begun.pop(event.stream_id))
                        if asked < count:
                            ask(asked)
                            asked += 1
        wall, cpu = time.perf_counter() - wall, cpu_s(pid) - cpu
    if answers < count:
        raise RuntimeError(f"{answers} of {count} calls were answered with a message")
    return {
        "cpu_us": cpu / count * 1e6,
        "p50_ms": statistics.median(taken) * 1000,
        "calls_per_s": count / wall,
    }


if __name__ == "__main__":
    sys.exit(main())
