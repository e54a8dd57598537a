"""Compaction: whole records from the workers' segments into Delta and the database, exactly once.

A range of bytes is planned in the database first, so its bounds are fixed before anything is
written. Its rows go to Delta under the token (segment, number), then to the database together with
"done". A crash anywhere leaves a planned range, which the next pass takes through the same steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from mainspring.core.errors import Corrupt
from mainspring.core.home import Home
from mainspring.formats.frame import frames
from mainspring.formats.segment import Block, SegmentFile, read_blocks, segments
from mainspring.monitoring.bulk import write_rows
from mainspring.monitoring.recent import RecentRows
from mainspring.monitoring.rows import Rows, flatten
from mainspring.monitoring.tables import PREDICTION, PREDICTION_TABLE, SEGMENT_RANGE
from mainspring.store.database import Database
from mainspring.store.tables import DeltaTables

_CHUNK = 500
_INSERT = insert(PREDICTION)


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What one pass moved."""

    ranges: int
    rows: int
    repeats: int


@dataclass(frozen=True, slots=True)
class _Range:
    segment: str
    number: int
    start: int
    end: int
    torn: bool


def compact(
    project: str, home: Home, database: Database, tables: DeltaTables, recent: RecentRows
) -> CompactionReport:
    """Move every whole record that no range holds yet; one caller at a time."""
    ranges = rows = repeats = 0
    for file in segments(home.segments):
        for planned, blocks in _ranges(project, file, database):
            mine = [block for block in blocks if block.project == project]
            parts = flatten(mine)
            for part in parts:
                tables.append(
                    part.table,
                    part.frame,
                    writer=planned.segment,
                    number=planned.number,
                    partition_by=["date"],
                )
            left_out = sum(block.missing_before + block.sampled_before for block in mine)
            marked = _finish(database, project, planned, parts, left_out)
            ranges, rows = ranges + 1, rows + sum(part.frame.height for part in parts)
            if marked is not None:
                repeats += marked
                for part in parts:
                    recent.add(part)
    return CompactionReport(ranges, rows, repeats)


@dataclass(frozen=True, slots=True)
class Planned:
    """The last range of a segment that one project has planned."""

    project: str
    segment: str
    number: int
    end: int


def planned_ranges(connection: Connection) -> list[Planned]:
    """Give the last planned range by project and segment."""
    columns = SEGMENT_RANGE.c
    last = select(
        columns.project, columns.segment, func.max(columns.number), func.max(columns.end)
    ).group_by(columns.project, columns.segment)
    return [Planned(*row) for row in connection.execute(last)]


def _ranges(
    project: str, file: SegmentFile, database: Database
) -> Iterator[tuple[_Range, Sequence[Block]]]:
    with database.read() as connection:
        last = _last(connection, project, file.segment)
    number, start = 0, 0
    if last is not None:
        number, start = last.number + 1, last.end
        if last.state == "planned":
            planned = _Range(file.segment, last.number, last.start, last.end, bool(last.torn))
            yield planned, _read_again(file.path, planned)
    if file.path.stat().st_size <= start:
        return
    blocks, end, torn = read_blocks(file.path, start)
    if end > start:
        planned = _Range(file.segment, number, start, end, torn)
        database.write(lambda connection: _plan(connection, project, planned))
        yield planned, blocks


def _read_again(path: Path, planned: _Range) -> list[Block]:
    """Read exactly the bytes that were planned: the segment may have grown since."""
    with path.open("rb") as file:
        file.seek(planned.start)
        content = file.read(planned.end - planned.start)
    found = [(_decode(payload), behind) for payload, behind in frames(content)]
    behind = found[-1][1] if found else 0
    if behind != planned.end - planned.start:
        raise Corrupt(
            f"segment {path.name}: bytes {planned.start} to {planned.end} were whole when they "
            f"were planned, now they break off at {planned.start + behind}; restore the file"
        )
    return [block for block, _ in found]


def _last(connection: Connection, project: str, segment: str) -> Any:
    return connection.execute(
        select(SEGMENT_RANGE)
        .where(SEGMENT_RANGE.c.project == project, SEGMENT_RANGE.c.segment == segment)
        .order_by(SEGMENT_RANGE.c.number.desc())
        .limit(1)
    ).first()


def _plan(connection: Connection, project: str, planned: _Range) -> None:
    connection.execute(
        insert(SEGMENT_RANGE).values(
            project=project,
            segment=planned.segment,
            number=planned.number,
            start=planned.start,
            end=planned.end,
            state="planned",
            rows=0,
            left_out=0,
            torn=int(planned.torn),
        )
    )


def _finish(
    database: Database, project: str, planned: _Range, parts: Sequence[Rows], left_out: int
) -> int | None:
    """Write the rows and "done" in one transaction.

    Returns:
        How many rows repeat others; None if somebody finished the range before.
    """

    def work(connection: Connection) -> int | None:
        done = connection.execute(
            update(SEGMENT_RANGE)
            .where(
                SEGMENT_RANGE.c.project == project,
                SEGMENT_RANGE.c.segment == planned.segment,
                SEGMENT_RANGE.c.number == planned.number,
                SEGMENT_RANGE.c.state == "planned",
            )
            .values(state="done", rows=sum(part.frame.height for part in parts), left_out=left_out)
        )
        if done.rowcount == 0:
            return None
        return sum(_insert(connection, project, part) for part in parts)

    return database.write(work)


def _insert(connection: Connection, project: str, part: Rows) -> int:
    if not part.answered:
        return 0
    names = select(PREDICTION_TABLE.c.name).where(
        PREDICTION_TABLE.c.project == project, PREDICTION_TABLE.c.name == part.table
    )
    if connection.execute(names).first() is None:
        connection.execute(
            insert(PREDICTION_TABLE).values(
                project=project, name=part.table, endpoint=part.endpoint
            )
        )
    first = (connection.execute(select(func.max(PREDICTION.c.number))).scalar() or 0) + 1
    numbers = range(first, first + part.frame.height)
    repeat_of = _repeats(connection, project, part, numbers)
    columns = {**part.predictions, "number": numbers, "repeat_of": repeat_of}
    write_rows(connection, _INSERT, columns)
    return len(numbers) - repeat_of.count(None)


def _repeats(
    connection: Connection, project: str, part: Rows, numbers: Sequence[int]
) -> list[int | None]:
    """Point rows of a request that was answered before to the row that counts.

    The first one compacted counts. A row is a repeat only if key and event time agree too: a
    client that reuses an id for another request loses nothing.
    """
    repeat_of: list[int | None] = [None] * len(numbers)
    asked = part.predictions
    requests = sorted({request for request in asked["request"] if request is not None})
    if not requests:
        return repeat_of
    counted: dict[tuple[str, int, str, int], int] = {}
    p = PREDICTION.c
    for start in range(0, len(requests), _CHUNK):
        found = connection.execute(
            select(p.request, p.row, p.key, p.event_time_us, p.number).where(
                p.project == project,
                p.endpoint == part.endpoint,
                p.request.in_(requests[start : start + _CHUNK]),
                p.repeat_of.is_(None),
            )
        )
        counted.update({(one[0], one[1], one[2], one[3]): one[4] for one in found})
    names = zip(asked["request"], asked["row"], asked["key"], asked["event_time_us"], strict=True)
    for place, name in enumerate(names):
        first = numbers[place] if name[0] is None else counted.setdefault(name, numbers[place])
        repeat_of[place] = None if first == numbers[place] else first
    return repeat_of


_decode = msgspec.msgpack.Decoder(Block).decode
