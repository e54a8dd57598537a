"""Sets of questions for evaluations: inputs, with what is expected of the answers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import IdSource, canonical, digest_bytes
from mainspring.store.database import Database
from mainspring.store.filters import order, terms
from mainspring.tracking.experiments import Experiments
from mainspring.tracking.limits import checked_key, millis
from mainspring.tracking.search import PLAIN, Page, Subject, condition, ordered
from mainspring.tracking.tables import QUESTION, QUESTION_SET, QUESTION_SET_EXPERIMENT, TAG
from mainspring.tracking.texts import delete_tag, parts, set_tags, texts_of

SET_PREFIX, PREFIX = "d-", "dr-"
QUESTIONS_AT_MOST = 100_000
"""Of one set."""

QUESTION_BYTES = 1 << 20
MERGED = ("expectations", "tags")
"""What a question that is told again adds to; the rest it replaces."""

_SUBJECT = Subject(
    QUESTION_SET,
    QUESTION_SET.c.question_set,
    {
        "name": QUESTION_SET.c.name,
        "created_by": QUESTION_SET.c.person,
        "last_updated_by": QUESTION_SET.c.changed_by,
    },
    {"created_time": QUESTION_SET.c.created_ms, "last_update_time": QUESTION_SET.c.updated_ms},
)


class Question(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question; each field but the times is the client's."""

    inputs: dict[str, Any] = {}
    outputs: Any = None
    expectations: dict[str, Any] | None = None
    tags: dict[str, str] | None = None
    source: dict[str, Any] | None = None
    question: str = ""
    created_ms: int = 0
    updated_ms: int = 0


class QuestionSet(msgspec.Struct, frozen=True, kw_only=True):
    """A set of questions."""

    question_set: str
    name: str
    person: str
    changed_by: str
    created_ms: int
    updated_ms: int
    questions: int
    tags: dict[str, str]
    experiments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Questions:
    """The verbs of question sets in one project."""

    project: str
    database: Database
    clock: Clock
    ids: IdSource
    experiments: Experiments

    def create(
        self, name: str, *, experiments: Sequence[str], tags: Mapping[str, str], person: str
    ) -> QuestionSet:
        """Make a set; several may have one name."""
        checked_key(name, what="dataset name")
        made, now_ms = f"{SET_PREFIX}{self.ids.new()}", self._now_ms()

        def work(connection: Connection) -> None:
            row = {"project": self.project, "question_set": made, "name": name, "person": person}
            times = {"changed_by": person, "created_ms": now_ms, "updated_ms": now_ms}
            connection.execute(insert(QUESTION_SET).values(**row, **times))
            set_tags(connection, self.project, made, tags)
            self._add(connection, made, experiments)

        self.database.write(work)
        return self.get(made)

    def get(self, name: str) -> QuestionSet:
        """Give one."""
        with self.database.read() as connection:
            return self._full(connection, [self._existing(connection, name)])[0]

    def search(
        self, experiments: Sequence[str], *, text: str | None, orders: Sequence[str], page: Page
    ) -> list[QuestionSet]:
        """Search sets, of any experiment when none is named, the newest first."""
        query = select(QUESTION_SET).where(QUESTION_SET.c.project == self.project)
        if experiments:
            linked = select(QUESTION_SET_EXPERIMENT.c.question_set).where(
                QUESTION_SET_EXPERIMENT.c.project == self.project,
                QUESTION_SET_EXPERIMENT.c.experiment.in_(experiments),
            )
            query = query.where(QUESTION_SET.c.question_set.in_(linked))
        for term in terms(text, PLAIN, default="attribute"):
            query = query.where(condition(_SUBJECT, self.project, term))
        for one in orders:
            way = order(one, PLAIN, default="attribute")
            query = ordered(query, _SUBJECT, self.project, way)
        query = query.order_by(QUESTION_SET.c.created_ms.desc(), QUESTION_SET.c.question_set.desc())
        with self.database.read() as connection:
            rows = connection.execute(query.offset(page.offset).limit(page.limit)).all()
            return self._full(connection, rows)

    def delete(self, name: str) -> None:
        """Delete a set with its questions, if it is there."""

        def work(connection: Connection) -> None:
            for table in (QUESTION_SET, QUESTION_SET_EXPERIMENT, QUESTION):
                mine = (table.c.project == self.project) & (table.c.question_set == name)
                connection.execute(delete(table).where(mine))
            owned = (TAG.c.project == self.project) & (TAG.c.owner == name)
            connection.execute(delete(TAG).where(owned))

        self.database.write(work)

    def set_tags(self, name: str, tags: Mapping[str, str | None]) -> None:
        """Set tags; one without a value is removed."""

        def work(connection: Connection) -> None:
            self._existing(connection, name)
            kept = {key: value for key, value in tags.items() if value is not None}
            set_tags(connection, self.project, name, kept)
            for key in tags.keys() - kept.keys():
                delete_tag(connection, self.project, name, key)

        self.database.write(work)

    def add_experiments(self, name: str, experiments: Sequence[str]) -> None:
        """Say that experiments use a set; again changes nothing."""

        def work(connection: Connection) -> None:
            self._existing(connection, name)
            self._add(connection, name, experiments)

        self.database.write(work)

    def remove_experiments(self, name: str, experiments: Sequence[str]) -> None:
        """Say that experiments use a set no more."""

        def work(connection: Connection) -> None:
            self._existing(connection, name)
            for part in parts(experiments):
                mine = self._linked(name) & QUESTION_SET_EXPERIMENT.c.experiment.in_(part)
                connection.execute(delete(QUESTION_SET_EXPERIMENT).where(mine))

        self.database.write(work)

    # --- questions

    def put(self, name: str, told: Sequence[Question], *, person: str) -> tuple[int, int]:
        """Keep questions; one with the same inputs is changed. Gives how many were new, and not.

        Raises:
            InvalidInput: One is too large, or they are too many. Nothing was kept.
        """
        now_ms = self._now_ms()

        def work(connection: Connection) -> tuple[int, int]:
            self._existing(connection, name)
            added = sum(self._put(connection, name, one, now_ms) for one in told)
            if self._counts(connection, [name]).get(name, 0) > QUESTIONS_AT_MOST:
                raise InvalidInput(f"dataset {name}: more than {QUESTIONS_AT_MOST} records")
            changed = update(QUESTION_SET).where(self._is(name))
            connection.execute(changed.values(updated_ms=now_ms, changed_by=person))
            return added, len(told) - added

        return self.database.write(work)

    def questions(self, name: str, page: Page) -> list[Question]:
        """Give questions in the order in which they came; none of a set that is not there."""
        query = select(QUESTION.c.body).where(self._asked(name)).order_by(QUESTION.c.question)
        with self.database.read() as connection:
            rows = connection.execute(query.offset(page.offset).limit(page.limit)).scalars()
            return [msgspec.json.decode(body, type=Question) for body in rows]

    def remove(self, name: str, questions: Sequence[str]) -> int:
        """Delete questions; gives how many were there."""

        def work(connection: Connection) -> int:
            gone = 0
            for part in parts(questions):
                mine = self._asked(name) & QUESTION.c.question.in_(part)
                gone += connection.execute(delete(QUESTION).where(mine)).rowcount
            return gone

        return self.database.write(work)

    # --- rows

    def _put(self, connection: Connection, name: str, told: Question, now_ms: int) -> bool:
        inputs = digest_bytes(canonical(told.inputs))
        mine = self._asked(name) & (QUESTION.c.inputs == inputs)
        row = connection.execute(select(QUESTION).where(mine)).first()
        if row is None:
            question = f"{PREFIX}{self.ids.new()}"
            values = {"question": question, "created_ms": now_ms, "updated_ms": now_ms}
            body = _written(msgspec.structs.replace(told, **values))
            key = {"project": self.project, "question_set": name, "question": question}
            connection.execute(insert(QUESTION).values(**key, inputs=inputs, body=body))
            return True
        changed = _merged(msgspec.json.decode(row.body, type=Question), told, now_ms)
        connection.execute(update(QUESTION).where(mine).values(body=_written(changed)))
        return False

    def _add(self, connection: Connection, name: str, experiments: Sequence[str]) -> None:
        for experiment in dict.fromkeys(experiments):
            self.experiments.existing(connection, experiment, active=False)
            key = {"project": self.project, "question_set": name, "experiment": experiment}
            same = [QUESTION_SET_EXPERIMENT.c[column] == value for column, value in key.items()]
            if connection.execute(select(QUESTION_SET_EXPERIMENT).where(*same)).first() is None:
                connection.execute(insert(QUESTION_SET_EXPERIMENT).values(**key))

    def _existing(self, connection: Connection, name: str) -> Row[Any]:
        row = connection.execute(select(QUESTION_SET).where(self._is(name))).first()
        if row is None:
            raise NotFound(f"Evaluation dataset with id '{name[:60]}' not found")
        return row

    def _full(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[QuestionSet]:
        names = [row.question_set for row in rows]
        tags = texts_of(connection, TAG, self.project, names)
        counts = self._counts(connection, names)
        used = defaultdict(list)
        for part in parts(names):
            table = QUESTION_SET_EXPERIMENT
            mine = (table.c.project == self.project) & table.c.question_set.in_(part)
            query = select(table).where(mine).order_by(table.c.experiment)
            for row in connection.execute(query):
                used[row.question_set].append(row.experiment)
        return [
            QuestionSet(
                question_set=row.question_set,
                name=row.name,
                person=row.person,
                changed_by=row.changed_by,
                created_ms=row.created_ms,
                updated_ms=row.updated_ms,
                questions=counts.get(row.question_set, 0),
                tags=tags.get(row.question_set, {}),
                experiments=tuple(used[row.question_set]),
            )
            for row in rows
        ]

    def _counts(self, connection: Connection, names: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in parts(names):
            mine = (QUESTION.c.project == self.project) & QUESTION.c.question_set.in_(part)
            query = select(QUESTION.c.question_set, func.count()).where(mine)
            rows = connection.execute(query.group_by(QUESTION.c.question_set))
            found |= {row[0]: int(row[1]) for row in rows}
        return found

    def _now_ms(self) -> int:
        return millis(self.clock.now())

    def _is(self, name: str) -> Any:
        return (QUESTION_SET.c.project == self.project) & (QUESTION_SET.c.question_set == name)

    def _linked(self, name: str) -> Any:
        table = QUESTION_SET_EXPERIMENT
        return (table.c.project == self.project) & (table.c.question_set == name)

    def _asked(self, name: str) -> Any:
        return (QUESTION.c.project == self.project) & (QUESTION.c.question_set == name)


def _merged(known: Question, told: Question, now_ms: int) -> Question:
    values: dict[str, Any] = {"updated_ms": now_ms}
    for name in ("outputs", "source"):
        if (value := getattr(told, name)) is not None:
            values[name] = value
    for name in MERGED:
        if (value := getattr(told, name)) is not None:
            values[name] = {**(getattr(known, name) or {}), **value}
    return msgspec.structs.replace(known, **values)


def _written(question: Question) -> bytes:
    body = msgspec.json.encode(question)
    if len(body) > QUESTION_BYTES:
        raise InvalidInput(f"a record has {len(body)} bytes, at most {QUESTION_BYTES}")
    return body
