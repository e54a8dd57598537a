"""Other servers beside the inference worker: the same model, rows and run, requests by `wrk`.

    python bench/peers.py --mlserver .../bin/python --triton .../bin/python --bentoml .../bin/python

Each takes the interpreter of an environment of its own (mlserver and onnxruntime; nvidia-pytriton,
which ships tritonserver; bentoml and onnxruntime), also from MAINSPRING_BENCH_MLSERVER and so on;
what is not named is left out. MLServer and Triton get the worker's bodies, a tensor per column, or
with --matrix one tensor, which suits them best; BentoML has bodies of its own, always a matrix.
Peers do no more than score; the worker does all that it does: it checks, routes, counts and
records. Runs are interleaved, figures are medians, ratios those of each round. Prints one
JSON object.
"""

import argparse
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import onnxruntime

import serving as bench
from mainspring.core.home import Home
from mainspring.formats.model import read_file, read_manifest
from mainspring.formats.routes import load
from mainspring.serving.packing import packed

NAMES = ("mlserver", "triton", "bentoml")
TICKS_S = os.sysconf("SC_CLK_TCK")

SCORER = """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
def score(matrix):
    return session.run(["probability"], {{{matrix!r}: matrix.astype(numpy.float32)}})[0]
"""

MLSERVER = """
import numpy
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from scorer import score
class Trees(MLModel):
    async def load(self):
        return True
    async def predict(self, payload):
        columns = [NumpyCodec.decode_input(one) for one in payload.inputs if one.name[0] != "_"]
        found = score(columns[0] if len(columns) == 1 else numpy.stack(columns, axis=1))
        outputs = [NumpyCodec.encode_output("score", found)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
"""

TRITON = """
import sys
sys.path[:0] = [{folder!r}, {libraries!r}]
import numpy
import triton_python_backend_utils as utils
from scorer import score
class TritonPythonModel:
    def execute(self, requests):
        found = []
        for one in requests:
            columns = [tensor.as_numpy() for tensor in one.inputs()]
            matrix = columns[0] if len(columns) == 1 else numpy.stack(columns, axis=1)
            output = utils.Tensor("score", numpy.array(score(matrix), numpy.float32).ravel())
            found.append(utils.InferenceResponse(output_tensors=[output]))
        return found
"""

TRITON_CONFIG = """
backend: "python"
max_batch_size: 0
input [ {inputs} ]
output [ {{ name: "score" data_type: TYPE_FP32 dims: [ -1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""

BENTOML = """
import bentoml, numpy
from scorer import score
@bentoml.service(workers=1, metrics={"enabled": True})
class Trees:
    @bentoml.api
    def infer(self, x: numpy.ndarray) -> numpy.ndarray:
        return score(x)
"""


def main() -> int:
    """Measure the named peers and the worker, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in NAMES:
        variable = f"MAINSPRING_BENCH_{name.upper()}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable), metavar="PYTHON")
    parser.add_argument("--matrix", action="store_true", help="peers get one tensor")
    parser.add_argument("--rows", type=int, nargs="+", default=[1])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    wanted = parser.parse_args()
    wanted.trees, wanted.leaves, wanted.features, wanted.rollout = 100, 31, 28, False
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print(json.dumps(measured(Path(folder), wanted, stack), indent=2))
    return 0


def measured(folder: Path, wanted: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    home = Home(folder / "home")
    columns = bench.made(home, wanted)
    stored(home, folder)
    port, process = stack.enter_context(bench.serving(home))
    servers: dict[str, tuple[int, int, str]] = {"mainspring": (port, process.pid, bench.PATH)}
    left_out = {}
    for name in NAMES:
        interpreter = getattr(wanted, name)
        if interpreter is None:
            left_out[name] = "no interpreter named"
            continue
        begun = time.monotonic()
        try:
            servers[name] = stack.enter_context(STARTS[name](folder, interpreter, wanted))
        except RuntimeError as error:
            left_out[name] = str(error)
        else:
            left_out[name] = f"started in {time.monotonic() - begun:.1f} s"
    found = []
    for rows in wanted.rows:
        scripts = {
            n: script(folder, n, s[2], columns, rows, wanted.matrix) for n, s in servers.items()
        }
        for name in [name for name in servers if name != "mainspring"]:
            try:
                run(scripts[name], *servers[name][:2], 1, 1)
            except RuntimeError:
                # A peer that refuses its requests would look quick.
                left_out[name] = "answers with errors"
                del servers[name]
        for connections in wanted.connections:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
            for _ in range(wanted.repeats):
                for name, (at, pid, _) in servers.items():
                    runs[name].append(run(scripts[name], at, pid, connections, wanted.seconds))
            found.append({"rows": rows, "connections": connections, **compared(runs)})
    return {"servers": left_out, "found": found}


def compared(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    figures = {
        name: {key: round(statistics.median(r[key] for r in some), 3) for key in some[0]}
        for name, some in runs.items()
    }
    for name, some in runs.items():
        pairs = list(zip(runs["mainspring"], some, strict=True))
        for key, higher in (("requests_a_second", True), ("cpu_us", False)):
            ratios = [a[key] / b[key] if higher else b[key] / a[key] for a, b in pairs]
            figures[name][f"{key}_ratio"] = round(statistics.median(ratios), 2)
    return figures


def stored(home: Home, folder: Path) -> None:
    """Put the graph where the peers find it, as the worker runs it: with one matrix as input."""
    (route,) = load(home.routes).endpoints

    def blob(digest: Any) -> Path:
        return home.blob(route.project, digest)

    graph = packed(read_file(blob, read_manifest(blob, route.arms[0].manifest), "model.onnx"))
    assert graph is not None
    path = folder / "model.onnx"
    path.write_bytes(graph.content)
    text = SCORER.format(model=str(path), matrix=graph.matrix)
    (folder / "scorer.py").write_text(text, "utf-8")


def script(
    folder: Path, name: str, path: str, columns: Sequence[str], rows: int, matrix: bool
) -> Path:
    """Write what wrk sends to a server."""
    if name == "mainspring" or (name != "bentoml" and not matrix):
        # Triton refuses inputs that its model does not name.
        lines = bench.bodies(columns, 2048, rows, keys=name != "triton")
    else:
        source = random.Random(2)
        lines = [matrix_body(name, len(columns), rows, source) for _ in range(2048)]
    bodies = folder / f"{name}-{rows}.txt"
    bodies.write_bytes(b"\n".join(lines))
    found = folder / f"{name}-{rows}.lua"
    found.write_text(bench.LUA % (bodies, path), "utf-8")
    return found


def matrix_body(name: str, width: int, rows: int, source: random.Random) -> bytes:
    table = [[round(source.gauss(0, 1), 5) for _ in range(width)] for _ in range(rows)]
    if name == "bentoml":
        return json.dumps({"x": table}).encode()
    flat = [value for row in table for value in row]
    tensor = {"name": "x", "shape": [rows, width], "datatype": "FP64", "data": flat}
    return json.dumps({"inputs": [tensor]}).encode()


def run(script: Path, port: int, pid: int, connections: int, seconds: int) -> dict[str, float]:
    """Run wrk once; the CPU time is of the server and all its children."""
    before = cpu_s(pid)
    found = bench.wrk(script, port, pid, connections, seconds)
    requests = found["requests_a_second"] * seconds
    del found["worker_cpu_us"]
    return {**found, "cpu_us": (cpu_s(pid) - before) / requests * 1e6}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    spent = (int(fields[11]) + int(fields[12])) / TICKS_S
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return spent + sum(cpu_s(int(c)) for path in children for c in path.read_text("ascii").split())


@contextmanager
def mlserver(folder: Path, python: str, _: argparse.Namespace) -> Iterator[tuple[int, int, str]]:
    with mlserver_up(folder, python) as (port, _calls, pid):
        yield port, pid, "/v2/models/trees/infer"


@contextmanager
def mlserver_up(folder: Path, python: str) -> Iterator[tuple[int, int, int]]:
    """Keep MLServer up without parallel workers; gives its ports of REST and gRPC, and its pid."""
    place = folder / "mlserver"
    place.mkdir()
    ports = [free_port() for _ in range(3)]
    settings = {
        "http_port": ports[0], "grpc_port": ports[1], "metrics_port": ports[2],
        "host": "127.0.0.1", "parallel_workers": 0, "debug": False,
    }  # fmt: skip
    (place / "settings.json").write_text(json.dumps(settings), "utf-8")
    model = {"name": "trees", "implementation": "trees.Trees"}
    (place / "model-settings.json").write_text(json.dumps(model), "utf-8")
    (place / "trees.py").write_text(MLSERVER, "utf-8")
    command = [str(Path(python).with_name("mlserver")), "start", "."]
    with started(command, place, folder, ports[0], "/v2/models/trees/ready") as pid:
        yield ports[0], ports[1], pid


@contextmanager
def triton(folder: Path, python: str, wanted: argparse.Namespace) -> Iterator[tuple[int, int, str]]:
    place = folder / "triton" / "trees"
    (place / "1").mkdir(parents=True)
    names = ["x"] if wanted.matrix else [f"feature_{i}" for i in range(wanted.features)]
    dims = f"-1, {wanted.features}" if wanted.matrix else "-1"
    inputs = [f'{{ name: "{name}" data_type: TYPE_FP64 dims: [ {dims} ] }}' for name in names]
    text = TRITON_CONFIG.format(inputs=", ".join(inputs))
    (place / "config.pbtxt").write_text(text, "utf-8")
    # The backend's interpreter, of this one's version, finds ONNX Runtime where this one does.
    ours = str(Path(onnxruntime.__file__).parents[1])
    (place / "1" / "model.py").write_text(
        TRITON.format(folder=str(folder), libraries=ours), "utf-8"
    )
    ask = "import sys, sysconfig, pytriton; print(pytriton.__path__[0]); "
    ask += "print(sysconfig.get_config_var('LIBDIR')); print(sysconfig.get_python_version())"
    root, libraries, version = subprocess.run(
        [python, "-c", ask], check=True, capture_output=True, text=True
    ).stdout.split()
    server = Path(root) / "tritonserver"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    # The wheel keeps the stubs of all interpreters elsewhere; the server wants one at its side.
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for path in [*(server / "backends" / "python").iterdir(), stub]:
        (backend / path.name).symlink_to(path)
    port = free_port()
    command = [
        str(server / "bin" / "tritonserver"), f"--model-repository={folder / 'triton'}",
        f"--backend-directory={backend.parent}", f"--http-port={port}",
        "--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false",
    ]  # fmt: skip
    more = {
        "LD_LIBRARY_PATH": f"{server / 'lib'}:{server / 'external_libs'}:{libraries}",
    }
    with started(command, place, folder, port, "/v2/models/trees/ready", **more) as pid:
        yield port, pid, "/v2/models/trees/infer"


@contextmanager
def bentoml(folder: Path, python: str, _: argparse.Namespace) -> Iterator[tuple[int, int, str]]:
    place = folder / "bentoml"
    place.mkdir()
    (place / "trees.py").write_text(BENTOML, "utf-8")
    port = free_port()
    command = [str(Path(python).with_name("bentoml")), "serve", "trees:Trees"]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    with started(
        command, place, folder, port, "/readyz", BENTOML_HOME=str(folder / "bento"),
        BENTOML_DO_NOT_TRACK="True",
    ) as pid:  # fmt: skip
        yield port, pid, "/infer"


STARTS = {"mlserver": mlserver, "triton": triton, "bentoml": bentoml}


@contextmanager
def started(
    command: list[str], place: Path, folder: Path, port: int, ready: str, **more: str
) -> Iterator[int]:
    """Keep a server up; its log is told if it does not become ready."""
    log = place / "log"
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{place}", **more}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=place, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        ends = time.monotonic() + 40
        while not answers(port, ready):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(reason(log.read_text("utf-8", "replace")))
            time.sleep(0.05)
        yield process.pid
    finally:
        # A session of its own: what it started ends with it.
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def reason(log: str) -> str:
    """Give the first lines that tell an error."""
    lines = [line for line in log.splitlines() if "rror" in line or line.startswith("E")]
    return "did not become ready: " + " / ".join(line[:400] for line in lines[:4])


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
