"""Points that wait: logged and durable as they came, put into their series when somebody reads.

A training loop writes the same thousand metrics again and again and is read rarely. Each series
has a row and two indexes, so to keep them at every step is nearly all that logging costs.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, literal_column, select

from mainspring.store.bulk import BulkStatement, QuickQuery
from mainspring.store.database import Database
from mainspring.tracking.metrics import Sample, add_samples, check_points
from mainspring.tracking.run import Point
from mainspring.tracking.tables import METRIC_WAITING

POINTS_AT_MOST = 10_000
BATCHES_AT_MOST = 2_000
"""When more wait, the next to log puts them into their series: bounds how long a reader waits."""


class WaitingPoints:
    """The points of one project that are in no series yet. Thread-safe."""

    def __init__(self, project: str, database: Database) -> None:
        self._project = project
        self._database = database
        # Of this process, by the writer alone; what a former one left is put away with the first.
        self._points = POINTS_AT_MOST
        self._batches = 0

    def add(self, connection: Connection, run: str, points: Sequence[Point]) -> None:
        """Let points wait, inside a write.

        Raises:
            InvalidInput: A key is not one, or a step or time is no 64-bit integer.
        """
        if not points:
            return
        _ADD.run(connection, [(self._project, run, packed(points))])
        self._points += len(points)
        self._batches += 1
        if self._points > POINTS_AT_MOST or self._batches > BATCHES_AT_MOST:
            self.settle(connection)

    def settle(self, connection: Connection) -> None:
        """Put all that wait into their series, inside a write."""
        self._points = self._batches = 0
        rows = _ALL.rows(connection, self._project)
        by_run: dict[str, list[Sample]] = defaultdict(list)
        for _, run, body in rows:
            by_run[run] += _DECODER.decode(body)
        for run, samples in by_run.items():
            add_samples(connection, self._project, run, samples)
        if rows:
            last = rows[-1][0]
            connection.execute(_REMOVE, {"of_project": self._project, "of_last": last})

    @contextmanager
    def read(self, run: str | None = None) -> Iterator[Connection]:
        """Give a connection that sees every point in its series; see `Database.read`.

        Args:
            run: Only this run's points are read.

        Raises:
            StorageFull: Points wait, and the disk has no room to put them away.
        """
        with self._database.read() as connection:
            if run is None:
                waits = _ANY.rows(connection, self._project)
            else:
                waits = _ANY_OF_RUN.rows(connection, self._project, run)
            if not waits:
                yield connection
                return
            if self._database.inside_write():
                self.settle(connection)
                yield connection
                return
        self._database.write(self.settle)
        with self._database.read() as connection:
            yield connection


def packed(points: Sequence[Point]) -> bytes:
    """Check points and write them as they wait."""
    rows = [(one.key, one.value, one.step, one.at_ms) for one in points]
    check_points(points)
    return _ENCODER.encode(rows)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[list[Sample]] = msgspec.msgpack.Decoder(list[Sample])
_MINE: Any = METRIC_WAITING.c.project == bindparam("of_project")
_ADD = BulkStatement(insert(METRIC_WAITING), ["project", "run", "body"])
_FIRST = select(METRIC_WAITING.c.number).where(_MINE).limit(literal_column("1"))
_ANY = QuickQuery(_FIRST, ["of_project"])
_ANY_OF_RUN = QuickQuery(
    _FIRST.where(METRIC_WAITING.c.run == bindparam("of_run")), ["of_project", "of_run"]
)
_ALL = QuickQuery(
    select(METRIC_WAITING.c.number, METRIC_WAITING.c.run, METRIC_WAITING.c.body)
    .where(_MINE)
    .order_by(METRIC_WAITING.c.number),
    ["of_project"],
)
_REMOVE = delete(METRIC_WAITING).where(_MINE, METRIC_WAITING.c.number <= bindparam("of_last"))
