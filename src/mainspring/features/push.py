"""The verbs of features: push what has just become known, list the views."""

import errno
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import RLock
from typing import Protocol

import polars as pl
from sqlalchemy import Connection, bindparam, func, select

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import MainspringError, NotFound, Refused, StorageFull, Unavailable
from mainspring.core.ids import digest_of
from mainspring.features.join import check_source
from mainspring.features.pushes import PushDone, PushLog, PushToken, Recorded
from mainspring.features.spec import FeatureView, SourceColumns
from mainspring.features.stream import OnlineView, Step, Stream
from mainspring.features.tables import FEATURE_VIEW, PUSH, declared_views
from mainspring.store.database import Database

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORGET_EVERY = 64
_DECLARED = select(func.max(FEATURE_VIEW.c.declared)).where(
    FEATURE_VIEW.c.project == bindparam("project")
)


class Sources(Protocol):
    """The datasets that feed views."""

    def specs(self) -> Mapping[str, SourceColumns]:
        """Give the declared datasets by name."""
        ...

    def check(
        self, dataset: str, frame: pl.DataFrame, *, recent: pl.DataFrame | None
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Part rows that pass the dataset's checks from those that do not."""
        ...


class Features:
    """The feature views of one project and their online tables.

    Only the owner of the home pushes; other processes read the tables. Thread-safe: pushes happen
    one after the other.

    A push is recorded in the database, with its token and rows, before the online tables get it.
    The tables are made from the record: one that lags behind it, after a kill or a full disk,
    gets what it lacks before the next push and before any push is answered.
    """

    def __init__(self, *, project: str, database: Database, sources: Sources, folder: Path) -> None:
        """Build the verbs; `folder` is `home.online(project)`, with a table per view below it."""
        self._project = project
        self._database = database
        self._sources = sources
        self._folder = folder
        self._log = PushLog(project)
        self._lock = RLock()
        self._streams: dict[str, Stream] = {}
        self._declared: int | None = None

    def views(self) -> dict[str, FeatureView]:
        """Give the declared views by name."""
        with self._database.read() as connection:
            return declared_views(connection, self._project)

    def pushed(self) -> dict[str, Instant]:
        """Give, by dataset, the event time up to which was pushed."""
        newest = (
            select(PUSH.c.dataset, func.max(PUSH.c.until_us))
            .where(PUSH.c.project == self._project)
            .group_by(PUSH.c.dataset)
        )
        with self._database.read() as connection:
            return {dataset: _instant(until_us) for dataset, until_us in connection.execute(newest)}

    def push(self, dataset: str, rows: pl.DataFrame, *, until: Instant, token: str) -> PushDone:
        """Make rows count online, and write every tick up to `until`, quiet ones too.

        The rows are those that became known since the last push, up to `until`. They pass the
        dataset's checks; a `unique` value may not occur among the rows of the last 48 h. Committing
        the same rows later changes nothing online.

        Args:
            until: Event time; never goes back.
            token: `writer:number`, growing. One seen before has no second effect and gives the
                same answer.

        Raises:
            Refused: `until` or the token's number went back.
            SchemaMismatch: Columns or types are not those of the dataset.
            StorageFull, Unavailable: The disk refused; repeat the push with the same token.
        """
        parsed, until_us = PushToken.parse(token), _micros(until)
        with self._lock:
            stream = self._stream(dataset)
            if parsed.number <= stream.writers.get(parsed.writer, -1):
                return self._answer(dataset, parsed)
            if stream.until_us is not None and until_us < stream.until_us:
                raise Refused(
                    f"push to {dataset!r}: until {utc(until).isoformat()} lies before "
                    f"{_instant(stream.until_us).isoformat()}, up to which was pushed; "
                    "push what became known since"
                )
            return self._push(stream, dataset, parsed, rows, until_us)

    def _answer(self, dataset: str, token: PushToken) -> PushDone:
        with self._database.read() as connection:
            return self._log.answer(connection, dataset, token)

    def close(self) -> None:
        """Close the online tables."""
        with self._lock:
            for stream in self._streams.values():
                stream.close()
            self._streams.clear()

    def _push(
        self, stream: Stream, dataset: str, token: PushToken, rows: pl.DataFrame, until_us: int
    ) -> PushDone:
        recent = stream.recent.rows if stream.recent.rows.width else None
        accepted, rejected = self._sources.check(dataset, rows, recent=recent)
        for one in stream.views:
            needed = (one.view.entity, *one.view.columns)
            check_source(one.view, accepted.schema, needed)
        push = Recorded(stream.ordinal + 1, until_us, accepted if accepted.height else None)
        step = stream.work_out(push)
        visible = step.recent.visible_us[len(stream.recent.visible_us) :]
        done = PushDone(
            rows=accepted.height,
            quarantined=rejected.height,
            ticks=step.ticks,
            late=0 if stream.until_us is None else int((visible <= stream.until_us).sum()),
        )
        newest_us = int(visible.max()) if len(visible) else None

        def record(connection: Connection) -> None:
            self._log.add(connection, dataset, token, push, newest_us=newest_us, answer=done)
            self._record_entities(connection, stream.views, step)
            if push.ordinal % _FORGET_EVERY == 0:
                before_us = until_us - stream.horizon_us
                self._log.forget(connection, dataset, before_us=before_us)

        self._database.write(record)
        stream.writers[token.writer] = token.number
        self._take(stream, dataset, step)
        return done

    def _take(self, stream: Stream, dataset: str, step: Step) -> None:
        try:
            stream.take(step)
        except OSError as error:
            # What the tables have now is found out by opening them again.
            self._drop(dataset)
            raise _refused_by_disk(dataset, error) from error
        except BaseException:
            self._drop(dataset)
            raise

    def _drop(self, dataset: str) -> None:
        stream = self._streams.pop(dataset, None)
        if stream is not None:
            stream.close()

    def _record_entities(
        self, connection: Connection, views: Sequence[OnlineView], step: Step
    ) -> None:
        digests = {one.view.name: one.digest for one in views}
        for name, first in step.entities.items():
            self._log.add_entities(connection, name, digests[name], first)

    def _stream(self, dataset: str) -> Stream:
        """Give a dataset's stream with all its views up to the last recorded push."""
        with self._database.read() as connection:
            declared = connection.scalar(_DECLARED, {"project": self._project})
        if declared != self._declared:
            self.close()
            self._declared = declared
        if dataset not in self._streams:
            try:
                self._streams[dataset] = self._load(dataset)
            except OSError as error:
                raise _refused_by_disk(dataset, error) from error
        return self._streams[dataset]

    def _load(self, dataset: str) -> Stream:
        specs = self._sources.specs()
        if dataset not in specs:
            raise NotFound(
                f"push to {dataset!r}: no such dataset in project {self._project!r}; "
                f"declared are {sorted(specs)}"
            )
        with self._database.read() as connection:
            views = [
                OnlineView.open(
                    view,
                    self._folder / view.name,
                    self._log.entities(connection, view.name, digest_of(view)),
                )
                for view in declared_views(connection, self._project).values()
                if view.source == dataset
            ]
            recorded = self._log.all(connection, dataset)
            writers = self._log.writers(connection, dataset)
        stream = Stream(specs[dataset], views, writers)
        kept_us = recorded[-1].until_us - stream.horizon_us if recorded else 0
        for push in recorded:
            self._replay(stream, push, kept_us)
        return stream

    def _replay(self, stream: Stream, push: Recorded, kept_us: int) -> None:
        """Move a stream over a recorded push, and write it to the views that lack it."""
        kept = push.until_us > kept_us
        lacking = [one for one in stream.views if kept and one.done < push.ordinal]
        if not lacking and push.rows is None:
            stream.until_us, stream.ordinal = push.until_us, push.ordinal
            return
        ahead = Stream(stream.columns, lacking, {}, stream.recent, stream.until_us)
        step = ahead.work_out(push)
        if step.entities:
            self._database.write(lambda c: self._record_entities(c, lacking, step))
        stream.take(step)


def _refused_by_disk(dataset: str, error: OSError) -> MainspringError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return (StorageFull if full else Unavailable)(
        f"push to {dataset!r}: recorded, but the online table refused it ({error}); "
        f"{'free space' if full else 'check the disk'} and repeat it with the same token"
    )


def _micros(instant: Instant) -> int:
    return (utc(instant) - _EPOCH) // timedelta(microseconds=1)


def _instant(micros: int) -> Instant:
    return _EPOCH + timedelta(microseconds=micros)
