"""Turn the loop's state into the route table that the data plane reads."""

from collections.abc import Mapping
from typing import Literal

import polars as pl
from sqlalchemy import Connection

from mainspring.core.clock import duration
from mainspring.core.errors import Corrupt, NotFound, SchemaMismatch
from mainspring.core.ids import NO_FACT, Digest, Seq, digest_of
from mainspring.features.spec import FeatureView
from mainspring.formats.model import Column
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable, ViewRef, load, publish
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.loop.state import endpoints, live_version, open_rollout
from mainspring.store.ledger import Ledger


def publish_routes(stages: Stages) -> RouteTable:
    """Write the table that the ledger's newest state asks for; the number is the newest fact's.

    Routes of other projects stay as they are published. Publishing the same state twice is
    harmless: readers swap by number. Thread-safe: the state is read and written under one lock, so
    that an older state never replaces a newer one.
    """
    with stages.publishing:
        with stages.database.read() as connection:
            number = newest_fact(stages.ledger)
            mine = [
                route
                for spec in endpoints(connection, stages.project)
                if (route := _route(stages, connection, spec)) is not None
            ]
        table = RouteTable(number=number, endpoints=(*_of_others(stages), *mine))
        publish(stages.home.routes, table)
    return table


def _of_others(stages: Stages) -> tuple[EndpointRoute, ...]:
    try:
        published = load(stages.home.routes).endpoints
    except (NotFound, Corrupt):
        return ()
    return tuple(route for route in published if route.project != stages.project)


def newest_fact(ledger: Ledger) -> Seq:
    """Give the number of the newest fact of all, 0 before the first."""
    newest = ledger.facts(limit=1, newest_first=True)
    return newest[0].seq if newest else NO_FACT


def _route(stages: Stages, connection: Connection, spec: Endpoint) -> EndpointRoute | None:
    live = live_version(connection, stages.project, spec.name)
    if live is None:
        return None
    rollout = open_rollout(connection, stages.project, spec.name)
    share = rollout.share if rollout is not None else 0.0
    arms = [Arm(version=live.version, manifest=live.manifest, role="live", share=1.0 - share)]
    if rollout is not None:
        manifest = Digest(stages.registry.get(spec.name, rollout.candidate).manifest)
        arms.insert(
            0, Arm(version=rollout.candidate, manifest=manifest, role="canary", share=share)
        )
    return EndpointRoute(
        project=stages.project,
        endpoint=spec.name,
        salt=digest_of([stages.project, spec.name])[:16],
        arms=tuple(arms),
        request=_request(stages, spec),
        views=_views(stages.features.views(), spec),
        arm_timeout_s=stages.config.arm_timeout_s,
        rollout=None if rollout is None else rollout.id,
    )


def _request(stages: Stages, spec: Endpoint) -> tuple[Column, ...]:
    schema = stages.datasets.read(spec.rows).collect_schema()
    return tuple(Column(name, _type_of(spec, name, schema)) for name in spec.request)


def _type_of(
    spec: Endpoint, name: str, schema: pl.Schema
) -> Literal["float", "int", "str", "bool"]:
    kind = schema.get(name)
    if kind is None:
        raise SchemaMismatch(
            f"endpoint {spec.name!r}: request column {name!r} is not in dataset {spec.rows!r}; "
            f"found {', '.join(schema)}"
        )
    if kind == pl.Boolean:
        return "bool"
    if kind.is_integer():
        return "int"
    if kind.is_numeric():
        return "float"
    if kind == pl.String:
        return "str"
    raise SchemaMismatch(
        f"endpoint {spec.name!r}: request column {name!r} is {kind}, expected a number, text or "
        "boolean; give it such a form in the dataset"
    )


def _views(declared: Mapping[str, FeatureView], spec: Endpoint) -> tuple[ViewRef, ...]:
    return tuple(
        ViewRef(
            name=view.name,
            entity=view.entity,
            ttl_s=None if view.ttl is None else duration(view.ttl).total_seconds(),
            features=view.names,
        )
        for view in (declared[name] for name in spec.features)
    )
