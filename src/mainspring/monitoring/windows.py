"""Readings of the loss monitor: what each version lost in a window of event time."""

from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import Connection, select

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidInput
from mainspring.monitoring import readings, scoring
from mainspring.monitoring.outcomes import Span
from mainspring.monitoring.readings import Reading
from mainspring.monitoring.spec import Loss
from mainspring.monitoring.tables import OUTCOME, PREDICTION
from mainspring.monitoring.times import instant, span
from mainspring.stats.auc import auc
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.estimation import expected_auc

Calibrations = Callable[[str], CalibrationMap | None]


def read_windows(
    connection: Connection,
    where: Span,
    monitor: Loss,
    touched_us: Sequence[int],
    calibrations: Calibrations,
) -> None:
    """Write the windows that closed by `until`, and restate closed ones whose outcomes changed.

    A window closes when the watermark has passed its end by the label wait.
    """
    every_us = span(duration(monitor.every))
    closed_us = where.until_us - where.wait_us
    newly = (
        select(OUTCOME.c.event_time_us // every_us * every_us)
        .where(
            OUTCOME.c.project == where.project,
            OUTCOME.c.endpoint == where.endpoint,
            OUTCOME.c.event_time_us > where.before_us - where.wait_us - every_us,
            OUTCOME.c.event_time_us < closed_us,
        )
        .distinct()
    )
    open_before_us = where.before_us - where.wait_us - every_us
    closing = [one for one in connection.execute(newly).scalars() if one > open_before_us]
    for start_us in sorted({*readings.windows_of(touched_us, every_us), *closing}):
        if start_us + every_us <= closed_us:
            found = _window(connection, where, monitor, start_us, calibrations)
            window = (monitor.name, start_us)
            readings.replace_window(connection, where.project, where.endpoint, window, found)


def _window(
    connection: Connection, where: Span, monitor: Loss, start_us: int, calibrations: Calibrations
) -> list[Reading]:
    end_us = start_us + span(duration(monitor.every))
    rows = connection.execute(
        select(PREDICTION.c.live_version, PREDICTION.c.live_score, OUTCOME.c.value)
        .join(PREDICTION, PREDICTION.c.number == OUTCOME.c.number)
        .where(
            OUTCOME.c.project == where.project,
            OUTCOME.c.endpoint == where.endpoint,
            OUTCOME.c.event_time_us >= start_us,
            OUTCOME.c.event_time_us < end_us,
            OUTCOME.c.value.is_not(None),
            PREDICTION.c.live_score.is_not(None),
        )
        .order_by(PREDICTION.c.live_version, PREDICTION.c.number)
    ).all()
    found: list[Reading] = []
    for version in sorted({row.live_version for row in rows}):
        mine = [row for row in rows if row.live_version == version]
        y = np.array([row.value for row in mine], np.float64)
        score = np.array([row.live_score for row in mine], np.float64)
        calibration = calibrations(version)
        for metric, value, expected in _measured(monitor, y, score, calibration):
            found.append(
                Reading(
                    monitor=monitor.name,
                    version=version,
                    subject="",
                    metric=metric,
                    start=instant(start_us),
                    end=instant(end_us),
                    rows=len(mine),
                    value=value,
                    expected=expected,
                    baseline="score" if calibration is None else "calibration",
                )
            )
    return found


def _measured(
    monitor: Loss, y: scoring.Floats, score: scoring.Floats, calibration: CalibrationMap | None
) -> list[tuple[str, float | None, float | None]]:
    meant = scoring.calibrated(calibration, score)
    unit = scoring.unit(monitor.metric)
    lost = float(scoring.realised(monitor.metric, y, score).mean()) * unit
    feared = float(scoring.expected(monitor.metric, meant, score).mean()) * unit
    try:
        area: float | None = auc(y, score)
    except InvalidInput:
        area = None
    return [
        (monitor.metric, lost, feared),
        ("auc", area, expected_auc(meant, score)),
        ("positive_share", float((y == 1).mean()), float(meant.mean())),
    ]
