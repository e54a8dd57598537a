"""What the loop asks of monitoring: one frozen value per endpoint."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from mainspring.core.clock import Instant
from mainspring.monitoring.guards import RolloutVerdict
from mainspring.monitoring.losses import Signal
from mainspring.monitoring.tables import LABEL, OUTCOME, PREDICTION, SEGMENT_RANGE, WATERMARK

NEVER_US = -(2**62)
"""Where a watermark stands before it is first advanced."""


@dataclass(frozen=True, slots=True)
class MonitorState:
    """Everything that is known at the watermark.

    Attributes:
        watermark: None before the first advance.
        labelled: Predictions with a value; repeats and voids left out.
        signals: What each loss monitor says of the live version.
        rollout: What the guards of the open rollout say; None without one.
    """

    watermark: Instant | None
    labelled: int
    signals: tuple[Signal, ...]
    rollout: RolloutVerdict | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What came in and what became of it; the first three are of all endpoints together.

    Attributes:
        left_out: Predictions answered that no record was kept of, by the workers' own count.
        torn: Ranges that end at a torn record, which a killed worker leaves behind.
        repeats: Predictions of a request that had been answered before; not counted again.
        early: Labels that wait for their prediction or for the watermark.
        corrected: Outcomes whose value changed after it was first known.
    """

    left_out: int
    torn: int
    predictions: int
    repeats: int
    labels: int
    early: int
    labelled: int
    void: int
    corrected: int


def watermark(connection: Connection, project: str, endpoint: str) -> tuple[int, int] | None:
    """Give the watermark and the labelled predictions at it."""
    row = connection.execute(
        select(WATERMARK.c.until_us, WATERMARK.c.labelled).where(
            WATERMARK.c.project == project, WATERMARK.c.endpoint == endpoint
        )
    ).first()
    return None if row is None else (row.until_us, row.labelled)


def move_watermark(
    connection: Connection, project: str, endpoint: str, until_us: int, gained: int
) -> None:
    """Set the watermark; whoever calls has checked that it moves forward."""
    mine = (WATERMARK.c.project == project) & (WATERMARK.c.endpoint == endpoint)
    moved = connection.execute(
        update(WATERMARK)
        .where(mine)
        .values(until_us=until_us, labelled=WATERMARK.c.labelled + gained)
    )
    if moved.rowcount == 0:
        connection.execute(
            insert(WATERMARK).values(
                project=project, endpoint=endpoint, until_us=until_us, labelled=gained
            )
        )


def counts(connection: Connection, project: str, endpoint: str) -> Counts:
    """Count what is there: for people and audits, it reads whole tables."""
    ranges = connection.execute(
        select(func.sum(SEGMENT_RANGE.c.left_out), func.sum(SEGMENT_RANGE.c.torn)).where(
            SEGMENT_RANGE.c.project == project
        )
    ).one()
    predictions = connection.execute(
        select(func.count(), func.count(PREDICTION.c.repeat_of)).where(
            PREDICTION.c.project == project, PREDICTION.c.endpoint == endpoint
        )
    ).one()
    labels = connection.execute(
        select(func.count(), func.count(LABEL.c.target)).where(
            LABEL.c.project == project, LABEL.c.endpoint == endpoint
        )
    ).one()
    outcomes = connection.execute(
        select(func.count(OUTCOME.c.value), func.sum(OUTCOME.c.void)).where(
            OUTCOME.c.project == project, OUTCOME.c.endpoint == endpoint
        )
    ).one()
    corrected = connection.execute(
        select(func.count()).where(
            OUTCOME.c.project == project, OUTCOME.c.endpoint == endpoint, OUTCOME.c.corrections > 0
        )
    ).scalar_one()
    return Counts(
        left_out=ranges[0] or 0,
        torn=ranges[1] or 0,
        predictions=predictions[0] - predictions[1],
        repeats=predictions[1],
        labels=labels[0],
        early=labels[0] - labels[1],
        labelled=outcomes[0],
        void=outcomes[1] or 0,
        corrected=corrected,
    )
