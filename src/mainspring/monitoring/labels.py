"""Labels as they come in: kept every one, acknowledged when durable, joined later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, select

from mainspring.core.errors import InvalidInput, Refused
from mainspring.core.ids import Digest, digest_bytes
from mainspring.monitoring.bulk import write_rows
from mainspring.monitoring.tables import LABEL, LABEL_BATCH
from mainspring.monitoring.times import micros


class Label(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message about the outcome of one prediction.

    Named by `prediction` (`<id>`, or `<id>:<i>` for row i of a batch), or by `key` and
    `event_time`: the last prediction of both. `value` is the outcome (1 or 0 for classes);
    `void` says that there will be none.
    """

    arrival: datetime
    """When it became known, in the endpoint's time; a later one corrects an earlier one."""
    prediction: str | None = None
    key: str | None = None
    event_time: datetime | None = None
    value: float | None = None
    void: bool = False


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What became of a batch; `repeated` when its token had been acknowledged before."""

    token: str
    rows: int
    repeated: bool


Row = tuple[str | None, int | None, str | None, int | None, float | None, int, int]
# Built once: a batch is small, and building its statements cost more than running them.
_KNOWN = select(LABEL_BATCH.c.digest, LABEL_BATCH.c.rows).where(
    *(LABEL_BATCH.c[name] == bindparam(name) for name in ("project", "endpoint", "token"))
)
_LAST = select(func.max(LABEL.c.number))
_INSERT = insert(LABEL)
_INSERT_BATCH = insert(LABEL_BATCH)
_ROW = ("prediction", "row", "key", "event_time_us", "value", "void", "arrival_us")


@dataclass(frozen=True, slots=True)
class Batch:
    """A checked batch, ready to be written in one transaction."""

    project: str
    endpoint: str
    token: str
    digest: Digest
    received_us: int
    rows: list[Row]


def checked_batch(
    project: str, endpoint: str, labels: Sequence[Label], *, token: str, received_us: int
) -> Batch:
    """Refuse a batch with the first wrong label, before anything is written."""
    if not token:
        raise InvalidInput(f"labels of {endpoint!r}: empty token; give one that names this batch")
    rows = [_checked(endpoint, place, label) for place, label in enumerate(labels)]
    return Batch(project, endpoint, token, digest_bytes(_encode(labels)), received_us, rows)


def store(connection: Connection, batch: Batch) -> LabelReport:
    """Write a batch, or find that its token was acknowledged before.

    Raises:
        Refused: The token was used for other labels.
    """
    place = {"project": batch.project, "endpoint": batch.endpoint, "token": batch.token}
    known = connection.execute(_KNOWN, place).first()
    if known is not None:
        if known.digest != batch.digest:
            raise Refused(
                f"labels of {batch.endpoint!r}: token {batch.token!r} was acknowledged with "
                f"{known.rows} other labels, found {len(batch.rows)}; use a new token for them"
            )
        return LabelReport(batch.token, known.rows, True)
    first = (connection.execute(_LAST).scalar() or 0) + 1
    count = len(batch.rows)
    if count:
        columns: dict[str, Sequence[Any]] = dict(
            zip(_ROW, zip(*batch.rows, strict=True), strict=True)
        )
        columns["number"] = range(first, first + count)
        for name in ("project", "endpoint", "token", "received_us"):
            columns[name] = [getattr(batch, name)] * count
        write_rows(connection, _INSERT, columns)
    connection.execute(_INSERT_BATCH, {**place, "digest": batch.digest, "rows": count})
    return LabelReport(batch.token, count, False)


def parse_prediction(reference: str) -> tuple[str, int]:
    """Read `<id>` or `<id>:<i>`.

    >>> parse_prediction("0190" + "0" * 28 + ":3")[1]
    3
    """
    name, _, row = reference.partition(":")
    if len(name) != 32 or (row and not (row.isascii() and row.isdigit() and len(row) < 10)):
        raise InvalidInput(
            f"prediction {reference!r}: expected the prediction id of the answer, 32 hex digits, "
            "and ':<row>' for a row of a batch"
        )
    return name, int(row or 0)


def _checked(endpoint: str, place: int, label: Label) -> Row:
    by_key = label.key is not None and label.event_time is not None
    if (label.prediction is not None) == by_key or (label.key is None) != (
        label.event_time is None
    ):
        raise _wrong(endpoint, place, "expected either `prediction`, or `key` and `event_time`")
    if label.void == (label.value is not None):
        raise _wrong(endpoint, place, "expected either `value`, or `void` true")
    if label.value is not None and not isfinite(label.value):
        raise _wrong(endpoint, place, f"found value {label.value}, expected a finite number")
    name, row = (None, None) if label.prediction is None else parse_prediction(label.prediction)
    try:
        event_time_us = None if label.event_time is None else micros(label.event_time)
        arrival_us = micros(label.arrival)
    except ValueError as error:
        raise _wrong(endpoint, place, str(error)) from error
    return name, row, label.key, event_time_us, label.value, int(label.void), arrival_us


def _wrong(endpoint: str, place: int, what: str) -> InvalidInput:
    return InvalidInput(f"label {place} of {endpoint!r}: {what}; none of the batch was taken")


_encode = msgspec.json.Encoder(order="deterministic").encode
