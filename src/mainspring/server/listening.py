"""Uvicorn as the control process runs it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from mainspring.server.app import ControlApp
from mainspring.server.quick import QuickProtocol

KEEP_ALIVE_S = 75
BACKLOG = 1024


class Server(uvicorn.Server):
    """A server on a socket that somebody else opened, and that says when it answers.

    Uvicorn's own signal handling is left out: it would end the process before the database closes.

    Args:
        app: What answers.
        drain_s: Seconds that open requests have at the end.
        on_ready: Called in the event loop, once, when requests are answered.
    """

    def __init__(self, app: ControlApp, *, drain_s: float, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=QuickProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(1, int(drain_s)),
            )
        )
        self._app = app
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to end, then finish what is open."""
        try:
            await super().serve(sockets)
        finally:
            self._app.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._on_ready()
