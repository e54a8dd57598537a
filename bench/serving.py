"""What a request costs the inference worker: in process, and over a socket.

    python bench/serving.py --quick      # a minute
    python bench/serving.py              # medians of seven

In process, connections without a socket get the bytes of requests and give the bytes of answers,
so all the worker does for a request is in the figure, but no system call of the network. Bodies
vary: trees are up to four times slower on varied rows than on one repeated row. Over the socket
`wrk` asks one worker process; without it that part is left out. Prints one JSON object.
"""

import argparse
import asyncio
import gc
import http.client
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import uvloop

from mainspring.core.config import Config
from mainspring.core.home import Home
from mainspring.core.ids import Digest, Id, digest_bytes
from mainspring.formats.model import Column, Goldens, Signature, read_manifest
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable, load, publish
from mainspring.formats.wire import Ready, Welcome, Wire
from mainspring.formats.write import build_folder, put_folder

TICKS_S = os.sysconf("SC_CLK_TCK")
PATH = "/v2/models/trees/infer"


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--leaves", type=int, default=31)
    parser.add_argument("--features", type=int, default=28)
    parser.add_argument("--turns", type=int, nargs="+", default=[1, 64], help="requests a turn")
    parser.add_argument("--rows", type=int, nargs="+", default=[1], help="rows a request")
    parser.add_argument("--rollout", action="store_true", help="a second arm in an open rollout")
    parser.add_argument("--profile", action="store_true", help="where the time goes, in process")
    parser.add_argument("--only", nargs="+", default=[], help="these parts; all by default")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        columns = made(home, wanted)
        figures: dict[str, Any] = {
            "model": f"{wanted.trees} trees x {wanted.leaves} leaves, {wanted.features} floats",
        }
        if not wanted.only or "in_process" in wanted.only:
            figures["in_process"] = uvloop.run(in_process(home, columns, wanted))
        if not wanted.profile and (not wanted.only or "socket" in wanted.only):
            figures["socket"] = over_socket(home, columns, wanted)
        if not wanted.profile and (not wanted.only or "start" in wanted.only):
            figures["start"] = start_figures(home, columns, wanted)
        if not wanted.profile and (not wanted.only or "patterns" in wanted.only):
            figures["patterns"] = pattern_figures(Path(folder), wanted)
        if not wanted.profile and (not wanted.only or "swaps" in wanted.only):
            figures["swaps"] = swap_figures(home, columns, wanted)
    print(json.dumps(figures, indent=2))
    return 0


def made(home: Home, wanted: argparse.Namespace) -> tuple[str, ...]:
    """Train a model, store it as a version and put it on the routes."""
    import lightgbm

    from mainspring.formats.convert import to_onnx

    names = tuple(f"feature_{i}" for i in range(wanted.features))
    random_rows = np.random.default_rng(1)
    table = random_rows.normal(size=(4000, wanted.features))
    label = (table[:, 0] + table[:, 1] * table[:, 2] + random_rows.normal(size=4000)) > 0
    model = lightgbm.LGBMClassifier(
        n_estimators=wanted.trees, num_leaves=wanted.leaves, verbose=-1, n_jobs=1
    ).fit(table, label)
    columns = tuple(Column(name, "float") for name in names)
    frame = {name: table[:, i].tolist() for i, name in enumerate(names)}
    content = to_onnx(model, columns, frame)
    scores = model.booster_.predict(table[:8])
    folder = build_folder(
        onnx=content,
        signature=Signature(columns, "probability"),
        goldens=Goldens({name: frame[name][:8] for name in names}, [float(s) for s in scores]),
        profile={},
        environment={},
    )

    def put(blob: bytes) -> Digest:
        digest = digest_bytes(blob)
        path = home.blob("default", digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
        return digest

    manifest = put_folder(put, folder)
    pattern = getattr(wanted, "pattern", "rollout" if wanted.rollout else "live")
    arms = [Arm("1", manifest, "live", 0.9 if pattern == "rollout" else 1.0)]
    if pattern == "rollout":
        arms.insert(0, Arm("2", manifest, "canary", 0.1))
    if pattern == "shadow":
        arms.insert(0, Arm("2", manifest, "shadow", 0.0))
    route = EndpointRoute(
        project="default", endpoint="trees", salt="salt", arms=tuple(arms), request=columns,
        views=(), arm_timeout_s=1.0, rollout=Id("1" * 32) if pattern == "rollout" else None,
    )  # fmt: skip
    publish(home.routes, RouteTable(1, (route,)))
    return names


def bodies(columns: Sequence[str], count: int, rows: int, *, keys: bool = True) -> list[bytes]:
    """Make varied request bodies, each with its key."""
    source = random.Random(2)
    found = [body(columns, rows, source, i) for i in range(count)]
    if not keys:
        found = [{"inputs": one["inputs"][: len(columns)]} for one in found]
    return [json.dumps(one).encode() for one in found]


def body(columns: Sequence[str], rows: int, source: random.Random, number: int) -> dict[str, Any]:
    inputs: list[dict[str, Any]] = [
        {
            "name": name,
            "shape": [rows],
            "datatype": "FP64",
            "data": [round(source.gauss(0, 1), 5) for _ in range(rows)],
        }
        for name in columns
    ]
    if rows == 1:
        return {"parameters": {"key": f"key-{number}"}, "inputs": inputs}
    keys = [f"key-{number}-{i}" for i in range(rows)]
    inputs.append({"name": "__key__", "shape": [rows], "datatype": "BYTES", "data": keys})
    return {"inputs": inputs}


def request(content: bytes) -> bytes:
    """Give the bytes of a request."""
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8701\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content


class Sink:
    """A connection's other end that takes everything."""

    def __init__(self) -> None:
        self.content = b""
        self.written = 0

    def write(self, content: bytes) -> None:
        self.content = content
        self.written += 1

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def in_process(
    home: Home, columns: Sequence[str], wanted: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measure the CPU time of a request without sockets, by requests a turn."""
    from mainspring.serving.connection import Connection
    from mainspring.serving.worker import Worker

    worker = Worker(home, Config(), "bench")
    worker.engine.refresh()
    # As a worker does once it has loaded its models.
    gc.collect()
    gc.freeze()
    found = []
    for rows in wanted.rows:
        contents = [request(content) for content in bodies(columns, 2048, rows)]
        for turn in wanted.turns:
            peers = []
            for _ in range(turn):
                peer, sink = Connection(worker._door), Sink()
                peer.connection_made(cast(asyncio.Transport, sink))
                peers.append((peer, sink))
            count = max(1, (3000 if wanted.quick else 12000) // turn // rows)
            if wanted.profile:
                await profiled(peers, contents, count)
                continue
            costs = [await cost_us(peers, contents, count) for _ in range(5 if wanted.quick else 9)]
            assert sinks_are_fine(peers)
            found.append(
                {
                    "rows": rows,
                    "requests_a_turn": turn,
                    "cpu_us": round(statistics.median(costs[1:]), 1),
                    "all": [round(cost, 1) for cost in costs[1:]],
                }
            )
    worker.engine.close()
    return found


def sinks_are_fine(peers: Sequence[tuple[Any, Sink]]) -> bool:
    """Tell whether the last answers were predictions."""
    return all(
        sink.content.startswith(b"HTTP/1.1 200") and b"prediction_id" in sink.content
        for _, sink in peers
    )


async def cost_us(peers: Sequence[tuple[Any, Sink]], contents: list[bytes], count: int) -> float:
    """Give the CPU microseconds of one request."""
    source, total = random.Random(3), 0
    starts = [source.randrange(len(contents)) for _ in range(count)]
    begun = time.process_time()
    for start in starts:
        for peer, _ in peers:
            peer.data_received(contents[start])
            start = (start + 1) % len(contents)
        total += len(peers)
        await asyncio.sleep(0)
    return (time.process_time() - begun) / total * 1e6


async def profiled(peers: Sequence[tuple[Any, Sink]], contents: list[bytes], count: int) -> None:
    """Print where the time goes."""
    import cProfile
    import pstats

    await cost_us(peers, contents, count)
    profile = cProfile.Profile()
    profile.enable()
    await cost_us(peers, contents, count)
    profile.disable()
    print(f"{len(peers)} requests a turn")
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


@contextmanager
def serving(
    home: Home, calls: socket.socket | None = None
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Keep one worker process up; gives its port. It serves gRPC on `calls`, if given."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ours, theirs = socket.socketpair()
    fds: tuple[int, ...] = (theirs.fileno(), listening.fileno())
    command = [sys.executable, "-m", "mainspring.serving"]
    command += ["--supervisor-fd", str(fds[0]), "--listen-fd", str(fds[1])]
    if calls is not None:
        fds += (calls.fileno(),)
        command += ["--grpc-fd", str(calls.fileno())]
    process = subprocess.Popen(command, pass_fds=fds)
    theirs.close()
    wire = Wire(ours)
    root = str(home.root.resolve())
    try:
        wire.send(Welcome("inference", "w1", root, root, Config(), "", ""))
        if not isinstance(wire.receive(), Ready):
            raise RuntimeError("the worker did not become ready")
        yield listening.getsockname()[1], process
    finally:
        wire.close()
        process.wait(20)
        listening.close()


def start_figures(home: Home, columns: Sequence[str], wanted: argparse.Namespace) -> dict[str, Any]:
    """Measure the time from a worker's start to its first answer, and its memory then."""
    (content,) = bodies(columns, 1, 1)
    taken, memory = [], 0.0
    for _ in range(3 if wanted.quick else 7):
        begun = time.perf_counter()
        with serving(home) as (port, process):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as asking:
                asking.request("POST", PATH, content, {"Content-Type": "application/json"})
                if asking.getresponse().status != http.client.OK:
                    raise RuntimeError("the first answer was no prediction")
            taken.append(time.perf_counter() - begun)
            memory = pss_mib(process.pid)
    return {
        "first_answer_s": round(statistics.median(taken), 3),
        "all": [round(one, 3) for one in taken],
        "pss_mib": round(memory, 1),
    }


def pattern_figures(folder: Path, wanted: argparse.Namespace) -> dict[str, Any] | str:
    """Measure an open rollout, and a shadow that gets every row, beside one live version."""
    if shutil.which("wrk") is None:
        return "wrk is not installed"
    seconds, repeats = (2, 3) if wanted.quick else (5, 7)
    runs: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:
        asked = {}
        for pattern in ("live", "rollout", "shadow"):
            home = Home(folder / pattern)
            columns = made(home, argparse.Namespace(**{**vars(wanted), "pattern": pattern}))
            port, process = stack.enter_context(serving(home))
            lines, script = home.root / "bodies.txt", home.root / "wrk.lua"
            lines.write_bytes(b"\n".join(bodies(columns, 2048, 1)))
            script.write_text(LUA % (lines, PATH), "utf-8")
            asked[pattern] = (script, port, process.pid)
        for _ in range(repeats):
            for pattern, (script, port, pid) in asked.items():
                runs.setdefault(pattern, []).append(wrk(script, port, pid, 64, seconds))
    figures: dict[str, Any] = {pattern: median_of(some) for pattern, some in runs.items()}
    for pattern in ("rollout", "shadow"):
        for what in ("requests_a_second", "worker_cpu_us", "p50_ms"):
            pairs = zip(runs[pattern], runs["live"], strict=True)
            ratio = statistics.median(a[what] / b[what] for a, b in pairs)
            figures[pattern][f"{what}_to_live"] = round(ratio, 2)
    return figures


def swap_figures(
    home: Home, columns: Sequence[str], wanted: argparse.Namespace
) -> dict[str, Any] | str:
    """Publish one route after another under load: every answer counts, and what the memory does."""
    if shutil.which("wrk") is None:
        return "wrk is not installed"
    swaps, seconds = (100, 5) if wanted.quick else (1000, 30)
    (route,) = load(home.routes).endpoints
    (first,) = route.arms
    # The same bytes but for one file, so that a model is loaded anew each time it comes.
    versions = [first, msgspec.structs.replace(first, version="2", manifest=again(home, first))]
    lines, script = home.root / "bodies.txt", home.root / "wrk.lua"
    lines.write_bytes(b"\n".join(bodies(columns, 2048, 1)))
    script.write_text(LUA % (lines, PATH), "utf-8")
    with serving(home) as (port, process):
        before = wrk(script, port, process.pid, 16, max(2, seconds // 5))
        rest = pss_mib(process.pid)
        found: dict[str, Any] = {}
        asking = threading.Thread(
            target=lambda: found.update(wrk(script, port, process.pid, 16, seconds))
        )
        asking.start()
        begun, every = time.monotonic(), seconds / (swaps + 1)
        for number in range(swaps):
            arm = versions[(number + 1) % 2]
            publish(
                home.routes, RouteTable(number + 2, (msgspec.structs.replace(route, arms=(arm,)),))
            )
            time.sleep(max(0.0, begun + (number + 1) * every - time.monotonic()))
        asking.join()
        grown = pss_mib(process.pid) - rest
    if not found:
        raise RuntimeError("requests failed while routes were swapped")
    return {
        "swaps": swaps,
        "requests": round(found["requests_a_second"] * seconds),
        "failed": 0,
        "p99_ms": round(found["p99_ms"], 2),
        "p99_to_rest": round(found["p99_ms"] / before["p99_ms"], 2),
        "grown_mib": round(grown, 1),
    }


def again(home: Home, arm: Arm) -> Digest:
    """Store an arm's folder once more with another profile, so that it is another version."""

    def blob(digest: Digest) -> Path:
        return home.blob("default", digest)

    def put(content: bytes) -> Digest:
        path = blob(digest_bytes(content))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest_bytes(content)

    manifest = read_manifest(blob, arm.manifest)
    files = {name: blob(digest).read_bytes() for name, digest in manifest.files.items()}
    return put_folder(put, {**files, "profile.json": b'{"second":true}'})


def pss_mib(pid: int) -> float:
    """Give the proportional set size of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    return int(text.partition("\nPss:")[2].split()[0]) / 1024


LUA = """
wrk.headers["Host"] = "127.0.0.1"
wrk.headers["Content-Type"] = "application/json"
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = wrk.format("POST", "%s", nil, line) end
local next = math.random(#bodies)
request = function() next = next %% #bodies + 1; return bodies[next] end
"""


def over_socket(
    home: Home, columns: Sequence[str], wanted: argparse.Namespace
) -> list[dict[str, Any]] | str:
    """Measure requests a second, latency and the worker's CPU time under `wrk`."""
    if shutil.which("wrk") is None:
        return "wrk is not installed"
    found = []
    seconds, repeats = (2, 3) if wanted.quick else (5, 7)
    with serving(home) as (port, process):
        for rows in wanted.rows:
            lines = home.root / "bodies.txt"
            lines.write_bytes(b"\n".join(bodies(columns, 2048, rows)))
            script = home.root / "wrk.lua"
            script.write_text(LUA % (lines, PATH), "utf-8")
            for connections in (1, 64):
                runs = [
                    wrk(script, port, process.pid, connections, seconds) for _ in range(repeats)
                ]
                found.append({"rows": rows, "connections": connections, **median_of(runs)})
    return found


def wrk(script: Path, port: int, pid: int, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk once."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    command.append(f"http://127.0.0.1:{port}")
    before = cpu_s(pid)
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu_s(pid) - before
    words = [line.split() for line in text.splitlines()]
    by_name = {line[0]: line for line in words if line}
    if "Non-2xx" in text:
        raise RuntimeError(text)
    requests = next(int(line[0]) for line in words if line[1:3] == ["requests", "in"])
    return {
        "requests_a_second": float(by_name["Requests/sec:"][1]),
        "p50_ms": in_ms(by_name["50%"][1]),
        "p99_ms": in_ms(by_name["99%"][1]),
        "worker_cpu_us": spent / requests * 1e6,
    }


def median_of(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}


def in_ms(text: str) -> float:
    factors: dict[str, Callable[[float], float]] = {
        "us": lambda v: v / 1000,
        "ms": lambda v: v,
        "s": lambda v: v * 1000,
    }
    number = text.rstrip("mus")
    return factors[text[len(number) :]](float(number))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_S


if __name__ == "__main__":
    sys.exit(main())
