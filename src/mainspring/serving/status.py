"""How a worker is, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainspring.serving.shelf import Served


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What one endpoint is served by."""

    project: str
    endpoint: str
    routes: int | None
    """Number of the table that it is served by; None if it cannot be served."""
    versions: tuple[str, ...]
    problem: str | None
    """Why it is not served by the newest table."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a worker is."""

    worker: str
    routes: int
    """Number of the newest table looked at; 0 before the first."""
    taken: bool
    """Whether a table was taken over; an empty home's first one has the number 0."""
    endpoints: tuple[EndpointStatus, ...]
    loaded_models: int
    rows_missing: int
    """Answered rows that the log has neither carried nor counted yet."""
    rows_left_out: int
    """Answered rows that the disk refused to record, since the start."""
    problems: tuple[str, ...]
    """Of routes file, request log and online table."""


def endpoint_status(
    name: tuple[str, str],
    served: Mapping[tuple[str, str], Served],
    problems: Mapping[tuple[str, str], str],
) -> EndpointStatus:
    """Describe one endpoint of a shelf."""
    now = served.get(name)
    return EndpointStatus(
        project=name[0],
        endpoint=name[1],
        routes=None if now is None else now.number,
        versions=() if now is None else tuple(arm.version for arm in now.route.arms),
        problem=problems.get(name),
    )
