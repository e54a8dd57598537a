"""`python -m mainspring.serving`: one inference worker, started by the supervisor."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

# Before numpy loads: threads of a worker would only take memory from the others.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvloop

from mainspring.core.home import Home
from mainspring.formats.wire import Drain, Ready, Welcome, Wire
from mainspring.serving.worker import Worker


def main() -> int:
    """Serve until the supervisor says to drain, or is gone."""
    parser = argparse.ArgumentParser(prog="python -m mainspring.serving")
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--grpc-fd", type=int)
    arguments = parser.parse_args()
    # Ctrl-C reaches the whole group; the supervisor decides what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wire = Wire.inherited(arguments.supervisor_fd)
    welcome = wire.receive()
    if not isinstance(welcome, Welcome) or welcome.role != "inference":
        print("worker: expected a welcome for an inference worker first", file=sys.stderr)
        return 2
    listening = _inherited(arguments.listen_fd)
    calls = None if arguments.grpc_fd is None else _inherited(arguments.grpc_fd)
    uvloop.run(_serve(welcome, wire, listening, calls))
    return 0


def _inherited(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


async def _serve(
    welcome: Welcome, wire: Wire, listening: socket.socket, calls: socket.socket | None
) -> None:
    worker = Worker(Home(Path(welcome.home)), welcome.config, welcome.worker)
    loop = asyncio.get_running_loop()

    def listen() -> None:
        try:
            while (message := wire.receive()) is not None:
                if isinstance(message, Drain):
                    loop.call_soon_threadsafe(worker.stop)
        finally:
            # A closed loop has stopped by itself.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(lambda: worker.stop(at_once=True))

    threading.Thread(target=listen, name="supervisor", daemon=True).start()
    await worker.serve(listening, calls=calls, ready=lambda: wire.send(Ready()))


if __name__ == "__main__":
    sys.exit(main())
