"""Uploads whose server or client dies: nothing of them is seen, and the next one works."""

import hashlib
import http.client
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from running_platform import RunningPlatform, alive, running, wait_until

PIECE = bytes(range(256)) * 4096
PIECES = 24


def asked(
    platform: RunningPlatform, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    parts = urlsplit(platform.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, path, body)
        answered = connection.getresponse()
        return answered.status, answered.read()
    finally:
        connection.close()


def begun_run(platform: RunningPlatform) -> str:
    body = json.dumps({"experiment_id": "0", "start_time": 1}).encode()
    status, content = asked(platform, "POST", "/api/2.0/mlflow/runs/create", body)
    assert status == 200, content
    return str(json.loads(content)["run"]["info"]["run_id"])


def listed(platform: RunningPlatform, run: str) -> list[str]:
    path = f"/api/2.0/mlflow/artifacts/list?run_id={run}"
    found = json.loads(asked(platform, "GET", path)[1])
    return [one["path"] for one in found.get("files", [])]


def stored(home: Path) -> set[Path]:
    """Everything that has become a blob."""
    return {
        path for path in home.rglob("blobs/**/*") if path.is_file() and path.parent.name != "tmp"
    }


def half_sent(platform: RunningPlatform, path: str, held: threading.Event) -> None:
    """Send half of a file, then nothing more until told."""
    parts = urlsplit(platform.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def pieces() -> Iterator[bytes]:
        for _ in range(PIECES // 2):
            yield PIECE
        held.wait(30)

    try:
        connection.request("PUT", path, pieces(), {"Content-Length": str(PIECES * len(PIECE))})
    except OSError:
        pass
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("who", ["server", "client"])
def test_an_upload_that_is_killed_half_way_is_never_seen(live_home: Path, who: str) -> None:
    with running(live_home) as platform:
        run = begun_run(platform)
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/large.bin"
        before = stored(live_home)
        held = threading.Event()
        sender = threading.Thread(target=half_sent, args=(platform, path, held))
        sender.start()
        wait_until(lambda: growing(live_home), "bytes have come")
        if who == "server":
            killed = platform.signal("control", signal.SIGKILL)
            assert killed is not None
            wait_until(lambda: not alive(killed), "control is gone")
        held.set()
        sender.join()
        platform.wait_ready()

        assert listed(platform, run) == []
        assert stored(live_home) == before

        content = PIECE * PIECES
        assert asked(platform, "PUT", path, content)[0] == 200
        status, back = asked(platform, "GET", path)

        assert listed(platform, run) == ["large.bin"]
        assert status == 200
        assert hashlib.sha256(back).digest() == hashlib.sha256(content).digest()


def growing(home: Path) -> bool:
    """Tell whether a file that is no blob yet has several pieces."""
    return any(path.stat().st_size > 4 * len(PIECE) for path in home.rglob("blobs/**/tmp/*"))
