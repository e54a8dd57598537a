"""Read the loop's derived tables."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, select

from mainspring.core.errors import NotFound
from mainspring.loop.spec import Endpoint
from mainspring.loop.tables import CANDIDATE, ENDPOINT, LIVE, ROLLOUT, VERDICT, from_us
from mainspring.loop.world import LiveVersion

AnyRow = Row[Any]


def endpoints(connection: Connection, project: str) -> list[Endpoint]:
    """Read all declared endpoints, by name."""
    chosen = select(ENDPOINT.c.spec).where(ENDPOINT.c.project == project).order_by(ENDPOINT.c.name)
    return [msgspec.json.decode(text, type=Endpoint) for text in connection.scalars(chosen)]


def projects(connection: Connection) -> list[str]:
    """List the projects that declare endpoints."""
    return list(connection.scalars(select(ENDPOINT.c.project).distinct()))


def endpoint(connection: Connection, project: str, name: str) -> Endpoint:
    """Read one declared endpoint."""
    found = connection.scalar(
        select(ENDPOINT.c.spec).where(ENDPOINT.c.project == project, ENDPOINT.c.name == name)
    )
    if found is None:
        raise NotFound(
            f"endpoint {name!r} is not declared in project {project!r}; "
            "declare it in the project file and apply it"
        )
    return msgspec.json.decode(found, type=Endpoint)


def live_version(connection: Connection, project: str, endpoint: str) -> LiveVersion | None:
    """Read which version answers."""
    row = _newest(connection, select(LIVE).where(*_of(LIVE, project, endpoint)), LIVE)
    return None if row is None else LiveVersion(row.version, row.manifest, from_us(row.since_us))


def live_history(connection: Connection, project: str, endpoint: str) -> Sequence[AnyRow]:
    """Read all promotions, oldest first."""
    chosen = select(LIVE).where(*_of(LIVE, project, endpoint)).order_by(LIVE.c.seq)
    return connection.execute(chosen).all()


def open_rollout(connection: Connection, project: str, endpoint: str) -> AnyRow | None:
    """Read the rollout that has not ended, if any."""
    chosen = select(ROLLOUT).where(*_of(ROLLOUT, project, endpoint), ROLLOUT.c.state == "open")
    return connection.execute(chosen).one_or_none()


def rollouts(connection: Connection, project: str, endpoint: str) -> Sequence[AnyRow]:
    """Read all rollouts, oldest first."""
    chosen = select(ROLLOUT).where(*_of(ROLLOUT, project, endpoint)).order_by(ROLLOUT.c.seq)
    return connection.execute(chosen).all()


def open_candidate(connection: Connection, project: str, endpoint: str) -> AnyRow | None:
    """Read the oldest version whose fate is open."""
    chosen = select(CANDIDATE).where(
        *_of(CANDIDATE, project, endpoint), CANDIDATE.c.state == "open"
    )
    return connection.execute(chosen.order_by(CANDIDATE.c.registered).limit(1)).one_or_none()


def candidates(connection: Connection, project: str, endpoint: str) -> Sequence[AnyRow]:
    """Read all versions that went or go through the gate, oldest first."""
    chosen = select(CANDIDATE).where(*_of(CANDIDATE, project, endpoint))
    return connection.execute(chosen.order_by(CANDIDATE.c.registered)).all()


def verdict(connection: Connection, identity: str) -> AnyRow:
    """Read one verdict."""
    return connection.execute(select(VERDICT).where(VERDICT.c.id == identity)).one()


def verdicts(connection: Connection, project: str, endpoint: str) -> Sequence[AnyRow]:
    """Read all verdicts, oldest first."""
    chosen = select(VERDICT).where(*_of(VERDICT, project, endpoint)).order_by(VERDICT.c.seq)
    return connection.execute(chosen).all()


def newest_verdict(connection: Connection, project: str, endpoint: str) -> AnyRow | None:
    """Read the verdict spoken last."""
    return _newest(connection, select(VERDICT).where(*_of(VERDICT, project, endpoint)), VERDICT)


def rollout_of_verdict(connection: Connection, verdict: str, kind: str) -> AnyRow | None:
    """Read the rollout of a kind that a verdict led to."""
    chosen = select(ROLLOUT).where(ROLLOUT.c.verdict == verdict, ROLLOUT.c.kind == kind)
    return connection.execute(chosen).first()


def instant(microseconds: int | None) -> datetime | None:
    """Read an optional time."""
    return None if microseconds is None else from_us(microseconds)


def _of(table: Any, project: str, endpoint: str) -> tuple[Any, Any]:
    return table.c.project == project, table.c.endpoint == endpoint


def _newest(connection: Connection, chosen: Select[Any], table: Any) -> AnyRow | None:
    return connection.execute(chosen.order_by(table.c.seq.desc()).limit(1)).one_or_none()
