"""The verbs of monitoring for one project."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Lock

import polars as pl
from sqlalchemy import Connection

from mainspring.core.clock import Clock, Instant, duration
from mainspring.core.events import Alarmed, Fact
from mainspring.core.home import Home
from mainspring.core.ids import Id, IdSource, Seq
from mainspring.monitoring import (
    alarms,
    compaction,
    drift,
    gaps,
    guards,
    listing,
    losses,
    outcomes,
    purging,
    windows,
)
from mainspring.monitoring import labels as labelling
from mainspring.monitoring import predictions as predicted
from mainspring.monitoring import readings as measured
from mainspring.monitoring import tally as counted
from mainspring.monitoring.alarms import Alarm, Cause
from mainspring.monitoring.compaction import CompactionReport
from mainspring.monitoring.labels import Label, LabelReport
from mainspring.monitoring.listing import OutcomePage
from mainspring.monitoring.losses import Signal
from mainspring.monitoring.outcomes import Span
from mainspring.monitoring.predictions import PredictionRecord
from mainspring.monitoring.readings import Reading
from mainspring.monitoring.recent import RecentRows
from mainspring.monitoring.spec import Drift, Loss
from mainspring.monitoring.state import (
    NEVER_US,
    Counts,
    MonitorState,
    counts,
    move_watermark,
    watermark,
)
from mainspring.monitoring.tally import Mark, Tally
from mainspring.monitoring.times import instant, micros, span
from mainspring.monitoring.watch import References, Watch, Watches
from mainspring.stats.calibration import CalibrationMap
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger
from mainspring.store.tables import DeltaTables


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitoring:
    """Predictions, labels and outcomes of one project, and what they say.

    Safe to call from several threads; all state is in the database.
    """

    project: str
    home: Home
    database: Database
    ledger: Ledger
    tables: DeltaTables
    clock: Clock
    ids: IdSource
    watches: Watches
    references: References
    _compacting: Lock = field(default_factory=Lock)
    _advancing: dict[str, Lock] = field(default_factory=dict)
    _recent: RecentRows = field(default_factory=RecentRows)
    _calibrations: dict[tuple[str, str], CalibrationMap | None] = field(default_factory=dict)

    def compact(self) -> CompactionReport:
        """Move whole records of every segment, live ones too, into Delta and the database, once."""
        with self._compacting:
            return compaction.compact(
                self.project, self.home, self.database, self.tables, self._recent
            )

    def label(self, endpoint: str, labels: Sequence[Label], *, token: str) -> LabelReport:
        """Take in a batch of labels; durable on return, joined when the watermark passes them.

        Idempotent by token. Every label is kept; of several for one prediction the one that
        arrived last holds, of equal arrivals the one received last.

        Raises:
            InvalidInput: The first wrong label is named; none of the batch was taken.
            Refused: The token was used for other labels.
        """
        received_us = micros(self.clock.now())
        batch = labelling.checked_batch(
            self.project, endpoint, labels, token=token, received_us=received_us
        )
        return self.database.write(lambda connection: labelling.store(connection, batch))

    def advance(self, endpoint: str, until: Instant) -> Instant:
        """Move an endpoint's watermark and draw all conclusions up to it.

        The caller vouches that its predictions with an event time up to `until` are answered.
        Monotone and idempotent: an earlier or equal instant changes nothing.

        Returns:
            The watermark as it stands.
        """
        until_us = micros(until)
        with self.database.read() as connection:
            known = watermark(connection, self.project, endpoint)
        if known is not None and until_us <= known[0]:
            return instant(known[0])
        self.watches.watch(endpoint)
        # Windows are opened, read and closed one after the other: an advance to an earlier instant
        # must not open again what one to a later instant has closed. `setdefault` is atomic.
        with self._advancing.setdefault(endpoint, Lock()):
            watch = self.watches.watch(endpoint)
            self.compact()
            for monitor in watch.monitors:
                if isinstance(monitor, Drift) and watch.live is not None:
                    self._note_drift(endpoint, monitor, watch.live, until_us)
            moved_us = self.database.write(
                lambda connection: self._advance(connection, endpoint, watch, until_us)
            )
        return instant(moved_us)

    def watermark(self, endpoint: str) -> Instant | None:
        """Give the instant up to which conclusions are drawn; None before the first."""
        with self.database.read() as connection:
            known = watermark(connection, self.project, endpoint)
        return None if known is None else instant(known[0])

    def state(self, endpoint: str) -> MonitorState:
        """Read what is known at the watermark, for the loop's world."""
        watch = self.watches.watch(endpoint)
        with self.database.read() as connection:
            known = watermark(connection, self.project, endpoint)
            signals = self._signals(connection, endpoint, watch)
            verdict = (
                None
                if watch.rollout is None
                else guards.verdict(connection, self.project, watch.rollout)
            )
        return MonitorState(
            watermark=None if known is None else instant(known[0]),
            labelled=0 if known is None else known[1],
            signals=signals,
            rollout=verdict,
        )

    def readings(
        self,
        endpoint: str,
        *,
        monitor: str | None = None,
        version: str | None = None,
        metric: str | None = None,
        after: Instant | None = None,
    ) -> list[Reading]:
        """List readings by window; `after`: of windows that start at or after it."""
        with self.database.read() as connection:
            return measured.stored(
                connection,
                self.project,
                endpoint,
                monitor=monitor,
                version=version,
                metric=metric,
                after_us=None if after is None else micros(after),
            )

    def outcomes(self, endpoint: str, start: Instant, end: Instant) -> pl.DataFrame:
        """Give predictions with event time in [start, end) and what is known of their outcome."""
        with self.database.read() as connection:
            return predicted.outcome_frame(
                connection, self.project, endpoint, micros(start), micros(end)
            )

    def mark(self, endpoint: str) -> Mark:
        """Say how far predictions and outcomes are; equal marks mean that none has changed."""
        with self.database.read() as connection:
            return counted.mark(connection, self.project, endpoint)

    def tally(self, endpoint: str, every: timedelta) -> list[Tally]:
        """Count what was answered and labelled, by window and version."""
        with self.database.read() as connection:
            return counted.tally(connection, self.project, endpoint, span(every))

    def labelled_scores(self, endpoint: str, start: Instant, end: Instant) -> pl.DataFrame:
        """Give rows with event time in [start, end) that have a score and a label."""
        with self.database.read() as connection:
            return counted.labelled_scores(
                connection, self.project, endpoint, micros(start), micros(end)
            )

    def outcome_page(
        self, endpoint: str, start: Instant, end: Instant, *, after: str | None, limit: int
    ) -> OutcomePage:
        """Give some predictions with event time in [start, end) and their outcomes, by time."""
        span_us = micros(start), micros(end)
        with self.database.read() as connection:
            return listing.by_time(
                connection, (self.project, endpoint), span_us, after=after, limit=limit
            )

    def outcomes_of(self, endpoint: str, reference: str, *, limit: int) -> OutcomePage:
        """Give the rows of one prediction with their outcomes."""
        with self.database.read() as connection:
            return listing.by_prediction(
                connection, (self.project, endpoint), reference, limit=limit
            )

    def served(self, endpoint: str) -> pl.LazyFrame | None:
        """Scan the feature vectors that were used (`f_...`), with times and outputs."""
        with self.database.read() as connection:
            return predicted.served(connection, self.tables, self.project, endpoint)

    def prediction(self, reference: str) -> PredictionRecord:
        """Find one prediction row by `<id>` or `<id>:<i>`; raises NotFound."""
        with self.database.read() as connection:
            return predicted.record_of(connection, self.tables, self.project, reference)

    def counts(self, endpoint: str) -> Counts:
        """Count what came in and what became of it."""
        with self.database.read() as connection:
            return counts(connection, self.project, endpoint)

    def open_alarm(
        self,
        endpoint: str,
        signal: Signal,
        *,
        opened: Instant,
        deadline: Instant,
        actor: str,
        cause: Seq | None = None,
    ) -> Fact:
        """Record that a monitor's promise is broken.

        Raises:
            AlreadyExists: The monitor has an open alarm on this endpoint.
        """
        event = Alarmed(
            alarm=self.ids.new(),
            endpoint=endpoint,
            monitor=signal.monitor,
            version=signal.version,
            message=signal.message,
            readings=signal.digest,
            opened=opened,
            deadline=deadline,
        )
        draft, check = alarms.opening(self.project, event)
        draft = alarms.caused(draft, cause)
        return self.ledger.append_all([draft], actor=actor, also=check)[0]

    def end_alarm(
        self, alarm: Id, cause: Cause, *, at: Instant, actor: str, because: Seq | None = None
    ) -> Fact:
        """Record that an alarm is over and why.

        Raises:
            NotFound: There is no such alarm.
            Refused: It has ended before.
        """
        found = next((one for one in self.alarms() if one.alarm == alarm), None)
        draft, check = alarms.ending(self.project, alarm, cause, at, found)
        draft = alarms.caused(draft, because)
        return self.ledger.append_all([draft], actor=actor, also=check)[0]

    def alarms(self, endpoint: str | None = None, *, only_open: bool = False) -> list[Alarm]:
        """List alarms in the order in which they were opened."""
        with self.database.read() as connection:
            return alarms.alarms(connection, self.project, endpoint, only_open=only_open)

    def purge(self, endpoint: str, before: Instant, *, actor: str) -> Fact | None:
        """Delete predictions with an earlier event time, their labels and outcomes.

        Returns:
            The fact with their digest and count; None when there were none.
        """
        return purging.purge(
            self.database, self.ledger, (self.project, endpoint), micros(before), actor=actor
        )

    def _advance(self, connection: Connection, endpoint: str, watch: Watch, until_us: int) -> int:
        known = watermark(connection, self.project, endpoint)
        before_us = NEVER_US if known is None else known[0]
        if until_us <= before_us:
            return before_us
        where = Span(self.project, endpoint, before_us, until_us, span(watch.label_wait))
        joined = outcomes.join(connection, where)

        def calibration(version: str) -> CalibrationMap | None:
            return self._calibration(endpoint, version)

        for monitor in watch.monitors:
            if isinstance(monitor, Loss):
                windows.read_windows(connection, where, monitor, joined.event_times_us, calibration)
                if watch.live is not None:
                    losses.update_loss(connection, where, monitor, watch.live, calibration)
        if watch.rollout is not None:
            guards.update_guards(connection, self.project, endpoint, watch.rollout, until_us)
        move_watermark(connection, self.project, endpoint, until_us, joined.labelled)
        return until_us

    def _note_drift(self, endpoint: str, monitor: Drift, live: str, until_us: int) -> None:
        every_us = span(duration(monitor.every))
        with self.database.read() as connection:
            opened = drift.open_windows(
                connection, self.project, endpoint, monitor.name, every_us, until_us
            )
        if not opened:
            return
        profiles = self.references.profiles(endpoint, live)
        found = []
        for start, count in opened if profiles else ():
            window = (start, start + every_us)
            rows = self._window_rows(endpoint, window, count)
            if rows is not None:
                found += drift.readings_of(rows, monitor.name, live, window, profiles)
        done_us = opened[-1][0] + every_us

        def keep(connection: Connection) -> None:
            measured.put(connection, self.project, endpoint, found)
            drift.close_windows(connection, self.project, endpoint, monitor.name, live, done_us)

        self.database.write(keep)
        self._recent.forget(endpoint, done_us)

    def _window_rows(
        self, endpoint: str, window_us: tuple[int, int], count: int
    ) -> pl.DataFrame | None:
        """Give the features of a window's rows, from memory if all of them are there."""
        rows = self._recent.window(endpoint, *window_us)
        if rows is not None and rows.height == count:
            return rows
        with self.database.read() as connection:
            frame = predicted.served(connection, self.tables, self.project, endpoint)
        return None if frame is None else drift.window_rows(frame, window_us)

    def _signals(self, connection: Connection, endpoint: str, watch: Watch) -> tuple[Signal, ...]:
        found = (
            losses.signal(connection, self.project, endpoint, monitor, watch.live)
            for monitor in watch.monitors
            if isinstance(monitor, Loss)
        )
        return tuple(
            signal for signal in (*found, gaps.signal(self.home, watch.live)) if signal is not None
        )

    def unheard(self, endpoint: str) -> bool:
        """Tell whether the request log's alarm and the workers' word differ: for who looks."""
        watch = self.watches.watch(endpoint)
        now = gaps.signal(self.home, watch.live)
        alarmed = any(one.monitor == gaps.MONITOR for one in self.alarms(endpoint, only_open=True))
        return now is not None and (now.firing if not alarmed else now.quiet)

    def _calibration(self, endpoint: str, version: str) -> CalibrationMap | None:
        # A version never changes, and reading its folder inside every advance would cost.
        if (endpoint, version) not in self._calibrations:
            found = self.references.calibration(endpoint, version)
            self._calibrations[endpoint, version] = found
        return self._calibrations[endpoint, version]
