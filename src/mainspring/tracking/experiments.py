"""Experiments: named groups of runs, numbered from 0, which is there from the first use."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from mainspring.store.bulk import QuickQuery
from mainspring.store.database import Database
from mainspring.tracking.limits import instant, millis
from mainspring.tracking.location import PROXY, checked_location
from mainspring.tracking.tables import EXPERIMENT, RUN_RECORD, TAG
from mainspring.tracking.texts import delete_tag, set_tags, texts

NAME_LENGTH = 500
TAG_LENGTH = 5000
DEFAULT = "0"
DEFAULT_NAME = "Default"


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment with its tags."""

    experiment: str
    name: str
    location: str
    created: datetime
    updated: datetime
    deleted: datetime | None
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class Experiments:
    """The verbs of experiments in one project."""

    project: str
    database: Database
    clock: Clock

    def create(
        self, name: str, *, location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make an experiment; gives its id.

        Raises:
            AlreadyExists: The name is taken, perhaps by a deleted one.
            InvalidInput: The location is a path of this machine.
        """
        now_ms = millis(self.clock.now())
        if not name or len(name) > NAME_LENGTH:
            raise InvalidInput(f"Invalid experiment name: '{name[:60]}'")
        if location:
            checked_location(location, what="artifact_location")

        def work(connection: Connection) -> str:
            self.ensure_default(connection, now_ms)
            self._free(connection, name)
            mine = EXPERIMENT.c.project == self.project
            newest = connection.execute(select(func.max(EXPERIMENT.c.number)).where(mine)).scalar()
            number = (newest or 0) + 1
            self._insert(connection, number, name, location, now_ms)
            self._tag(connection, str(number), tags or {})
            return str(number)

        return self.database.write(work)

    def ensure_default(self, connection: Connection, now_ms: int) -> None:
        """Make the first experiment unless it is there, inside a write."""
        if self._row(connection, DEFAULT) is None:
            self._insert(connection, 0, DEFAULT_NAME, None, now_ms)

    def get(self, experiment: str) -> Experiment:
        """Give one, deleted or not."""
        with self.database.read() as connection:
            row = self._row(connection, experiment)
            if row is not None:
                return self._full(connection, row)
        if experiment == DEFAULT:
            self._begin()
            return self.get(experiment)
        raise _unknown(experiment)

    def by_name(self, name: str) -> Experiment:
        """Give one by its name, deleted or not."""
        mine = (EXPERIMENT.c.project == self.project) & (EXPERIMENT.c.name == name)
        with self.database.read() as connection:
            row = connection.execute(select(EXPERIMENT).where(mine)).first()
            if row is not None:
                return self._full(connection, row)
        if name == DEFAULT_NAME:
            return self.get(DEFAULT)
        raise NotFound(f"Could not find experiment with name '{name[:500]}'")

    def existing(self, connection: Connection, experiment: str, *, active: bool) -> Row[Any]:
        """Give an experiment's row inside a write.

        Raises:
            NotFound: There is none.
            Refused: It is deleted, and only an active one will do.
        """
        row = self._row(connection, experiment)
        if row is None and experiment == DEFAULT:
            self.ensure_default(connection, millis(self.clock.now()))
            row = self._row(connection, experiment)
        if row is None:
            raise _unknown(experiment)
        if active and row.deleted_ms is not None:
            raise Refused(
                f"The experiment {experiment} must be in the 'active' state. "
                "Current state is deleted."
            )
        return row

    def location(self, connection: Connection, experiment: str, *, active: bool) -> str:
        """Say where its runs keep their artifacts, as quickly as can be; see `existing`."""
        rows = _LOCATION.rows(connection, self.project, experiment)
        if rows and rows[0][1] is None:
            return str(rows[0][0])
        return str(self.existing(connection, experiment, active=active).location)

    def rename(self, experiment: str, name: str) -> None:
        """Give an active experiment another name."""
        now_ms = millis(self.clock.now())
        if not name or len(name) > NAME_LENGTH:
            raise InvalidInput(f"Invalid experiment name: '{name[:60]}'")

        def work(connection: Connection) -> None:
            row = self.existing(connection, experiment, active=False)
            if row.deleted_ms is not None:
                raise Refused("Cannot rename a non-active experiment.")
            if row.name != name:
                self._free(connection, name)
                self._change(connection, experiment, name=name, updated_ms=now_ms)

        self.database.write(work)

    def delete(self, experiment: str) -> None:
        """Hide an active experiment with its runs; `restore` brings both back."""
        now_ms = millis(self.clock.now())

        def work(connection: Connection) -> None:
            self.existing(connection, experiment, active=True)
            self._change(connection, experiment, deleted_ms=now_ms, updated_ms=now_ms)
            runs = self._runs(experiment) & RUN_RECORD.c.deleted_ms.is_(None)
            connection.execute(update(RUN_RECORD).where(runs).values(deleted_ms=now_ms))

        self.database.write(work)

    def restore(self, experiment: str) -> None:
        """Bring a deleted experiment back, and the runs that were deleted with it."""
        now_ms = millis(self.clock.now())

        def work(connection: Connection) -> None:
            row = self.existing(connection, experiment, active=False)
            if row.deleted_ms is None:
                raise NotFound(
                    f"No Experiment with id={experiment} exists that is deleted; this one is active"
                )
            runs = self._runs(experiment) & (RUN_RECORD.c.deleted_ms == row.deleted_ms)
            connection.execute(update(RUN_RECORD).where(runs).values(deleted_ms=None))
            self._change(connection, experiment, deleted_ms=None, updated_ms=now_ms)

        self.database.write(work)

    def set_tags(self, experiment: str, tags: Mapping[str, str]) -> None:
        """Set tags of an active experiment."""

        def work(connection: Connection) -> None:
            self.existing(connection, experiment, active=True)
            self._tag(connection, experiment, tags)

        self.database.write(work)

    def delete_tag(self, experiment: str, key: str) -> None:
        """Remove a tag; NotFound when it is not there."""

        def work(connection: Connection) -> None:
            self.existing(connection, experiment, active=True)
            if not delete_tag(connection, self.project, experiment, key):
                raise NotFound(f"No tag with name: {key[:250]} in experiment with id {experiment}")

        self.database.write(work)

    def _begin(self) -> None:
        now_ms = millis(self.clock.now())
        self.database.write(lambda connection: self.ensure_default(connection, now_ms))

    def _insert(
        self, connection: Connection, number: int, name: str, location: str | None, now_ms: int
    ) -> None:
        connection.execute(
            insert(EXPERIMENT).values(
                project=self.project,
                number=number,
                experiment=str(number),
                name=name,
                location=location or f"{PROXY}{number}",
                created_ms=now_ms,
                updated_ms=now_ms,
            )
        )

    def _free(self, connection: Connection, name: str) -> None:
        mine = (EXPERIMENT.c.project == self.project) & (EXPERIMENT.c.name == name)
        row = connection.execute(select(EXPERIMENT.c.deleted_ms).where(mine)).first()
        if row is not None:
            state = "" if row.deleted_ms is None else " in deleted state: restore or rename it"
            raise AlreadyExists(f"Experiment(name={name}) already exists{state}.")

    def _tag(self, connection: Connection, experiment: str, tags: Mapping[str, str]) -> None:
        set_tags(connection, self.project, experiment, tags, limit=TAG_LENGTH)

    def _change(self, connection: Connection, experiment: str, **values: Any) -> None:
        connection.execute(update(EXPERIMENT).where(self._is(experiment)).values(**values))

    def _is(self, experiment: str) -> Any:
        return (EXPERIMENT.c.project == self.project) & (EXPERIMENT.c.experiment == experiment)

    def _runs(self, experiment: str) -> Any:
        return (RUN_RECORD.c.project == self.project) & (RUN_RECORD.c.experiment == experiment)

    def _row(self, connection: Connection, experiment: str) -> Row[Any] | None:
        values = {"of_project": self.project, "of_experiment": experiment}
        return connection.execute(_ONE, values).first()

    def _full(self, connection: Connection, row: Row[Any]) -> Experiment:
        return experiment_of(row, texts(connection, TAG, self.project, row.experiment))


def experiment_of(row: Row[Any], tags: dict[str, str]) -> Experiment:
    """Give an experiment of its row and its tags."""
    return Experiment(
        experiment=row.experiment,
        name=row.name,
        location=row.location,
        created=instant(row.created_ms),
        updated=instant(row.updated_ms),
        deleted=None if row.deleted_ms is None else instant(row.deleted_ms),
        tags=tags,
    )


def _unknown(experiment: str) -> NotFound:
    return NotFound(f"No Experiment with id={experiment[:60]} exists")


# Built once: making a statement costs more than running it.
_ONE = select(EXPERIMENT).where(
    EXPERIMENT.c.project == bindparam("of_project"),
    EXPERIMENT.c.experiment == bindparam("of_experiment"),
)
_LOCATION = QuickQuery(
    _ONE.with_only_columns(EXPERIMENT.c.location, EXPERIMENT.c.deleted_ms),
    ["of_project", "of_experiment"],
)
