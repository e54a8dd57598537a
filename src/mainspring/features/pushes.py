"""The record of pushes: what makes a push happen once, and what the online tables are made from."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import polars as pl
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from mainspring.core.errors import InvalidInput, Refused
from mainspring.core.ids import checked_name
from mainspring.features.tables import ENTITY_SEEN, PUSH

# Built once: making a statement costs more than running it.
_ADD = insert(PUSH)


class PushDone(msgspec.Struct, frozen=True, kw_only=True):
    """What a push did.

    Attributes:
        rows: Accepted.
        quarantined: Rejected by the dataset's checks; the commit of the same rows keeps them.
        ticks: Values of windowed views written, one for each view, entity and tick.
        late: Accepted rows that were known before the last push's `until`: ticks already written
            do not have them, so the source should have pushed them earlier.
    """

    rows: int
    quarantined: int
    ticks: int
    late: int


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """One push as it is kept."""

    ordinal: int
    until_us: int
    rows: pl.DataFrame | None


@dataclass(frozen=True, slots=True)
class PushToken:
    """Who pushes, and a number that grows; printed `writer:number`."""

    writer: str
    number: int

    @classmethod
    def parse(cls, text: str) -> "PushToken":
        """Read the printed form."""
        writer, _, number = text.rpartition(":")
        if not (number.isascii() and number.isdigit() and int(number) < 2**63):
            raise InvalidInput(
                f"token {text!r}: expected a writer's name, a colon and a number that grows with "
                "each push of this writer, such as 'feed:42'"
            )
        return cls(checked_name(writer, what="writer"), int(number))


class PushLog:
    """The pushes of one project."""

    def __init__(self, project: str) -> None:
        self._project = project

    def writers(self, connection: Connection, dataset: str) -> dict[str, int]:
        """Give the newest number of each writer."""
        newest = select(PUSH.c.writer, func.max(PUSH.c.number)).where(*self._of(dataset))
        rows = connection.execute(newest.group_by(PUSH.c.writer))
        return {str(writer): int(number) for writer, number in rows}

    def answer(self, connection: Connection, dataset: str, token: PushToken) -> PushDone:
        """Give what a token did.

        Raises:
            Refused: It did nothing, and its writer has gone on to a larger number.
        """
        mine = [*self._of(dataset), PUSH.c.writer == token.writer]
        found = connection.scalar(select(PUSH.c.answer).where(*mine, PUSH.c.number == token.number))
        if found is None:
            newest = connection.scalar(select(func.max(PUSH.c.number)).where(*mine))
            raise Refused(
                f"push to {dataset!r}: token '{token.writer}:{token.number}' did nothing, and its "
                f"writer has since pushed number {newest}; use a larger one"
            )
        return msgspec.json.decode(found, type=PushDone)

    def add(
        self,
        connection: Connection,
        dataset: str,
        token: PushToken,
        push: Recorded,
        *,
        newest_us: int | None,
        answer: PushDone,
    ) -> None:
        """Record a push; the table refuses an ordinal or token that is there."""
        row = {
            "project": self._project,
            "dataset": dataset,
            "ordinal": push.ordinal,
            "writer": token.writer,
            "number": token.number,
            "until_us": push.until_us,
            "answer": msgspec.json.encode(answer).decode(),
            "rows": None if push.rows is None else _encode(push.rows),
            "newest_us": newest_us,
        }
        connection.execute(_ADD, row)

    def all(self, connection: Connection, dataset: str) -> list[Recorded]:
        """Read all pushes in their order; those that no window reaches have lost their rows."""
        chosen = select(PUSH.c.ordinal, PUSH.c.until_us, PUSH.c.rows).where(*self._of(dataset))
        return [
            Recorded(ordinal, until_us, None if rows is None else pl.read_ipc_stream(rows))
            for ordinal, until_us, rows in connection.execute(chosen.order_by(PUSH.c.ordinal))
        ]

    def forget(self, connection: Connection, dataset: str, *, before_us: int) -> None:
        """Drop the rows of pushes whose newest row was known by then; the tokens stay."""
        old = (*self._of(dataset), PUSH.c.newest_us <= before_us, PUSH.c.rows.is_not(None))
        connection.execute(update(PUSH).where(*old).values(rows=None))

    def entities(self, connection: Connection, view: str, digest: str) -> dict[str, int]:
        """Read the first tick of each entity a view has seen, in the order of their names."""
        chosen = select(ENTITY_SEEN.c.entity, ENTITY_SEEN.c.first_tick_us).where(
            ENTITY_SEEN.c.project == self._project,
            ENTITY_SEEN.c.view == view,
            ENTITY_SEEN.c.digest == digest,
        )
        rows = connection.execute(chosen.order_by(ENTITY_SEEN.c.entity))
        return {str(entity): int(tick) for entity, tick in rows}

    def add_entities(
        self, connection: Connection, view: str, digest: str, first: Mapping[str, int]
    ) -> None:
        """Record entities a view has not seen, or not so early."""
        for entity, tick in first.items():
            values = {"entity": entity, "view": view, "digest": digest}
            mine = [ENTITY_SEEN.c.project == self._project]
            mine += [ENTITY_SEEN.c[name] == value for name, value in values.items()]
            change = update(ENTITY_SEEN).where(*mine).values(first_tick_us=tick)
            if connection.execute(change).rowcount == 0:
                added = {**values, "project": self._project, "first_tick_us": tick}
                connection.execute(insert(ENTITY_SEEN).values(**added))

    def _of(self, dataset: str) -> tuple[ColumnElement[bool], ...]:
        return PUSH.c.project == self._project, PUSH.c.dataset == dataset


def _encode(rows: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    rows.write_ipc_stream(stream)
    return stream.getvalue()
