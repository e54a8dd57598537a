"""The V2 protocol over gRPC: its methods, out of one engine. Predictions are `grpc_infer`'s."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from typing import Any

from mainspring.core.errors import MainspringError, NotFound, Refused
from mainspring.core.ids import DEFAULT_PROJECT
from mainspring.serving.app import Permission
from mainspring.serving.asking import EVENT_TIME, KEY, OUTPUTS
from mainspring.serving.callers import Callers
from mainspring.serving.engine import Engine
from mainspring.serving.grpc_infer import GrpcInference, Infer
from mainspring.serving.grpc_messages import REQUESTS, RESPONSES
from mainspring.serving.http import Request
from mainspring.serving.http2 import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Call,
    Reply,
)
from mainspring.serving.tensors import DATATYPES

PROJECT = "mainspring-project"
"""Metadata that names the project; the protocol's paths have no place for it."""

_CODES = {
    "invalid_input": INVALID_ARGUMENT,
    "schema_mismatch": INVALID_ARGUMENT,
    "not_authenticated": UNAUTHENTICATED,
    "not_permitted": PERMISSION_DENIED,
    "not_found": NOT_FOUND,
    "refused": UNIMPLEMENTED,
    "unavailable": UNAVAILABLE,
    "timed_out": DEADLINE_EXCEEDED,
}
_STATUS = {OK: 200, INTERNAL: 500, UNAVAILABLE: 503, DEADLINE_EXCEEDED: 504}
"""Of HTTP, as the counters take it; all else is the caller's."""
_PREDICT = Permission("prediction", "predict")
_READ = Permission("endpoint", "read")
_MODEL_INFER = "ModelInfer"


@dataclass(frozen=True, slots=True)
class _Method:
    answer: Callable[[str, Any, Any], None]
    """Fills the response of a request in a project."""
    access: Permission | None
    """None: probes tell no more than that the worker is there."""


class Calls:
    """Answers calls; never raises.

    Args:
        engine: What predicts.
        callers: Who may call.
        before: Called once a turn before the first answer: a table published before is in force.
        ready: Whether every endpoint is served.
        count: Told of each answer: status of HTTP.
        predicted: Told of each prediction: project, endpoint, seconds.
        after: Called when the calls of a turn are answered.
    """

    def __init__(
        self,
        engine: Engine,
        inference: GrpcInference,
        callers: Callers,
        *,
        before: Callable[[], object],
        ready: Callable[[], bool],
        count: Callable[[int], None],
        predicted: Callable[[str, str, float], None],
        after: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._inference = inference
        self._callers = callers
        self._before = before
        self._ready = ready
        self._count = count
        self._predicted = predicted
        self._after = after
        self._methods = {
            "ServerLive": _Method(_live, None),
            "ServerReady": _Method(self._server_ready, None),
            "ServerMetadata": _Method(_server, None),
            "ModelReady": _Method(self._model_ready, _READ),
            "ModelMetadata": _Method(self._model, _READ),
            "ModelStatistics": _Method(self._statistics, _READ),
            "RepositoryIndex": _Method(self._index, _READ),
            "RepositoryModelLoad": _Method(self._load, _READ),
            "RepositoryModelUnload": _Method(self._unload, _READ),
        }

    def answer(self, calls: Sequence[Call]) -> list[Reply]:
        """Answer the calls of a turn, predictions together."""
        self._callers.begin_turn()
        self._before()
        now, replies = time.monotonic(), dict[int, Reply]()
        infers: list[Infer] = []
        for number, call in enumerate(calls):
            try:
                found = self._one(number, call, now)
            except Exception as error:  # one call must not end the worker
                found = told(error)
            if isinstance(found, Reply):
                replies[number] = found
            else:
                infers.append(found)
        for infer, reply in self._infer(infers, now):
            replies[infer.number] = reply
            if reply.status == OK:
                self._predicted(infer.project, infer.endpoint, time.monotonic() - now)
        for reply in replies.values():
            self._count(_STATUS.get(reply.status, 400))
        self._after()
        return [replies[number] for number in range(len(calls))]

    def _infer(self, infers: Sequence[Infer], now: float) -> list[tuple[Infer, Reply]]:
        try:
            return self._inference.answer(infers, started_s=now, told=told)
        except Exception as error:
            return [(infer, told(error)) for infer in infers]

    def _one(self, number: int, call: Call, now: float) -> Reply | Infer:
        kind = REQUESTS.get(call.path)
        if kind is None:
            return Reply(UNIMPLEMENTED, told=f"no method {call.path[:100]!r} is served here")
        if call.ends_s is not None and now >= call.ends_s:
            return Reply(DEADLINE_EXCEEDED, told="its time was over before it was answered")
        name = call.path.rpartition("/")[2]
        project = call.headers.get(PROJECT, DEFAULT_PROJECT)
        method = self._methods.get(name)
        self._admit(call, project, _PREDICT if method is None else method.access)
        try:
            request = kind.FromString(call.message)
        except Exception:  # the library's error has no root but this
            return Reply(INVALID_ARGUMENT, told=f"the message is no {name}Request")
        if method is None:
            return Infer(number, project, request.model_name, request)
        response = RESPONSES[name]()
        method.answer(project, request, response)
        return Reply(OK, response.SerializeToString())

    def _admit(self, call: Call, project: str, access: Permission | None) -> None:
        """Apply the rules of the door: the same as those of REST."""
        headers = {**call.headers, "host": call.headers.get(":authority", "")}
        request = Request("POST", call.path, headers, b"")
        turned_away = self._callers.turned_away(request)
        if turned_away is not None:
            raise _TurnedAway(turned_away.body.decode())
        if access is not None:
            self._callers.check(request, project, access)

    # --- methods

    def _server_ready(self, _project: str, _request: Any, response: Any) -> None:
        response.ready = self._ready()

    def _model_ready(self, project: str, request: Any, response: Any) -> None:
        self._arms(project, request.name, request.version)
        response.ready = True

    def _model(self, project: str, request: Any, response: Any) -> None:
        arms = self._arms(project, request.name, request.version)
        response.name, response.platform = request.name, "onnxruntime_onnx"
        response.versions.extend(arms)
        route = self._engine.route(project, request.name)
        columns = [(column.name, DATATYPES[column.type]) for column in route.request]
        for name, datatype in [*columns, (KEY, "BYTES"), (EVENT_TIME, "BYTES")]:
            response.inputs.add(name=name, datatype=datatype, shape=[-1])
        response.outputs.add(name="score", datatype=OUTPUTS["score"], shape=[-1])

    def _statistics(self, project: str, request: Any, response: Any) -> None:
        for endpoint in [request.name] if request.name else self._endpoints(project):
            for version in self._arms(project, endpoint, request.version):
                rows = requests = compute_us = 0
                for (of, name, answered, _), tally in self._engine.tally.by_version.items():
                    if (of, name, answered) == (project, endpoint, version):
                        rows += tally.rows
                        requests += tally.requests
                        compute_us += tally.compute_us
                found = response.model_stats.add(
                    name=endpoint, version=version, inference_count=rows, execution_count=requests
                )
                found.inference_stats.success.count = requests
                found.inference_stats.compute_infer.count = requests
                found.inference_stats.compute_infer.ns = compute_us * 1000

    def _index(self, project: str, request: Any, response: Any) -> None:
        for one in self._engine.status().endpoints:
            ready = one.routes is not None
            if one.project == project and (ready or not request.ready):
                for version in one.versions or ("",):
                    response.models.add(
                        name=one.endpoint,
                        version=version,
                        state="READY" if ready else "UNAVAILABLE",
                        reason=one.problem or "",
                    )

    def _load(self, project: str, request: Any, _response: Any) -> None:
        # What the routes name is loaded already; anything else must be put there first.
        self._arms(project, request.model_name, "")

    def _unload(self, project: str, request: Any, _response: Any) -> None:
        self._arms(project, request.model_name, "")
        raise Refused(
            f"endpoint {request.model_name!r}: what is served is decided by its routes; take it "
            "off them on the control plane (`mainspring endpoint`)"
        )

    def _arms(self, project: str, endpoint: str, version: str) -> list[str]:
        """Give the versions that answer, or the one that was asked for; raises NotFound."""
        route = self._engine.route(project, endpoint)
        found = [arm.version for arm in route.arms if arm.role != "shadow"]
        if version and version not in found:
            raise NotFound(
                f"endpoint {endpoint!r}: version {version[:60]!r} does not answer it now; those "
                f"that do: {', '.join(found)}"
            )
        return [version] if version else found

    def _endpoints(self, project: str) -> list[str]:
        endpoints = self._engine.status().endpoints
        return [o.endpoint for o in endpoints if o.project == project and o.routes is not None]


class _TurnedAway(Exception):
    """A caller whom the door does not let in."""


def told(error: Exception) -> Reply:
    """Give the reply that says what went wrong."""
    match error:
        case _TurnedAway():
            return Reply(PERMISSION_DENIED, told=str(error))
        case MainspringError():
            return Reply(_CODES.get(error.code, INTERNAL), told=str(error))
        case _:
            # The log has the trace; the caller need not.
            traceback.print_exception(error, file=sys.stderr)
            return Reply(INTERNAL, told="the worker failed on this request; its log says why")


def _live(_project: str, _request: Any, response: Any) -> None:
    response.live = True


def _server(_project: str, _request: Any, response: Any) -> None:
    response.name, response.version = "mainspring", installed("mainspring")
    response.extensions.extend(("statistics", "model_repository"))
