"""Predictions by the REST protocols that send rows: TF Serving, KServe V1, MLflow's scoring."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from math import isfinite
from typing import Any
from urllib.parse import parse_qs

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, MainspringError, NotFound
from mainspring.core.ids import IdSource
from mainspring.formats.routes import EndpointRoute
from mainspring.serving.app import Asked
from mainspring.serving.asking import EVENT_TIME, KEY, keys_of, micros_of, times_of
from mainspring.serving.bodies import FORMS, Form, RowsSent, read_csv, read_json
from mainspring.serving.choice import Choice
from mainspring.serving.engine import Engine
from mainspring.serving.http import TEXT, Response, failed
from mainspring.serving.replay import Answer
from mainspring.serving.sent import sent_rows
from mainspring.serving.tensors import DATATYPES
from mainspring.serving.turn import Understood, answered
from mainspring.serving.vectors import Rows

PREDICT = ":predict"
_OUTPUT = "score"
_V1: tuple[Form, ...] = ("instances", "inputs")
_TF_TYPES = {"BYTES": "DT_STRING", "FP64": "DT_DOUBLE", "INT64": "DT_INT64", "BOOL": "DT_BOOL"}
_MLFLOW_CODES = {400: "BAD_REQUEST", 404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE"}


Answered = tuple[str, Response | Exception]
"""An endpoint and what it answered; the endpoint is empty where none was found."""


@dataclass(frozen=True, slots=True)
class _Read:
    understood: Understood
    field: str
    """Under which the answer has its values."""


class RowProtocols:
    """Answers out of one engine. Predictions are answered a turn at a time, as those of V2."""

    def __init__(self, engine: Engine, *, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

    # --- predictions

    def predict(self, asked: Sequence[Asked], *, started_s: float) -> list[Answered]:
        """Answer `POST /v1/models/<endpoint>:predict`, also with a version or a label."""
        return self._together(asked, self._read_v1, started_s)

    def invocations(self, asked: Sequence[Asked], *, started_s: float) -> list[Answered]:
        """Answer `POST /invocations`, with errors as MLflow's scoring server tells them."""
        found = self._together(asked, self._read_scoring, started_s)
        return [(endpoint, _told(one)) for endpoint, one in found]

    def _together(
        self, asked: Sequence[Asked], read: Callable[[Asked], _Read], started_s: float
    ) -> list[Answered]:
        requests: list[_Read | MainspringError] = []
        for one in asked:
            try:
                requests.append(read(one))
            except MainspringError as error:
                requests.append(error)
        rows = [one.understood if isinstance(one, _Read) else one for one in requests]
        answers = answered(self._engine, rows, started_s=started_s)
        return [
            _told_of(request, answer) for request, answer in zip(requests, answers, strict=True)
        ]

    def _read_v1(self, asked: Asked) -> _Read:
        choice = self._choice(asked)
        found = read_json(asked.request.body, choice.route.request, _V1)
        # What comes column by column is answered so.
        return self._rows(choice, found, "outputs" if found.form == "inputs" else "predictions")

    def _read_scoring(self, asked: Asked) -> _Read:
        endpoint = asked.endpoint or self._only_endpoint(asked)
        choice = self._engine.choice(asked.project, endpoint, None)
        columns, body = choice.route.request, asked.request.body
        kind = asked.request.headers.get("content-type", "application/json")
        match kind.partition(";")[0].strip().lower():
            case "application/json":
                return self._rows(choice, read_json(body, columns, FORMS))
            case "text/csv":
                return self._rows(choice, read_csv(body, columns))
            case other:
                raise InvalidInput(
                    f"content type {other[:60]!r}: expected application/json or text/csv"
                )

    def _rows(self, choice: Choice, found: RowsSent, field: str = "predictions") -> _Read:
        columns = dict(found.columns)
        keys = keys_of(columns.pop(KEY, None), None, found.rows)
        times = times_of(columns.pop(EVENT_TIME, None), None, found.rows)
        rows = Rows(
            keys or [self._ids.new() for _ in range(found.rows)],
            times or [micros_of(self._clock.now())] * found.rows,
            columns,
            keys_given=keys is not None,
            times_given=times is not None,
        )
        sent = sent_rows(rows, choice.route.request, subject=choice.subject, version=choice.version)
        return _Read(Understood(choice, sent), field)

    def _choice(self, asked: Asked) -> Choice:
        endpoint, version = _named(asked, PREDICT)
        if version is not None and "/labels/" in asked.request.target:
            version = _labelled(self._engine.route(asked.project, endpoint), version)
        return self._engine.choice(asked.project, endpoint, version)

    def _only_endpoint(self, asked: Asked) -> str:
        """Give the endpoint that a path without one means: the one that is named, or the only."""
        query = parse_qs(asked.request.target.partition("?")[2])
        named = query.get("endpoint", [asked.request.headers.get("x-mainspring-endpoint", "")])[0]
        if named:
            return named
        found = self._endpoints(asked.project)
        if len(found) != 1:
            raise NotFound(
                f"/invocations: found {len(found)} endpoints ({', '.join(found[:10]) or 'none'}); "
                "post to /endpoints/<endpoint>/invocations"
            )
        return found[0]

    # --- what is there

    def models(self, asked: Asked) -> Response:
        """List the endpoints, as KServe V1 does."""
        return _json({"models": self._endpoints(asked.project)})

    def model(self, asked: Asked) -> Response:
        """Say which versions answer: TF Serving's states, and KServe's `name` and `ready`."""
        route = self._engine.route(asked.project, asked.endpoint)
        version = asked.version
        if version is not None and "/labels/" in asked.request.target:
            version = _labelled(route, version)
        states = [
            {
                "version": arm.version,
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
            for arm in route.arms
            if arm.role != "shadow" and version in (None, arm.version)
        ]
        if not states:
            raise NotFound(f"endpoint {asked.endpoint!r}: no version {version!r} answers it now")
        return _json({"name": asked.endpoint, "ready": True, "model_version_status": states})

    def metadata(self, asked: Asked) -> Response:
        """Describe inputs and output, as TF Serving does."""
        route = self._engine.route(asked.project, asked.endpoint)
        inputs = {column.name: _tensor(DATATYPES[column.type]) for column in route.request}
        signature = {
            "inputs": inputs,
            "outputs": {_OUTPUT: _tensor("FP64")},
            "method_name": "tensorflow/serving/predict",
        }
        return _json(
            {
                "model_spec": {
                    "name": asked.endpoint,
                    "signature_name": "",
                    "version": route.arms[-1].version,
                },
                "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
            }
        )

    def ping(self, asked: Asked) -> Response:
        """Answer as MLflow's scoring server does when it is ready."""
        ready = bool(self._endpoints(asked.project))
        return Response(200, b"\n", TEXT) if ready else failed(404, "no endpoint is served yet")

    def version(self, _: Asked) -> Response:
        """Say which version of Mainspring this is."""
        return Response(200, installed("mainspring").encode(), TEXT)

    def _endpoints(self, project: str) -> list[str]:
        status = self._engine.status()
        return sorted(
            one.endpoint
            for one in status.endpoints
            if one.project == project and one.routes is not None
        )


def _told_of(request: _Read | MainspringError, answer: Answer | Exception) -> Answered:
    if not isinstance(request, _Read):
        return "", request
    endpoint = request.understood.choice.route.endpoint
    return endpoint, _shown(answer, request.field) if isinstance(answer, Answer) else answer


def _named(asked: Asked, ending: str) -> tuple[str, str | None]:
    """Give endpoint and version of a path whose last part ends with what is to be done."""
    last = asked.endpoint if asked.version is None else asked.version
    if not last.endswith(ending):
        raise NotFound(f"path: found {last[-60:]!r}, expected it to end with {ending}")
    if asked.version is None:
        return asked.endpoint.removesuffix(ending), None
    return asked.endpoint, asked.version.removesuffix(ending)


def _labelled(route: EndpointRoute, label: str) -> str:
    """Give the version of a label: an arm's role."""
    for arm in route.arms:
        if arm.role == label and arm.role != "shadow":
            return arm.version
    raise NotFound(f"endpoint {route.endpoint!r}: no label {label[:40]!r}; expected live or canary")


def _shown(answer: Answer, field: str) -> Response:
    """Make the answer: predictions, and beside them who gave them."""
    if len(answer.errors) == len(answer.outputs):
        reasons = "; ".join(f"row {i}: {why}" for i, why in list(answer.errors.items())[:10])
        return failed(500, f"no version could score it; {reasons}")
    values = [value if isfinite(value) else None for value in answer.outputs]
    about: dict[str, Any] = {
        "prediction_id": answer.prediction,
        "versions": _one_or_all(answer.versions),
        "arms": _one_or_all(answer.arms),
    }
    if answer.errors:
        about["failed_rows"] = {str(i): why for i, why in list(answer.errors.items())[:10]}
    return _json({field: values, "mainspring": about})


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if values.count(values[0]) == len(values) else values


def _told(given: Response | Exception) -> Response | Exception:
    """Tell an error as MLflow's scoring server does; those of the door stay as they are."""
    if not isinstance(given, MainspringError):
        return given
    error = given
    status = {"not_found": 404, "unavailable": 503}.get(error.code)
    if isinstance(error, InvalidInput) or error.code == "schema_mismatch":
        status = 400
    if status is None:
        return given
    told = {"error_code": _MLFLOW_CODES[status], "message": str(error)}
    return Response(status, msgspec.json.encode(told))


def _tensor(datatype: str) -> dict[str, Any]:
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    return {"dtype": _TF_TYPES[datatype], "tensor_shape": shape, "name": ""}


def _json(value: Any) -> Response:
    return Response(200, msgspec.json.encode(value))
