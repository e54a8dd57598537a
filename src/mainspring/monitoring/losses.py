"""The loss monitor: realised loss against what the live version expected of itself.

Taking off each row's expected loss keeps seasons of the base rate from raising
alarms. Labels are taken in the order in which they become eligible, so the state does not
depend on how often one looks.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import msgspec
import numpy as np
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from mainspring.core.clock import duration
from mainspring.core.ids import Digest, digest_of
from mainspring.monitoring import readings, scoring
from mainspring.monitoring.outcomes import Span
from mainspring.monitoring.spec import Loss
from mainspring.monitoring.stretch import NO_STRETCH, Stretch, extend
from mainspring.monitoring.tables import ALARM, DETECTOR_STATE, OUTCOME, PREDICTION
from mainspring.monitoring.times import instant, micros, span
from mainspring.monitoring.windows import Calibrations
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.detector import LossDetector, take_differences, watch_differences

MONTHS_BETWEEN_FALSE_ALARMS = 100
QUIET_WINDOWS = 3
_MONTH_US = span(timedelta(days=30))


@dataclass(frozen=True, slots=True)
class Episode:
    """State of the detector for one live version, since it went live or last became quiet.

    Attributes:
        began_us: Labels eligible after it count.
        detector: None while the label rate is still being measured.
        stretch: The labels that an alarm speaks of.
        fired_us: Eligibility of the label at which evidence crossed the threshold.
    """

    began_us: int
    detector: LossDetector | None = None
    stretch: Stretch = NO_STRETCH
    fired_us: int | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """What the loss monitor says of the live version now.

    `quiet` is the end of an alarm, not the lack of one: False while nothing can be said yet.
    """

    monitor: str
    version: str
    firing: bool
    quiet: bool
    message: str
    evidence: float
    threshold: float | None
    since_us: int | None
    digest: Digest
    """Of the readings and the state it rests on."""


@dataclass(frozen=True, slots=True)
class _Stored:
    version: str
    position_us: int
    episode: Episode
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Rows:
    eligible_us: list[int]
    y: scoring.Floats
    score: scoring.Floats


def update_loss(
    connection: Connection, where: Span, monitor: Loss, live: str, calibrations: Calibrations
) -> None:
    """Take in what became eligible; the state starts anew when the live version has changed."""
    before = _load(connection, where, monitor.name)
    if before is None or before.version != live:
        is_new = before is None
        before = _Stored(live, where.before_us, Episode(where.before_us), is_new)
    position_us, episode = before.position_us, before.episode
    while True:
        quiet_us = _quiet_from(connection, where, monitor, live, episode)
        if quiet_us is None:
            quiet_us = _ended_by_hand_or_time(connection, where, monitor, live, episode)
        if quiet_us is not None:
            position_us, episode = quiet_us, Episode(quiet_us, _fresh(episode.detector))
        episode = _begin(connection, where, monitor, live, episode)
        if episode.fired_us is not None or episode.detector is None:
            break
        rows = _eligible(connection, where, live, position_us)
        episode = _take(monitor, episode, rows, calibrations(live))
        if episode.fired_us is None:
            break
        # It fired on the way: it may also have become quiet before `until`, then labels go on.
        position_us = episode.fired_us
    moved = where.until_us if episode.detector is not None else position_us
    _save(connection, where, monitor.name, replace(before, position_us=moved, episode=episode))


def signal(
    connection: Connection, project: str, endpoint: str, monitor: Loss, live: str | None
) -> Signal | None:
    """Say whether the monitor fires; None while there is nothing to say of the live version."""
    where = Span(project, endpoint, 0, 0, 0)
    stored = _load(connection, where, monitor.name)
    if stored is None or stored.version != live:
        return None
    episode, detector = stored.episode, stored.episode.detector
    over = _ended_by_hand_or_time(connection, where, monitor, stored.version, episode)
    firing = episode.fired_us is not None and over is None
    windows = readings.stored(
        connection, project, endpoint, monitor=monitor.name, version=live, metric=monitor.metric
    )[-QUIET_WINDOWS:]
    evidence = 0.0 if detector is None else sum(detector.evidence) / len(detector.evidence)
    return Signal(
        monitor=monitor.name,
        version=stored.version,
        firing=firing,
        quiet=detector is not None and not firing,
        message=_message(monitor, stored.version, episode),
        evidence=evidence,
        threshold=None if detector is None else detector.threshold,
        since_us=episode.fired_us,
        digest=digest_of([stored.version, episode, windows]),
    )


def _begin(
    connection: Connection, where: Span, monitor: Loss, live: str, episode: Episode
) -> Episode:
    """Fix the threshold, from the declared label rate or that of the first window with labels."""
    if episode.detector is not None:
        return episode
    per_month = float(monitor.labels_per_month or 0)
    every_us = span(duration(monitor.every))
    if not per_month:
        labels = _first_window(connection, where, live, episode.began_us, every_us)
        per_month = labels * _MONTH_US / every_us
    if not per_month:
        return episode
    detector = watch_differences(
        monitor.tolerance / scoring.unit(monitor.metric),
        threshold=max(2.0, MONTHS_BETWEEN_FALSE_ALARMS * per_month),
    )
    return replace(episode, detector=detector)


def _fresh(detector: LossDetector | None) -> LossDetector | None:
    if detector is None:
        return None
    return replace(detector, evidence=(0.0,) * len(detector.bets), n=0, alarmed=False)


def _take(
    monitor: Loss, episode: Episode, rows: _Rows, calibration: CalibrationMap | None
) -> Episode:
    assert episode.detector is not None
    if not rows.eligible_us:
        return episode
    lost = scoring.realised(monitor.metric, rows.y, rows.score)
    feared = scoring.expected(
        monitor.metric, scoring.calibrated(calibration, rows.score), rows.score
    )
    detector = take_differences(episode.detector, lost - feared)
    taken = detector.n - episode.detector.n
    return replace(
        episode,
        detector=detector,
        stretch=extend(
            episode.stretch,
            zip(rows.eligible_us[:taken], lost[:taken].tolist(), feared.tolist(), strict=False),
            tolerance=monitor.tolerance / scoring.unit(monitor.metric),
        ),
        fired_us=rows.eligible_us[taken - 1] if detector.alarmed else None,
    )


def _quiet_from(
    connection: Connection, where: Span, monitor: Loss, live: str, episode: Episode
) -> int | None:
    """Tell when the third quiet window after the alarm closed, if it did by `until`."""
    if episode.fired_us is None:
        return None
    run = 0
    for reading in readings.stored(
        connection,
        where.project,
        where.endpoint,
        monitor=monitor.name,
        version=live,
        metric=monitor.metric,
        after_us=episode.fired_us,
    ):
        assert reading.value is not None
        assert reading.expected is not None
        is_quiet = reading.value - reading.expected <= monitor.tolerance / 2
        run = run + 1 if is_quiet else 0
        closed_us = micros(reading.end) + where.wait_us
        if run == QUIET_WINDOWS and closed_us <= where.until_us:
            return closed_us
    return None


def _ended_by_hand_or_time(
    connection: Connection, where: Span, monitor: Loss, live: str, episode: Episode
) -> int | None:
    """Tell when the alarm was ended without having become quiet: from there the watch is fresh."""
    if episode.fired_us is None:
        return None
    ended = connection.scalar(
        select(func.max(ALARM.c.ended_us)).where(
            ALARM.c.project == where.project,
            ALARM.c.endpoint == where.endpoint,
            ALARM.c.monitor == monitor.name,
            ALARM.c.version == live,
            ALARM.c.cause.in_(("expired", "acknowledged")),
            ALARM.c.ended_us >= episode.fired_us,
        )
    )
    return None if ended is None else int(ended)


def _first_window(
    connection: Connection, where: Span, live: str, after_us: int, every_us: int
) -> int:
    """Count the labels of the first window that has any; 0 while it is not over."""
    mine = _mine(where, live, after_us)
    first_us = connection.scalar(
        select(OUTCOME.c.eligible_us)
        .join_from(OUTCOME, PREDICTION, _JOINED)
        .where(*mine)
        .order_by(OUTCOME.c.eligible_us)
        .limit(1)
    )
    if first_us is None or first_us + every_us > where.until_us:
        return 0
    labels = connection.scalar(
        select(func.count())
        .join_from(OUTCOME, PREDICTION, _JOINED)
        .where(*mine, OUTCOME.c.eligible_us < first_us + every_us)
    )
    return int(labels or 0)


def _eligible(connection: Connection, where: Span, live: str, after_us: int) -> _Rows:
    rows = connection.execute(
        select(OUTCOME.c.eligible_us, OUTCOME.c.due_value, PREDICTION.c.live_score)
        .join_from(OUTCOME, PREDICTION, _JOINED)
        .where(*_mine(where, live, after_us))
        .order_by(
            OUTCOME.c.eligible_us,
            PREDICTION.c.event_time_us,
            PREDICTION.c.key,
            PREDICTION.c.number,
        )
    ).all()
    eligible_us, y, score = zip(*rows, strict=True) if rows else ((), (), ())
    return _Rows(list(eligible_us), np.array(y, np.float64), np.array(score, np.float64))


def _mine(where: Span, live: str, after_us: int) -> tuple[ColumnElement[bool], ...]:
    return (
        OUTCOME.c.project == where.project,
        OUTCOME.c.endpoint == where.endpoint,
        OUTCOME.c.eligible_us > after_us,
        OUTCOME.c.eligible_us <= where.until_us,
        OUTCOME.c.due_value.is_not(None),
        PREDICTION.c.live_version == live,
        PREDICTION.c.live_score.is_not(None),
    )


_JOINED = PREDICTION.c.number == OUTCOME.c.number


def _message(monitor: Loss, version: str, episode: Episode) -> str:
    detector = episode.detector
    if detector is None or detector.n == 0:
        return f"{monitor.metric} of version {version}: no labels yet"
    stretch = episode.stretch
    if stretch.since_us is None:
        return f"{monitor.metric} of version {version}: as it expected, on {detector.n} labels"
    unit = scoring.unit(monitor.metric) / stretch.labels
    return (
        f"{monitor.metric} of version {version} is {stretch.realised * unit:.4f} where it expected "
        f"{stretch.expected * unit:.4f} (tolerance {monitor.tolerance:g}) on {stretch.labels} "
        f"labels since {instant(stretch.since_us):%Y-%m-%d %H:%M}"
        + (f", up to {instant(episode.fired_us):%Y-%m-%d %H:%M}" if episode.fired_us else "")
    )


def _load(connection: Connection, where: Span, monitor: str) -> _Stored | None:
    row = connection.execute(
        select(DETECTOR_STATE).where(
            DETECTOR_STATE.c.project == where.project,
            DETECTOR_STATE.c.endpoint == where.endpoint,
            DETECTOR_STATE.c.monitor == monitor,
        )
    ).first()
    if row is None:
        return None
    episode = msgspec.json.decode(row.state, type=Episode)
    return _Stored(row.version, row.position_us, episode, False)


def _save(connection: Connection, where: Span, monitor: str, stored: _Stored) -> None:
    values = {
        "version": stored.version,
        "position_us": stored.position_us,
        "state": msgspec.json.encode(stored.episode).decode(),
    }
    names = {"project": where.project, "endpoint": where.endpoint, "monitor": monitor}
    if stored.is_new:
        connection.execute(insert(DETECTOR_STATE).values(**names, **values))
        return
    connection.execute(
        update(DETECTOR_STATE)
        .where(*(DETECTOR_STATE.c[name] == value for name, value in names.items()))
        .values(**values)
    )
