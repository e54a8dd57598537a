"""The V2 protocol (Open Inference Protocol) over REST: what it asks and how it is answered."""

from collections.abc import Sequence
from importlib.metadata import version as installed
from typing import Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import IdSource
from mainspring.formats.routes import EndpointRoute
from mainspring.serving.asking import EVENT_TIME, KEY, OUTPUTS, Asked, parse, understood
from mainspring.serving.engine import Engine
from mainspring.serving.http import JSON, Request, Response, failed
from mainspring.serving.replay import Answer
from mainspring.serving.tensors import DATATYPES, binary

_REASONS_SHOWN = 10
_EXTENSIONS = ("binary_tensor_data", "statistics")
_VERSION = installed("mainspring")


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: dict[str, int] = {}


class InferAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An infer request's answer. Versions that differ between rows are an output, not a claim."""

    model_name: str
    parameters: dict[str, str | bool]
    outputs: tuple[Tensor, ...]
    model_version: str | None = None
    id: str | None = None


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

    def __init__(self, engine: Engine, *, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

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

    def infer(self, project: str, endpoint: str, version: str | None, request: Request) -> Response:
        """Answer rows."""
        route = self._engine.route(project, endpoint)
        _check_version(route, version)
        body, behind = parse(request.body, _json_bytes(request))
        asked = understood(body, behind, route, clock=self._clock, ids=self._ids)
        answer = self._engine.predict(
            project, endpoint, asked.rows, request_id=asked.id, version=version
        )
        if len(answer.errors) == len(answer.outputs):
            return failed(500, f"endpoint {endpoint!r}: {_reasons(answer)}")
        return _encoded(endpoint, asked, answer)

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


def _encoded(endpoint: str, asked: Asked, answer: Answer) -> Response:
    version, arm = _common(answer.versions), _common(answer.arms)
    parameters: dict[str, str | bool] = {"prediction_id": answer.prediction}
    if version:
        parameters["version"] = version
    if arm:
        parameters["arm"] = arm
    failed_rows = len(answer.errors)
    if any(answer.fallback) and sum(answer.fallback) > failed_rows:
        parameters["fallback"] = True
    if failed_rows:
        parameters["failed_rows"] = ",".join(str(i) for i in answer.errors)
        parameters["error"] = _reasons(answer)
    # Whatever was asked for: an answer names the versions that computed it.
    names = asked.outputs if version else tuple(dict.fromkeys([*asked.outputs, "version"]))
    values: dict[str, Sequence[Any]] = {
        "score": answer.outputs,
        "version": answer.versions,
        "arm": answer.arms,
    }
    outputs, contents = [], []
    for name in names:
        datatype, shape = OUTPUTS[name], (len(answer.outputs),)
        if name in asked.binary:
            contents.append(binary(datatype, values[name]))
            size = {"binary_data_size": len(contents[-1])}
            outputs.append(Tensor(name, datatype, shape, None, size))
        else:
            outputs.append(Tensor(name, datatype, shape, list(values[name])))
    text = msgspec.json.encode(InferAnswer(endpoint, parameters, tuple(outputs), version, asked.id))
    if not contents:
        return Response(200, text)
    length = ("Inference-Header-Content-Length", str(len(text)))
    return Response(200, b"".join([text, *contents]), "application/octet-stream", (length,))


def _common(values: list[str]) -> str | None:
    first = values[0]
    return first or None if values.count(first) == len(values) else None


def _reasons(answer: Answer) -> str:
    rows = list(answer.errors.items())
    shown = "; ".join(f"row {i}: {reason}" for i, reason in rows[:_REASONS_SHOWN])
    more = f"; and {len(rows) - _REASONS_SHOWN} more" if len(rows) > _REASONS_SHOWN else ""
    return f"no version could score it; {shown}{more}"


def _answering(route: EndpointRoute) -> tuple[str, ...]:
    return tuple(arm.version for arm in route.arms if arm.role != "shadow")


def _check_version(route: EndpointRoute, version: str | None) -> None:
    versions = _answering(route)
    if version is not None and version not in versions:
        raise NotFound(
            f"endpoint {route.endpoint!r}: version {version[:60]!r} does not answer it now; those "
            f"that do: {', '.join(versions)}"
        )


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get("inference-header-content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInput(f"header Inference-Header-Content-Length: found {text[:20]!r}")
    return int(text)


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value), JSON)
