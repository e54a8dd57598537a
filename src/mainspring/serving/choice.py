"""Who answers a request: an endpoint's route, whole or with the one version that was named."""

from dataclasses import dataclass, field

import msgspec

from mainspring.core.errors import NotFound
from mainspring.formats.routes import Arm, EndpointRoute
from mainspring.serving.quick import QuickReader
from mainspring.serving.shelf import Served


@dataclass(frozen=True, slots=True)
class Single:
    """What all one-row answers of an arm have in common; shared, so never changed."""

    versions: list[str]
    roles: list[str]
    propensity: list[float]


_MOST_ARMS = 15
_AS_CHOSEN = [False]
NO_ERRORS: dict[int, str] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """An endpoint as asked for; requests of one choice are answered together."""

    served: Served
    version: str | None
    """The only one that may answer; None leaves it to the keys."""
    route: EndpointRoute
    """With the arms that may answer."""
    scored_by: EndpointRoute
    """With the arms that score: in a rollout both, whoever answers; the guards compare pairs."""
    float_names: list[str]
    reader: QuickReader
    rows_alone: bool
    """Whether a row's numbers are all that an answer rests on, and every answer is recorded."""
    single: dict[str, Single] = field(default_factory=dict)
    """By version."""
    as_chosen: list[bool] = field(default_factory=lambda: _AS_CHOSEN)

    @property
    def subject(self) -> str:
        """How errors name it."""
        return f"endpoint {self.route.endpoint!r}"

    def propensity(self, arm: Arm) -> float:
        """Give the share of keys that the arm is chosen for."""
        return 1.0 if self.version is not None else self.served.propensity[arm.version]


def chosen_of(served: Served, version: str | None) -> Choice:
    """Prepare what requests of an endpoint, or of one of its versions, share.

    Raises:
        NotFound: The version is not among those that answer.
    """
    route = served.route if version is None else _pinned(served.route, version)
    choice = Choice(
        served,
        version,
        route,
        route if route.rollout is None else served.route,
        [column.name for column in route.request if column.type != "str"],
        QuickReader(route.request, version),
        _rows_alone(served),
    )
    for arm in route.arms:
        choice.single[arm.version] = Single([arm.version], [arm.role], [choice.propensity(arm)])
    return choice


def _rows_alone(served: Served) -> bool:
    route = served.route
    return (
        not route.views
        and route.sample_share >= 1
        and len(route.arms) <= _MOST_ARMS
        and all(column.type == "float" for column in route.request)
    )


def _pinned(route: EndpointRoute, version: str) -> EndpointRoute:
    answering = [arm for arm in route.arms if arm.role != "shadow"]
    for arm in answering:
        if arm.version == version:
            return msgspec.structs.replace(route, arms=(arm,))
    known = ", ".join(arm.version for arm in answering)
    raise NotFound(
        f"endpoint {route.endpoint!r}: version {version[:60]!r} does not answer it now; those "
        f"that do: {known}"
    )
