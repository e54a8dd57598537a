"""A home in which everything has happened once, with the console in front of it."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "story"))

from small_driver import ENDPOINT, SmallDriver
from small_world import DAY, START, SmallWorld

from mainspring.api.client import Client
from mainspring.api.local import local_client
from mainspring.core.clock import FrozenClock, SystemClock
from mainspring.core.config import Config
from mainspring.monitoring.labels import Label
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control
from mainspring.server.listening import Server
from mainspring.server.ui.face import face
from mainspring.serving.engine import Rows

HOSTILE = '"><script>window.stolen=1</script><img src=x onerror="window.stolen=1">'
DAYS = 20


class Console:
    """A home with the console in front of it, on a real socket."""

    def __init__(self, home: Path) -> None:
        self.config = Config()
        self.platform = Platform.open(self.config, home, clock=SystemClock())
        self.client: Client = local_client(self.platform, self.config)
        self.control = Control(None, self.platform.clock.now())
        self.port = 0
        self._stop: Callable[[], None] | None = None

    def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        ready = threading.Event()
        self.control = Control(None, self.platform.clock.now())
        app = build_app(self.platform, self.control, faces=[face(self.platform, self.control)])
        server = Server(app, drain_s=2, on_ready=ready.set)

        def serve() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(server.serve([listening]))

        thread = threading.Thread(target=serve)
        thread.start()
        assert ready.wait(10)

        def stop() -> None:
            self.control.draining.set()
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()

        self._stop = stop

    def stop(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None

    def close(self) -> None:
        self.stop()
        self.platform.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        return self._ask("GET", path, None, headers)[:2]

    def post(self, path: str, form: dict[str, Any], **headers: str) -> tuple[int, str]:
        given = {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.url}
        return self._ask("POST", path, urlencode(form), {**given, **headers})[:2]

    def headers(self, path: str) -> dict[str, str]:
        return self._ask("GET", path, None, {})[2]

    def _ask(
        self, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> tuple[int, str, dict[str, str]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode("utf-8"), dict(answer.headers)
        finally:
            connection.close()


def live(home: Path) -> None:
    """Let the small world run for some weeks, up to the middle of a rollout under an alarm."""
    clock = FrozenClock(START + timedelta(days=400))
    with Platform.open(Config(), home, clock=clock) as platform:
        client = local_client(platform, Config())
        driver = SmallDriver(platform, client, SmallWorld(turns_on=11), clock)
        driver.run(DAYS)
        _harm(platform, driver)
        driver.engine.close()


def _harm(platform: Platform, driver: SmallDriver) -> None:
    """Store texts that would be script if a page showed them as they are."""
    end = START + DAYS * DAY
    driver.engine.predict(
        "default",
        ENDPOINT,
        Rows(
            [HOSTILE],
            [int((end + timedelta(hours=1)).timestamp()) * 1_000_000],
            {"machine": [HOSTILE], "load": [0.5], "day": [DAYS]},
        ),
        request_id=HOSTILE,
    )
    harmful = driver.world.parts(DAYS).head(3)
    harmful = harmful.with_columns(
        part_id=harmful["part_id"] + HOSTILE, load=99.0 + harmful["load"]
    )
    driver.client.commit("parts", harmful, token="harm:1")
    label = Label(
        key=HOSTILE, event_time=end + timedelta(hours=1), value=1.0, arrival=end + DAY / 2
    )
    driver.client.label(ENDPOINT, [label], token="harm:1")
    driver.client.advance(ENDPOINT, end + DAY)
    # The pipeline has no such parameter, so the run fails and says its name.
    run = driver.client.start_run(ENDPOINT, [f"{HOSTILE}"], token="harm").run.run
    with (platform.home.runs("default") / f"{run}.log").open("a", encoding="utf-8") as log:
        log.write(f"{HOSTILE}\n")
