"""Scorers: registered, listed and given back; never run here."""

import msgspec

from mainspring.api.verb import Call
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import Int64, Message, Nothing, Text, invalid
from mainspring.tracking.scorers import Scorer


class Register(Message, frozen=True, kw_only=True):
    experiment_id: Text
    name: Text
    serialized_scorer: Text


class Of(Message, frozen=True, kw_only=True):
    experiment_id: str | None = None


class Named(Message, frozen=True, kw_only=True):
    experiment_id: Text
    name: Text
    version: Int64 | None = None


class Registered(Message, frozen=True, kw_only=True):
    version: int
    scorer_id: str
    experiment_id: str
    name: str
    serialized_scorer: str
    creation_time: int


class Shown(Message, frozen=True, kw_only=True):
    experiment_id: int
    scorer_name: str
    scorer_version: int
    serialized_scorer: str
    creation_time: int
    scorer_id: str


class One(Message, frozen=True, kw_only=True):
    scorer: Shown


class Many(Message, frozen=True, kw_only=True):
    scorers: tuple[Shown, ...] = ()


class Configs(msgspec.Struct, frozen=True, kw_only=True):
    configs: tuple[Nothing, ...] = ()


def register(call: Call, request: Register) -> Registered:
    """Keep the next version of a scorer."""
    if not request.experiment_id.isdigit():
        raise invalid("experiment_id", request.experiment_id)
    made = call.project.tracking.scorers.register(
        request.experiment_id, request.name, request.serialized_scorer
    )
    return Registered(
        version=made.version,
        scorer_id=made.scorer,
        experiment_id=made.experiment,
        name=made.name,
        serialized_scorer=made.body,
        creation_time=made.created_ms,
    )


def newest(call: Call, request: Of) -> Many:
    """List the newest version of each."""
    found = call.project.tracking.scorers.newest(request.experiment_id or None)
    return Many(scorers=tuple(_shown(one) for one in found))


def versions(call: Call, request: Named) -> Many:
    """List all versions of one."""
    found = call.project.tracking.scorers.versions(request.experiment_id, request.name)
    return Many(scorers=tuple(_shown(one) for one in found))


def get(call: Call, request: Named) -> One:
    """Give a version, or the newest."""
    scorers = call.project.tracking.scorers
    found = scorers.get(request.experiment_id, request.name, request.version or None)
    return One(scorer=_shown(found))


def delete(call: Call, request: Named) -> None:
    """Delete a version, or all."""
    scorers = call.project.tracking.scorers
    scorers.delete(request.experiment_id, request.name, request.version or None)


def online_configs(_: Call, __: Nothing) -> Configs:
    """Say that no scorer runs by itself here."""
    return Configs()


def _shown(found: Scorer) -> Shown:
    return Shown(
        experiment_id=int(found.experiment),
        scorer_name=found.name,
        scorer_version=found.version,
        serialized_scorer=found.body,
        creation_time=found.created_ms,
        scorer_id=found.scorer,
    )


ENDPOINTS = (
    Endpoint("POST", "/scorers/register", WRITE, Register, register),
    Endpoint("GET", "/scorers/list", READ, Of, newest),
    Endpoint("GET", "/scorers/versions", READ, Named, versions),
    Endpoint("GET", "/scorers/get", READ, Named, get),
    Endpoint("DELETE", "/scorers/delete", WRITE, Named, delete),
    Endpoint("GET", "/scorers/online-configs", READ, Nothing, online_configs),
)
