"""The V2 protocol (Open Inference Protocol) over REST, but for predictions (`infer.py`)."""

from importlib.metadata import version as installed
from typing import Any

import msgspec

from mainspring.core.errors import NotFound, Refused
from mainspring.formats.routes import EndpointRoute
from mainspring.serving.asking import EVENT_TIME, KEY, OUTPUTS
from mainspring.serving.engine import Engine
from mainspring.serving.http import JSON, Response
from mainspring.serving.tensors import DATATYPES

_EXTENSIONS = ("binary_tensor_data", "statistics", "model_repository")
_VERSION = installed("mainspring")


class TensorShape(msgspec.Struct, frozen=True):
    """A tensor as the metadata describes it."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What an endpoint takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorShape, ...]
    outputs: tuple[TensorShape, ...]


class V2:
    """Answers for one engine; errors are raised, the app gives them their status."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def server(self) -> Response:
        """Describe the server."""
        return _json({"name": "mainspring", "version": _VERSION, "extensions": _EXTENSIONS})

    def metadata(self, project: str, endpoint: str, version: str | None) -> Response:
        """Describe an endpoint; inputs are its request's columns, with key and event time."""
        route = self._engine.route(project, endpoint)
        versions = _answering(route)
        _check_version(route, version)
        columns = [(column.name, DATATYPES[column.type]) for column in route.request]
        added = [(KEY, "BYTES"), (EVENT_TIME, "BYTES")]
        return _json(
            ModelMetadata(
                endpoint,
                versions if version is None else (version,),
                "onnxruntime_onnx",
                tuple(TensorShape(name, kind, (-1,)) for name, kind in columns + added),
                (TensorShape("score", OUTPUTS["score"], (-1,)),),
            )
        )

    def ready(self, project: str, endpoint: str, version: str | None) -> Response:
        """Say that an endpoint answers; it raises if not."""
        _check_version(self._engine.route(project, endpoint), version)
        return _json({"name": endpoint, "ready": True})

    def statistics(self, project: str, endpoint: str, version: str | None) -> Response:
        """Count what an endpoint's versions answered since this worker's start."""
        route = self._engine.route(project, endpoint)
        _check_version(route, version)
        found = {name: {"rows": 0, "requests": 0, "us": 0} for name in _answering(route)}
        for (of, name, answered, _), tally in self._engine.tally.by_version.items():
            if (of, name) == (project, endpoint) and answered in found:
                found[answered]["rows"] += tally.rows
                found[answered]["requests"] += tally.requests
                found[answered]["us"] += tally.compute_us
        return _json(
            {
                "model_stats": [
                    {
                        "name": endpoint,
                        "version": name,
                        "inference_count": counts["rows"],
                        "execution_count": counts["requests"],
                        "inference_stats": {
                            "compute_infer": {
                                "count": counts["requests"],
                                "ns": counts["us"] * 1000,
                            }
                        },
                    }
                    for name, counts in found.items()
                    if version in (None, name)
                ]
            }
        )

    def index(self, project: str) -> Response:
        """List the endpoints with their versions, and why one is not served."""
        return _json(
            [
                {
                    "name": one.endpoint,
                    "version": version,
                    "state": "UNAVAILABLE" if one.routes is None else "READY",
                    "reason": one.problem or "",
                }
                for one in self._engine.status().endpoints
                if one.project == project
                for version in one.versions or ("",)
            ]
        )

    def load(self, project: str, endpoint: str) -> Response:
        """Say that an endpoint is loaded: what the routes name is; it raises if it is not there."""
        self._engine.route(project, endpoint)
        return _json({})

    def unload(self, project: str, endpoint: str) -> Response:
        """Refuse: what is served is decided by the routes."""
        self._engine.route(project, endpoint)
        raise Refused(
            f"endpoint {endpoint!r}: what is served is decided by its routes; take it off them on "
            "the control plane (`mainspring endpoint`)"
        )


def _answering(route: EndpointRoute) -> tuple[str, ...]:
    return tuple(arm.version for arm in route.arms if arm.role != "shadow")


def _check_version(route: EndpointRoute, version: str | None) -> None:
    versions = _answering(route)
    if version is not None and version not in versions:
        raise NotFound(
            f"endpoint {route.endpoint!r}: version {version[:60]!r} does not answer it now; those "
            f"that do: {', '.join(versions)}"
        )


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value), JSON)
