"""Ask for predictions over the V2 protocol, as any client would, and keep what was answered."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import msgspec
import polars as pl

from mainspring.core.errors import Unavailable

FEWEST_ROWS, MOST_ROWS = 25, 50
LANES = 2
PATIENCE_S = 30.0
_TYPES = {pl.String: "BYTES", pl.Float64: "FP64", pl.Int64: "INT64"}


class _Tensor(msgspec.Struct):
    name: str
    data: list[Any]


class _Answered(msgspec.Struct):
    parameters: dict[str, Any]
    outputs: list[_Tensor]


@dataclass(slots=True)
class Served:
    """What the callers got, row by row, in the order in which it was asked for."""

    keys: list[str] = field(default_factory=list)
    times: list[pl.Series] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)
    fallbacks: int = 0
    """Requests in which another version stepped in for a row."""
    unanswered: int = 0
    requests: int = 0
    repeated: int = 0
    """Requests that were sent again because a worker was gone."""


@dataclass(frozen=True, slots=True)
class _Asked:
    keys: list[str]
    times: pl.Series
    answer: Future[tuple[_Answered, int]]


class Predictions:
    """Sends rows in requests of 25 or more, over a few connections at once.

    A request that breaks, because the worker behind it was killed, is sent again with its id: the
    platform counts it once. Rows wait until there are enough of them; `finish` sends the rest.

    Args:
        url: Address of the inference workers.
        endpoint: Name of the endpoint.
        columns: Columns that a request carries.
    """

    def __init__(self, url: str, endpoint: str, columns: list[str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._path = f"/v2/models/{endpoint}/infer"
        self._columns = columns
        self._lanes = ThreadPoolExecutor(LANES, thread_name_prefix="ask")
        self._mine = threading.local()
        self._waiting: list[pl.DataFrame] = []
        self._asked: list[_Asked] = []
        self._number = 0
        self.served = Served()

    def ask(self, rows: pl.DataFrame) -> None:
        """Ask for rows that have come due; returns before they are answered."""
        self._waiting.append(rows)
        if sum(part.height for part in self._waiting) >= FEWEST_ROWS:
            self._send()

    def finish(self) -> None:
        """Send what waits, and wait for every answer."""
        self._send()
        for asked in self._asked:
            self._keep(asked, *asked.answer.result())
        self._asked.clear()

    def close(self) -> None:
        """End the connections."""
        self._lanes.shutdown()

    def _send(self) -> None:
        if not self._waiting:
            return
        rows = pl.concat(self._waiting)
        self._waiting.clear()
        for part in _parts(rows):
            self._number += 1
            body = self._body(f"flights-{self._number}", part)
            answer = self._lanes.submit(self._exchange, body)
            self._asked.append(_Asked(part["flight_id"].to_list(), part["scheduled_at"], answer))

    def _body(self, request_id: str, rows: pl.DataFrame) -> bytes:
        inputs = [
            {
                "name": name,
                "shape": [rows.height],
                "datatype": _TYPES[type(rows.schema[column])],
                "data": rows[column].to_list(),
            }
            for name, column in (
                ("__key__", "flight_id"),
                *((name, name) for name in self._columns),
            )
        ]
        times = rows["scheduled_at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list()
        shape = [rows.height]
        inputs.append(
            {"name": "__event_time__", "shape": shape, "datatype": "BYTES", "data": times}
        )
        outputs = [{"name": "score"}, {"name": "version"}]
        return msgspec.json.encode({"id": request_id, "inputs": inputs, "outputs": outputs})

    def _exchange(self, body: bytes) -> tuple[_Answered, int]:
        """Send until it is answered; gives the answer and how often it was sent again."""
        until, again = time.monotonic() + PATIENCE_S, 0
        while True:
            try:
                connection = self._connection()
                connection.request("POST", self._path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                self._mine.connection.close()
                if time.monotonic() > until:
                    raise
                again += 1
                time.sleep(0.02)
                continue
            if response.status == 503 and time.monotonic() < until:
                time.sleep(0.05)
                continue
            if response.status != 200:
                raise Unavailable(f"{self._path}: {response.status} {content[:300]!r}")
            return msgspec.json.decode(content, type=_Answered), again

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=PATIENCE_S)
            self._mine.connection = connection
        if connection.sock is None:
            connection.connect()
            assert isinstance(connection.sock, socket.socket)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _keep(self, asked: _Asked, answer: _Answered, again: int) -> None:
        outputs = {output.name: output.data for output in answer.outputs}
        prediction = answer.parameters["prediction_id"]
        served, rows = self.served, len(asked.keys)
        served.requests += 1
        served.repeated += again
        served.keys += asked.keys
        served.times.append(asked.times)
        served.scores += outputs["score"]
        served.versions += outputs["version"]
        served.predictions += [f"{prediction}:{row}" for row in range(rows)]
        served.fallbacks += bool(answer.parameters.get("fallback"))
        served.unanswered += sum(score is None for score in outputs["score"])


def _parts(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut rows into parts of 25 to 50; the only part of a few rows may be smaller."""
    count = max(1, rows.height // MOST_ROWS)
    edges = [rows.height * part // count for part in range(count + 1)]
    for start, end in pairwise(edges):
        yield rows.slice(start, end - start)
