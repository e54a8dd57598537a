"""The loaded models and the endpoints they serve: one table for the next, never half of each."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainspring.core.errors import MainspringError, Refused, SchemaMismatch
from mainspring.core.home import Home
from mainspring.core.ids import Digest
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable
from mainspring.serving.lookup import Lookup
from mainspring.serving.runtime import OnnxModel

Name = tuple[str, str]
"""Project and endpoint."""


@dataclass(frozen=True, slots=True)
class Served:
    """An endpoint with everything it needs; a request holds one from beginning to end."""

    route: EndpointRoute
    number: int
    """Of the route table it comes from."""
    models: Mapping[str, OnnxModel]
    lookup: Lookup
    shadows: tuple[Arm, ...]
    """Arms that are asked after the answer."""
    propensity: Mapping[str, float]
    """Share of the keys that each version is chosen for."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What a worker serves, as one immutable value."""

    number: int
    """Of the newest route table that was looked at."""
    served: Mapping[Name, Served]
    problems: Mapping[Name, str]
    """Why an endpoint is still served by its earlier route, or not at all."""

    @property
    def models(self) -> dict[tuple[str, Digest], OnnxModel]:
        """Every model in use, by project and manifest."""
        return {
            (name[0], model.digest): model
            for name, served in self.served.items()
            for model in served.models.values()
        }

    def has_models_of(self, table: RouteTable) -> bool:
        """Tell whether every model that a table names is loaded."""
        loaded = self.models
        return all(
            (route.project, arm.manifest) in loaded
            for route in table.endpoints
            for arm in route.arms
        )


EMPTY = Shelf(0, {}, {})


def stocked(home: Home, table: RouteTable, before: Shelf, *, at_most: int) -> Shelf:
    """Load what a table needs beside what is loaded, and give the shelf that follows.

    An endpoint with a version that does not load keeps its earlier route, whole; the others move
    on. Models that no route names any more are not on the new shelf.
    """
    served: dict[Name, Served] = {}
    problems: dict[Name, str] = {}
    loaded = before.models
    for route in table.endpoints:
        name = (route.project, route.endpoint)
        earlier = before.served.get(name)
        if earlier is not None and earlier.route == route:
            served[name] = earlier
            continue
        try:
            served[name] = _served(home, route, table.number, loaded)
            used = Shelf(0, served, {}).models
            if len(used) > at_most:
                raise Refused(
                    f"worker: {len(used)} models needed, at most {at_most} may be loaded; raise "
                    "the setting 'loaded_models' or start another worker"
                )
        except (MainspringError, OSError) as error:
            problems[name] = str(error)
            served.pop(name, None)
            if earlier is not None:
                served[name] = earlier
    return Shelf(table.number, served, problems)


def _served(
    home: Home,
    route: EndpointRoute,
    number: int,
    loaded: dict[tuple[str, Digest], OnnxModel],
) -> Served:
    models = {}
    for arm in route.arms:
        place = (route.project, arm.manifest)
        if place not in loaded:
            loaded[place] = OnnxModel.load(home, route.project, arm.manifest)
        models[arm.version] = loaded[place]
        _check_columns(route, arm.version, loaded[place])
    shadows = tuple(arm for arm in route.arms if arm.role == "shadow")
    return Served(route, number, models, Lookup(home, route), shadows, _propensities(route.arms))


def _propensities(arms: tuple[Arm, ...]) -> dict[str, float]:
    shares = {arm.version: arm.share for arm in arms[:-1]}
    shares[arms[-1].version] = 1.0 - sum(shares.values())
    return shares


def _check_columns(route: EndpointRoute, version: str, model: OnnxModel) -> None:
    given = {column.name: column.type == "str" for column in route.request}
    given.update({name: False for view in route.views for name in view.features})
    for column in model.columns:
        if given.get(column.name) is not (column.type == "str"):
            raise SchemaMismatch(
                f"endpoint {route.endpoint!r}: version {version} takes {column.name!r} as "
                f"{column.type}, which neither its request nor its views give; train on the "
                f"endpoint's columns ({', '.join(sorted(given))})"
            )
