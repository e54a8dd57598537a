"""The routes: all that the data plane knows of the world, as one numbered, immutable table."""

import math
from pathlib import Path
from typing import Literal

import msgspec

from mainspring.core.errors import Corrupt, InvalidDeclaration, NotFound, StaleSubject
from mainspring.core.ids import Digest, Id, checked_name
from mainspring.formats.durable import replace_file
from mainspring.formats.model import Column


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that takes part in an endpoint."""

    version: str
    manifest: Digest
    role: Literal["live", "canary", "shadow"]
    share: float
    """Of the keys it answers, 0 to 1; 0 for a shadow."""


class ViewRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feature view that is looked up for each row, by the request column `entity`."""

    name: str
    entity: str
    ttl_s: float | None
    """A value older than this at the row's event time is missing; None keeps any age."""
    features: tuple[str, ...]
    """Names of the looked-up columns, in the order of the online table or a part of it."""


class EndpointRoute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who answers an endpoint, from what."""

    project: str
    endpoint: str
    salt: str
    arms: tuple[Arm, ...]
    """The live one last, so that a growing canary moves no key out of itself."""
    request: tuple[Column, ...]
    views: tuple[ViewRef, ...]
    arm_timeout_s: float
    rollout: Id | None
    """While a rollout is open, every arm with the role live or canary scores every row."""
    sample_share: float = 1.0
    """Of the requests that the log keeps; the rest is counted."""


class RouteTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All routes of a home as of one fact of the ledger."""

    number: int
    endpoints: tuple[EndpointRoute, ...]


def publish(path: Path, table: RouteTable) -> None:
    """Replace the published table, atomically and durably. One writer: the home's owner.

    Raises:
        InvalidDeclaration: The table breaks a rule of its form; the message names the endpoint.
        StaleSubject: A table with a greater number is published.
    """
    for route in table.endpoints:
        _check(route)
    names = [(route.project, route.endpoint) for route in table.endpoints]
    if len(set(names)) < len(names):
        raise InvalidDeclaration(f"routes {table.number}: an endpoint is there twice; send it once")
    published = _published_number(path)
    if published is not None and table.number < published:
        raise StaleSubject(
            f"routes: found number {published} published, which is newer than {table.number}; "
            "read the ledger again and publish its newest state"
        )
    replace_file(path, msgspec.json.encode(table))


def load(path: Path) -> RouteTable:
    """Read the published table.

    Raises:
        NotFound: None was published yet.
        Corrupt: The file is no route table.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound("routes: none published yet; start the control plane") from error
    try:
        table = msgspec.json.decode(content, type=RouteTable)
        for route in table.endpoints:
            _check(route)
    except (msgspec.DecodeError, msgspec.ValidationError, InvalidDeclaration) as error:
        raise Corrupt(f"routes: the file is not readable ({error}); publish it again") from error
    return table


def _published_number(path: Path) -> int | None:
    try:
        return load(path).number
    except (NotFound, Corrupt):
        # What nobody can read protects nothing, and publishing again is its repair.
        return None


def _check(route: EndpointRoute) -> None:
    subject = f"route {route.project}/{route.endpoint}"
    for name in (route.project, route.endpoint, *(view.name for view in route.views)):
        checked_name(name, what="route")
    lives = [arm.role for arm in route.arms].count("live")
    if lives != 1 or route.arms[-1].role != "live":
        raise InvalidDeclaration(f"{subject}: found {lives} live arms, expected one, listed last")
    shares = [arm.share for arm in route.arms]
    if not all(0 <= s <= 1 for s in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise InvalidDeclaration(f"{subject}: found shares {shares}, expected 0 to 1 and sum 1")
    if any(arm.share for arm in route.arms if arm.role == "shadow"):
        raise InvalidDeclaration(f"{subject}: a shadow answers nobody; give it the share 0")
    if len({arm.version for arm in route.arms}) < len(route.arms):
        raise InvalidDeclaration(f"{subject}: a version is in two arms; name each once")
    if len(route.salt.encode()) > 64:
        raise InvalidDeclaration(f"{subject}: the salt is longer than 64 bytes; shorten it")
    if not route.arm_timeout_s > 0 or not 0 <= route.sample_share <= 1:
        raise InvalidDeclaration(
            f"{subject}: found time limit {route.arm_timeout_s} s and sample share "
            f"{route.sample_share}, expected above 0, and 0 to 1"
        )
    given = {column.name for column in route.request}
    for view in route.views:
        if view.entity not in given:
            raise InvalidDeclaration(
                f"{subject}: view {view.name!r} looks up by {view.entity!r}, which is not a "
                f"request column ({', '.join(sorted(given))}); add it to `request`"
            )
    features = [name for view in route.views for name in view.features]
    doubled = sorted({n for n in features if n in given or features.count(n) > 1})
    if doubled:
        raise InvalidDeclaration(f"{subject}: {', '.join(doubled)}: given twice; rename one")
