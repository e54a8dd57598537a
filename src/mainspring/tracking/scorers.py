"""Scorers: what a client judges answers by, kept by version and never run here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import IdSource
from mainspring.store.database import Database
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import checked_key, millis
from mainspring.tracking.tables import SCORER

BODY_LENGTH = 1 << 20


class Scorer(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a scorer; the body is the client's JSON, as it came."""

    experiment: str
    name: str
    version: int
    scorer: str
    body: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Scorers:
    """The verbs of scorers in one project."""

    project: str
    database: Database
    clock: Clock
    ids: IdSource
    experiments: Experiments

    def register(self, experiment: str, name: str, body: str) -> Scorer:
        """Keep the next version of a scorer.

        Raises:
            InvalidInput: The body is no JSON, or too long.
            NotFound: There is no such experiment.
        """
        checked_key(name, what="scorer name")
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidInput("serialized_scorer must be valid JSON") from error
        if len(body) > BODY_LENGTH:
            raise InvalidInput(f"serialized_scorer has {len(body)} signs, at most {BODY_LENGTH}")
        made, now_ms = self.ids.new(), millis(self.clock.now())

        def work(connection: Connection) -> Scorer:
            self.experiments.existing(connection, experiment, active=True)
            known = self._rows(connection, experiment, name)
            row = {
                "project": self.project,
                "experiment": experiment,
                "name": name,
                "version": known[-1].version + 1 if known else 1,
                "scorer": known[-1].scorer if known else made,
                "body": body,
                "created_ms": now_ms,
            }
            connection.execute(insert(SCORER).values(**row))
            return _scorer(self._rows(connection, experiment, name)[-1])

        return self.database.write(work)

    def newest(self, experiment: str | None) -> list[Scorer]:
        """Give the newest version of each, of one experiment or of all."""
        mine = SCORER.c.project == self.project
        if experiment is not None:
            self.experiments.get(experiment)
            mine &= SCORER.c.experiment == experiment
        with self.database.read() as connection:
            last = (
                select(SCORER.c.experiment, SCORER.c.name, func.max(SCORER.c.version).label("v"))
                .where(mine)
                .group_by(SCORER.c.experiment, SCORER.c.name)
                .subquery()
            )
            same = (SCORER.c.experiment == last.c.experiment) & (SCORER.c.name == last.c.name)
            query = select(SCORER).join(last, same & (SCORER.c.version == last.c.v)).where(mine)
            rows = connection.execute(query.order_by(SCORER.c.experiment, SCORER.c.name))
            return [_scorer(row) for row in rows]

    def versions(self, experiment: str, name: str) -> list[Scorer]:
        """Give all versions, the oldest first.

        Raises:
            NotFound: There is none.
        """
        self.experiments.get(experiment)
        with self.database.read() as connection:
            return [_scorer(row) for row in self._existing(connection, experiment, name)]

    def get(self, experiment: str, name: str, version: int | None) -> Scorer:
        """Give a version, or the newest."""
        found = self.versions(experiment, name)
        if version is None:
            return found[-1]
        for one in found:
            if one.version == version:
                return one
        raise _unknown(experiment, name, version)

    def delete(self, experiment: str, name: str, version: int | None) -> None:
        """Delete a version, or all of them."""

        def work(connection: Connection) -> None:
            self.experiments.existing(connection, experiment, active=False)
            self._existing(connection, experiment, name)
            mine = self._of(experiment, name)
            if version is not None:
                mine &= SCORER.c.version == version
            if connection.execute(delete(SCORER).where(mine)).rowcount == 0:
                raise _unknown(experiment, name, version)

        self.database.write(work)

    def _existing(self, connection: Connection, experiment: str, name: str) -> Sequence[Row[Any]]:
        rows = self._rows(connection, experiment, name)
        if not rows:
            raise _unknown(experiment, name, None)
        return rows

    def _rows(self, connection: Connection, experiment: str, name: str) -> Sequence[Row[Any]]:
        query = select(SCORER).where(self._of(experiment, name)).order_by(SCORER.c.version)
        return connection.execute(query).all()

    def _of(self, experiment: str, name: str) -> Any:
        mine = (SCORER.c.project == self.project) & (SCORER.c.experiment == experiment)
        return mine & (SCORER.c.name == name)


def _scorer(row: Row[Any]) -> Scorer:
    return Scorer(
        experiment=row.experiment,
        name=row.name,
        version=row.version,
        scorer=row.scorer,
        body=row.body,
        created_ms=row.created_ms,
    )


def _unknown(experiment: str, name: str, version: int | None) -> NotFound:
    which = "" if version is None else f" and version {version}"
    return NotFound(f"Scorer with name '{name[:60]}'{which} not found for experiment {experiment}.")
