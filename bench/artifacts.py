"""A large artifact up and down through the running platform, and what the server's memory does.

    python bench/artifacts.py               # 10 GiB
    python bench/artifacts.py --size 0.01   # a hundredth

Prints one JSON object. Memory is what the kernel counts for the control process alone
(proportional set size), asked every 50 ms; `grown_mib` is the highest while bytes flow against
the one at rest before. What comes back must have the digest of what went up.
"""

import argparse
import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tracking import AT_MS, Server, ask, connected, cpu_of, new_run, ours, post

PIECE = 1 << 20
REST_S = 2.0


def main() -> int:
    """Send it, fetch it, compare, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1.0, help="share of 10 GiB")
    wanted = parser.parse_args()
    pieces = max(8, round(10 * 1024 * wanted.size))
    with ours() as server:
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{new_run(server)}/artifacts/large.bin"
        settled(server)
        rest = pss_mib(server)
        digest = blake2b()
        with watched(server) as up, connected(server) as connection:
            connection.request(
                "PUT", path, body(pieces, digest), {"Content-Length": str(pieces * PIECE)}
            )
            answered = connection.getresponse()
            assert answered.read() is not None
            assert answered.status == http.client.OK, answered.status
        with watched(server) as down, connected(server) as connection:
            back = fetched(connection, path)
        figures = {
            "mib": pieces,
            "same": back == digest.hexdigest(),
            "at_rest_mib": rest,
            "up": shown(up, pieces, rest),
            "down": shown(down, pieces, rest),
        }
    print(json.dumps(figures, indent=2))
    return 0 if figures["same"] else 1


def settled(server: Server) -> None:
    """Let the server do its first logs, then rest."""
    with connected(server) as connection:
        run = new_run(server)
        for step in range(50):
            point = {"run_id": run, "key": "loss", "value": 0.5, "timestamp": AT_MS, "step": step}
            ask(connection, *post("runs/log-metric", point))
    time.sleep(REST_S)


def body(pieces: int, digest: Any) -> Iterator[bytes]:
    """Give bytes that do not repeat from piece to piece."""
    base = bytes(range(256)) * (PIECE // 256)
    for number in range(pieces):
        piece = number.to_bytes(16, "big") + base[16:]
        digest.update(piece)
        yield piece


def fetched(connection: http.client.HTTPConnection, path: str) -> str:
    """Fetch a file; gives its digest."""
    connection.request("GET", path)
    answer = connection.getresponse()
    digest = blake2b()
    while piece := answer.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


@contextmanager
def watched(server: Server) -> Iterator[dict[str, float]]:
    """Note the highest memory, the seconds and the CPU of what is done meanwhile."""
    seen: dict[str, float] = {"highest_mib": 0.0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            seen["highest_mib"] = max(seen["highest_mib"], pss_mib(server))

    thread = threading.Thread(target=watch)
    thread.start()
    cpu_s, begun = cpu_of(server.pids), time.perf_counter()
    try:
        yield seen
    finally:
        seen["wall_s"] = time.perf_counter() - begun
        seen["cpu_s"] = cpu_of(server.pids) - cpu_s
        ended.set()
        thread.join()


def pss_mib(server: Server) -> float:
    """Give the proportional set size of the processes that answer."""
    total = 0
    for pid in server.pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8")
        found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        assert found is not None
        total += int(found[1])
    return round(total / 1024, 1)


def shown(seen: dict[str, float], mib: int, rest: float) -> dict[str, float]:
    """Give what was noted as figures."""
    return {
        "grown_mib": round(seen["highest_mib"] - rest, 1),
        "mib_per_s": round(mib / seen["wall_s"], 1),
        "cpu_s": round(seen["cpu_s"], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
