"""A tracking server that does nothing: answers of the right form, at once. A client's own floor.

    python bench/nothing.py          # prints its port, answers until it is ended
    python bench/nothing.py --asgi   # the same through uvicorn, as servers are mostly built

It reads no request but its length, keeps nothing, and gives every run the same id.
"""

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn

RUN = "0" * 32
_CREATED = {
    "run": {
        "info": {
            "run_id": RUN,
            "run_uuid": RUN,
            "run_name": "nothing",
            "experiment_id": "0",
            "user_id": "u",
            "status": "RUNNING",
            "start_time": 1_700_000_000_000,
            "artifact_uri": f"mlflow-artifacts:/0/{RUN}/artifacts",
            "lifecycle_stage": "active",
        },
        "data": {},
    }
}


_BODIES = {b"created": json.dumps(_CREATED).encode(), b"version": b"3.17.2", b"empty": b"{}"}


def _kind(path: bytes) -> bytes:
    """Say which of the answers a path gets."""
    if path == b"/version":
        return b"version"
    return b"created" if b"runs/create" in path or b"runs/get" in path else b"empty"


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


ANSWERS = {kind: _answer(body) for kind, body in _BODIES.items()}


class Nothing(asyncio.Protocol):
    """One connection: each whole request is answered by its path alone."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._read[:end]).lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            whole = end + 4 + length
            if len(self._read) < whole:
                return
            del self._read[:whole]
            kind = _kind(head.split(b" ", 2)[1])
            self._transport.write(ANSWERS[kind])  # type: ignore[attr-defined]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer as an ASGI application that reads the body and does nothing with it."""
    while (await receive()).get("more_body"):
        pass
    body = _BODIES[_kind(scope["path"].encode())]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def bare() -> None:
    """Listen on a free port and say which."""
    server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def through_uvicorn() -> None:
    """Do the same behind uvicorn."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(application, log_level="error", lifespan="off", access_log=False)
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    if "--asgi" in sys.argv:
        through_uvicorn()
    else:
        asyncio.run(bare())
