"""Assessments of traces: what people and judges say of them, and what they expected."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, delete, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import IdSource
from mainspring.store.database import Database
from mainspring.tracking.tables import ASSESSMENT, TRACE
from mainspring.tracking.texts import parts

KINDS = ("feedback", "expectation", "issue")
PREFIX = "a-"
NAME_LENGTH = 250
BODY_BYTES = 256 << 10
AT_MOST = 1000
"""Of one trace."""

CHANGEABLE = ("assessment_name", "expectation", "feedback", "issue", "rationale", "metadata")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assessments:
    """The verbs of assessments in one project; what is shown is a body with `valid` in it."""

    project: str
    database: Database
    clock: Clock
    ids: IdSource

    def create(self, trace: str, told: Mapping[str, Any]) -> Body:
        """Keep an assessment; one that overrides another makes that one invalid.

        Raises:
            NotFound: There is no such trace, or none to override.
            InvalidInput: It is not whole.
        """
        assessment = f"{PREFIX}{self.ids.new()}"
        now = self._now()
        body = {
            "create_time": now,
            "last_update_time": now,
            **{name: value for name, value in told.items() if value is not None},
            "assessment_id": assessment,
            "trace_id": trace,
        }
        body.pop("valid", None)
        kind = _checked(body)
        overrides = body.get("overrides")

        def work(connection: Connection) -> None:
            self._check_trace(connection, trace)
            if len(connection.execute(select(ASSESSMENT.c.name).where(self._of(trace))).all()) >= (
                AT_MOST
            ):
                raise InvalidInput(f"trace {trace}: it has {AT_MOST} assessments, no more fit")
            if overrides:
                self._existing(connection, trace, overrides)
                self._set_valid(connection, trace, overrides, valid=False)
            row = {"project": self.project, "trace": trace, "assessment": assessment}
            values = {"valid": True, "overrides": overrides or None, **_columns(body, kind)}
            connection.execute(insert(ASSESSMENT).values(**row, **values))

        self.database.write(work)
        return self.get(trace, assessment)

    def get(self, trace: str, assessment: str) -> Body:
        """Give one."""
        with self.database.read() as connection:
            return _shown(self._existing(connection, trace, assessment))

    def change(
        self, trace: str, assessment: str, told: Mapping[str, Any], fields: Sequence[str]
    ) -> Body:
        """Change the named fields; metadata is added to what is there.

        Raises:
            InvalidInput: A field may not change, or a feedback would become an expectation.
        """
        wrong = [name for name in fields if name not in CHANGEABLE]
        if wrong:
            raise InvalidInput(
                f"assessment field {wrong[0][:60]!r} may not be changed; these may: "
                f"{', '.join(CHANGEABLE)}"
            )

        def work(connection: Connection) -> None:
            row = self._existing(connection, trace, assessment)
            body = msgspec.json.decode(row.body, type=Body)
            for name in fields:
                if name in KINDS and name != row.kind:
                    article = "an" if row.kind[0] in "ei" else "a"
                    raise InvalidInput(
                        f"Cannot update {name} value on {article} {row.kind.capitalize()} "
                        "assessment."
                    )
                if name == "metadata":
                    body[name] = {**body.get(name, {}), **(told.get(name) or {})}
                elif name in told:
                    body[name] = told[name]
            body["last_update_time"] = self._now()
            values = _columns(body, _checked(body))
            connection.execute(
                update(ASSESSMENT).where(self._is(trace, assessment)).values(**values)
            )

        self.database.write(work)
        return self.get(trace, assessment)

    def delete(self, trace: str, assessment: str) -> None:
        """Delete one if it is there; what it overrode is valid again."""

        def work(connection: Connection) -> None:
            mine = self._is(trace, assessment)
            row = connection.execute(select(ASSESSMENT).where(mine)).first()
            if row is None:
                return
            connection.execute(delete(ASSESSMENT).where(mine))
            if row.overrides:
                self._set_valid(connection, trace, row.overrides, valid=True)

        self.database.write(work)

    def _now(self) -> str:
        return self.clock.now().isoformat().replace("+00:00", "Z")

    def _check_trace(self, connection: Connection, trace: str) -> None:
        mine = (TRACE.c.project == self.project) & (TRACE.c.trace == trace)
        if connection.execute(select(TRACE.c.trace).where(mine)).first() is None:
            raise NotFound(f"Trace with ID '{trace[:80]}' not found.")

    def _existing(self, connection: Connection, trace: str, assessment: str) -> Row[Any]:
        self._check_trace(connection, trace)
        row = connection.execute(select(ASSESSMENT).where(self._is(trace, assessment))).first()
        if row is None:
            raise NotFound(
                f"Assessment with ID '{assessment[:80]}' not found for trace '{trace[:80]}'"
            )
        return row

    def _set_valid(
        self, connection: Connection, trace: str, assessment: str, *, valid: bool
    ) -> None:
        connection.execute(
            update(ASSESSMENT).where(self._is(trace, assessment)).values(valid=valid)
        )

    def _of(self, trace: str) -> Any:
        return (ASSESSMENT.c.project == self.project) & (ASSESSMENT.c.trace == trace)

    def _is(self, trace: str, assessment: str) -> Any:
        return self._of(trace) & (ASSESSMENT.c.assessment == assessment)


def assessments_of(
    connection: Connection, project: str, traces: Sequence[str]
) -> dict[str, list[Body]]:
    """Give the assessments of traces, each trace's in the order they were made."""
    found: dict[str, list[Body]] = defaultdict(list)
    for part in parts(traces):
        mine = (ASSESSMENT.c.project == project) & ASSESSMENT.c.trace.in_(part)
        query = select(ASSESSMENT).where(mine).order_by(ASSESSMENT.c.assessment)
        for row in connection.execute(query):
            found[row.trace].append(_shown(row))
    return found


def _checked(body: Body) -> str:
    """Give what kind an assessment is of; refuse one that is not whole."""
    name = body.get("assessment_name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_LENGTH:
        raise InvalidInput(
            f"Missing value for required parameter 'assessment.assessment_name': expected up to "
            f"{NAME_LENGTH} characters"
        )
    kinds = [kind for kind in KINDS if body.get(kind) is not None]
    if len(kinds) != 1:
        raise InvalidInput(
            f"Unknown assessment type: {' and '.join(kinds) or None}; expected one of "
            f"{', '.join(KINDS)}"
        )
    if not isinstance(body.get("source"), dict):
        raise InvalidInput("Missing value for required parameter 'assessment.source'")
    return kinds[0]


def _columns(body: Body, kind: str) -> dict[str, Any]:
    content = msgspec.json.encode(body)
    if len(content) > BODY_BYTES:
        raise InvalidInput(f"the assessment has {len(content)} bytes, at most {BODY_BYTES}")
    value = body[kind].get("value") if isinstance(body[kind], dict) else None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "name": body["assessment_name"],
        "kind": kind,
        "value": text,
        "number": float(text) if is_number else None,
        "body": content,
    }


def _shown(row: Row[Any]) -> Body:
    return {**msgspec.json.decode(row.body), "valid": bool(row.valid)}
