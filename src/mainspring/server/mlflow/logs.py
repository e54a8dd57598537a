"""Logging to runs: metrics, parameters, tags, inputs and outputs. The hot path."""

from collections.abc import Sequence
from concurrent.futures import Future

import msgspec

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.server.mlflow.limits import (
    check_batch,
    check_batch_size,
    check_key,
    check_params,
    check_tags,
    plain_key,
)
from mainspring.server.mlflow.runs import Named
from mainspring.server.mlflow.shown import DatasetInput, ModelInput, ModelOutput
from mainspring.server.mlflow.table import WRITE, Endpoint, Sharing
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    Text,
    invalid,
    missing,
    pairs,
)
from mainspring.tracking.entries import Entry
from mainspring.tracking.inputs import DatasetUsed, Links, ModelLink
from mainspring.tracking.models import ModelMetric
from mainspring.tracking.run import Batch, Point

HISTORY_TAG = "mlflow.log-model.history"


class Measured(Message, frozen=True, kw_only=True):
    """One point of a metric."""

    key: Text
    value: float
    timestamp: Int64
    step: Int64 | None = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(Measured, frozen=True, kw_only=True):
    run_id: str | None = None
    run_uuid: str | None = None


class LogBatch(Named, frozen=True, kw_only=True):
    metrics: tuple[Measured, ...] | None = None
    params: tuple[KeyValue, ...] | None = None
    tags: tuple[KeyValue, ...] | None = None


class LogText(Named, frozen=True, kw_only=True):
    """A parameter or a tag."""

    key: Text
    value: str | None = ""


class DeleteTag(Named, frozen=True, kw_only=True):
    key: Text


class LogInputs(Named, frozen=True, kw_only=True):
    datasets: tuple[DatasetInput, ...] | None = None
    models: tuple[ModelInput, ...] | None = None


class LogOutputs(Named, frozen=True, kw_only=True):
    models: tuple[ModelOutput, ...] | None = None


class LogModel(Named, frozen=True, kw_only=True):
    model_json: Text


def log_metric(request: LogMetric) -> Entry:
    """Append one point to a metric's history."""
    run = Id(request.run_id or request.run_uuid or "")
    if not run:
        raise missing("run_id")
    point = _point(request)
    models = () if request.model_id is None else (_of_model(request, point),)
    return Entry(run, Batch(metrics=(point,)), models)


def log_batch(request: LogBatch) -> Entry:
    """Log many at once, all of it or nothing."""
    metrics, params, tags = request.metrics or (), request.params or (), request.tags or ()
    check_batch(len(metrics), len(params), len(tags))
    points = [_point(one, number) for number, one in enumerate(metrics)]
    batch = Batch(params=check_params(params), metrics=tuple(points), tags=check_tags(tags))
    models = tuple(
        _of_model(one, point)
        for one, point in zip(metrics, points, strict=True)
        if one.model_id is not None
    )
    return Entry(request.run, batch, models)


def log_parameter(request: LogText) -> Entry:
    """Write a parameter once."""
    pair = KeyValue(key=check_key(request.key, "key"), value=request.value)
    return Entry(request.run, Batch(params=check_params([pair])))


def set_tag(request: LogText) -> Entry:
    """Set a tag."""
    pair = KeyValue(key=check_key(request.key, "key"), value=request.value)
    return Entry(request.run, Batch(tags=check_tags([pair])))


def begin(call: Call, entries: Sequence[Entry]) -> Future[list[Exception | None]]:
    """Log what came at once."""
    return call.project.tracking.log_together(entries)


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag."""
    call.project.tracking.delete_tag(request.run, request.key)


def inputs(request: LogInputs) -> Links:
    """Read which datasets and models a run read."""
    datasets = [
        DatasetUsed(
            name=one.dataset.name,
            digest=one.dataset.digest,
            source_type=one.dataset.source_type,
            source=one.dataset.source,
            schema=one.dataset.schema,
            profile=one.dataset.profile,
            tags=pairs(one.tags),
        )
        for one in request.datasets or ()
    ]
    read = [ModelLink(one.model_id) for one in request.models or ()]
    return Links(request.run, datasets=datasets, read=read)


def log_inputs(call: Call, request: LogInputs) -> None:
    """Note the datasets and models that a run read."""
    call.project.tracking.link(inputs(request))


def outputs(request: LogOutputs) -> Links:
    """Read which models a run made."""
    made = [ModelLink(one.model_id, one.step or 0) for one in request.models or ()]
    return Links(request.run, made=made)


def log_outputs(call: Call, request: LogOutputs) -> None:
    """Note the models that a run made."""
    call.project.tracking.link(outputs(request))


def log_model(call: Call, request: LogModel) -> None:
    """Note a model in the way of old clients: a list of descriptions in a tag."""
    try:
        described = msgspec.json.decode(request.model_json, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"Malformed model info. The error is: {error}") from error
    needed = {"artifact_path", "flavors", "utc_time_created", "run_id"}
    if absent := sorted(needed - described.keys()):
        raise InvalidInput(f"Model json is missing mandatory fields: {absent}")
    found = call.project.tracking.found(request.run).tags.get(HISTORY_TAG, "[]")
    history = [*msgspec.json.decode(found, type=list[object]), described]
    tags = {HISTORY_TAG: msgspec.json.encode(history).decode()}
    call.project.tracking.log(request.run, Batch(tags=tags))


def _point(metric: Measured, number: int | None = None) -> Point:
    if not plain_key(metric.key) or metric.timestamp < 0:
        # The path is written for the one that is refused only: there are a thousand points.
        path = "" if number is None else f"metrics[{number}]."
        check_key(metric.key, f"{path}name")
        raise invalid(
            f"{path}timestamp",
            metric.timestamp,
            f"metric '{metric.key}' (value={metric.value}). Timestamp must be a nonnegative long "
            "(64-bit integer).",
        )
    return Point(metric.key, metric.value, metric.step or 0, metric.timestamp)


def _of_model(metric: Measured, point: Point) -> ModelMetric:
    return ModelMetric(
        model=metric.model_id or "",
        point=point,
        dataset_name=metric.dataset_name,
        dataset_digest=metric.dataset_digest,
    )


ENDPOINTS = (
    Sharing("POST", "/runs/log-metric", WRITE, LogMetric, log_metric, begin=begin),
    Sharing("POST", "/runs/log-batch", WRITE, LogBatch, log_batch, check_batch_size, begin=begin),
    Sharing("POST", "/runs/log-parameter", WRITE, LogText, log_parameter, begin=begin),
    Sharing("POST", "/runs/set-tag", WRITE, LogText, set_tag, begin=begin),
    Endpoint("POST", "/runs/delete-tag", WRITE, DeleteTag, delete_tag),
    Endpoint("POST", "/runs/log-inputs", WRITE, LogInputs, log_inputs),
    Endpoint("POST", "/runs/outputs", WRITE, LogOutputs, log_outputs),
    Endpoint("POST", "/runs/log-model", WRITE, LogModel, log_model),
)
