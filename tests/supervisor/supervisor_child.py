"""A stand-in for control, a worker or a run: speaks over the wire and notes what it hears.

What it does is chosen by `STAND_IN_<NAME>` in its environment: `exit` (ends before it is ready),
`hang` (is never ready), `deaf` (ends neither when drained nor by SIGTERM), `mute`
(closes its wire), `code-7` (ends with that code once ready), `lends` (a run that has done its work
and tells what it had loaded).
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from mainspring.formats.wire import Drain, Loaded, Ready, Welcome, Wire, decode


class StandIn:
    def __init__(self, wire: Wire, welcome: Welcome) -> None:
        self.wire = wire
        self.welcome = welcome
        run = welcome.assignment.run if welcome.assignment else ""
        self.name = welcome.worker or run or welcome.role
        self.way = os.environ.get(f"STAND_IN_{self.name.upper().replace('-', '_')}", "")

    def note(self, event: str, detail: Any = None) -> None:
        line = {"name": self.name, "pid": os.getpid(), "event": event, "detail": detail}
        with Path(self.welcome.home, "trace").open("a") as file:
            file.write(json.dumps(msgspec.to_builtins(line)) + "\n")

    def serve(self, listener: socket.socket) -> None:
        """Answer each connection with this process's id; pass on what control's clients send."""
        listener.setblocking(True)
        while True:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as file:
                line = file.readline()
                if line.strip():
                    self.wire.send(decode(line))
                file.write(f"{os.getpid()}\n".encode())

    def leave(self, event: str, code: int) -> None:
        if self.way != "deaf":
            self.note(event)
            os._exit(code)

    def listen_to_supervisor(self) -> None:
        while (message := self.wire.receive()) is not None:
            self.note(type(message).__name__, message)
            if isinstance(message, Drain):
                # Others would be heard of before, if the order were not kept.
                time.sleep(0.2)
                self.leave("drained", 0)
        self.leave("alone", 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--supervisor-fd", type=int, required=True)
    parser.add_argument("--listen-fd", type=int)
    arguments = parser.parse_args()
    wire = Wire.inherited(arguments.supervisor_fd)
    welcome = wire.receive()
    assert isinstance(welcome, Welcome)
    child = StandIn(wire, welcome)
    child.note("Welcome", {"welcome": welcome, "secret": os.environ.get("MAINSPRING_TOKEN")})
    print("printed by", child.name)
    if child.way == "exit":
        sys.exit(3)
    if child.way == "mute":
        wire.close()
        time.sleep(60)
    if child.way == "hang":
        time.sleep(60)
    signal.signal(signal.SIGTERM, lambda *_: child.leave("SIGTERM", 0))
    if arguments.listen_fd is not None:
        listener = socket.socket(fileno=arguments.listen_fd)
        threading.Thread(target=child.serve, args=(listener,), daemon=True).start()
    threading.Thread(target=child.listen_to_supervisor, daemon=True).start()
    wire.send(Ready())
    if child.way == "lends":
        libraries = Path(welcome.home, "libraries")
        libraries.mkdir(exist_ok=True)
        wire.send(Loaded(("json",), (str(libraries),)))
        os._exit(0)
    if child.way.startswith("code-"):
        os._exit(int(child.way.removeprefix("code-")))
    while True:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
