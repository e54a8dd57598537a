"""The control process: `python -m mainspring.server --supervisor-fd N --listen-fd M`."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import uvloop

from mainspring.core.clock import SystemClock
from mainspring.formats.wire import Drain, Processes, Ready, RunEnded, Welcome, Wire
from mainspring.outbound.deliverer import Deliverer
from mainspring.platform import Platform
from mainspring.server.app import build_app
from mainspring.server.control import Control, all_serve
from mainspring.server.faces import all_faces
from mainspring.server.listening import Server

LOG_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_log = logging.getLogger("mainspring.server")


class _Process:
    """One life of the control process."""

    def __init__(self, wire: Wire, welcome: Welcome, listening: socket.socket) -> None:
        clock = SystemClock()
        self._wire = wire
        self._listening = listening
        self._config = welcome.config
        self._control = Control(wire, clock.now(), welcome.url, welcome.inference_url)
        self._platform = Platform.open(welcome.config, Path(welcome.home), clock=clock, owned=True)
        self._platform.run_by(self._control.start_run, self._control.stop_run)
        for name in self._platform.declared():
            alive = [(run.run, run.token) for run in welcome.runs if run.project == name]
            self._platform.project(name).driver.adopt(alive)
        faces = all_faces(self._platform, self._control)
        app = build_app(self._platform, self._control, faces=faces)
        self._deliverer = Deliverer(
            self._platform.outbox, self._platform.door, self._platform.webhooks
        )
        # The last part of the time is for the loops and the database.
        drain_s = welcome.config.drain_s * 0.8
        self._server = Server(app, drain_s=drain_s, on_ready=self._ready)

    def run(self) -> None:
        """Serve until told to drain; then finish what is open and close the database."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())
        self._deliverer.stop()
        self._platform.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        # Ctrl-C goes to the whole group of processes: the supervisor says what comes of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=self._hear, args=(loop,), name="wire", daemon=True).start()
        await self._server.serve(sockets=[self._listening])

    def _ready(self) -> None:
        self._platform.drive(
            self._config.loop_tick_s, serving=lambda number: all_serve(self._platform.home, number)
        )
        self._deliverer.start()
        self._wire.send(Ready())

    def _drain(self) -> None:
        if self._control.draining.is_set():
            return
        self._control.draining.set()
        # A settling that waits for its run would keep its request open beyond the deadline.
        threading.Thread(target=self._platform.rest, name="rest", daemon=True).start()
        self._server.should_exit = True

    def _hear(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what the supervisor says; without one this process has no owner and ends at once."""
        while (message := self._wire.receive()) is not None:
            match message:
                case Drain():
                    loop.call_soon_threadsafe(self._drain)
                case Processes(processes):
                    self._control.processes = processes
                case RunEnded():
                    self._run_ended(message)
                case _:
                    _log.error("the supervisor sent %s, which control does not take", message)
        os._exit(1)

    def _run_ended(self, ended: RunEnded) -> None:
        try:
            self._platform.project(ended.project).driver.run_ended(ended.run, ended.token)
        except Exception:
            # The lease ends by its own time then; hearing the next message matters more.
            _log.exception("the end of run %s could not be taken", ended.run)


def main(arguments: list[str]) -> None:
    """Read the welcome, serve, end."""
    parser = argparse.ArgumentParser(prog="python -m mainspring.server")
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    given = parser.parse_args(arguments)
    # It tells of every plug-in at every start.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    wire = Wire.inherited(given.supervisor_fd)
    os.set_inheritable(given.listen_fd, False)
    welcome = wire.receive()
    if not isinstance(welcome, Welcome):
        raise SystemExit(f"control: found {welcome!r} on the wire, expected Welcome")
    process = _Process(wire, welcome, socket.socket(fileno=given.listen_fd))
    # What is loaded by now stays: the collector need not look at it again.
    gc.freeze()
    process.run()
    logging.shutdown()
    sys.stdout.flush()
    # A thread that still works on a request nobody waits for must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
