"""Logged models of MLflow 3: made before their files, finalised after them."""

import secrets

from mainspring.api.verb import Call
from mainspring.server.mlflow.limits import check_params, check_tags
from mainspring.server.mlflow.shown import Metric
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    Text,
    bounded,
    invalid,
    listed,
    missing,
    number,
    offset_of,
    page_token,
)
from mainspring.tracking.limits import millis
from mainspring.tracking.models import ModelPoint, ModelStatus, TrackedModel
from mainspring.tracking.search import ModelOrder, Page

RESULTS_AT_MOST = 1000

_STATUS: dict[str, ModelStatus] = {
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "failed",
    "1": "pending",
    "2": "ready",
    "3": "failed",
}
_SHOWN: dict[ModelStatus, str] = {
    "pending": "LOGGED_MODEL_PENDING",
    "ready": "LOGGED_MODEL_READY",
    "failed": "LOGGED_MODEL_UPLOAD_FAILED",
}


class Info(Message, frozen=True, kw_only=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str | None = None
    source_run_id: str | None = None
    tags: tuple[KeyValue, ...] = ()


class Data(Message, frozen=True, kw_only=True):
    params: tuple[KeyValue, ...] = ()
    metrics: tuple[Metric, ...] = ()


class LoggedModel(Message, frozen=True, kw_only=True):
    info: Info
    data: Data


class One(Message, frozen=True, kw_only=True):
    model: LoggedModel


class Create(Message, frozen=True, kw_only=True):
    experiment_id: Text
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: tuple[KeyValue, ...] | None = None
    tags: tuple[KeyValue, ...] | None = None


class Named(Message, frozen=True, kw_only=True):
    """The id is in the path."""

    model_id: str = ""


class Finalize(Named, frozen=True, kw_only=True):
    status: str | int


class AddParams(Named, frozen=True, kw_only=True):
    params: tuple[KeyValue, ...] | None = None


class SetTags(Named, frozen=True, kw_only=True):
    tags: tuple[KeyValue, ...] | None = None


class DeleteTag(Named, frozen=True, kw_only=True):
    tag_key: str = ""


class OnDataset(Message, frozen=True, kw_only=True):
    dataset_name: Text
    dataset_digest: str | None = None


class OrderBy(Message, frozen=True, kw_only=True):
    field_name: Text
    ascending: bool | None = True
    dataset_name: str | None = None
    dataset_digest: str | None = None


class Search(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None
    filter: str | None = None
    datasets: tuple[OnDataset, ...] | None = None
    max_results: Int64 | None = None
    order_by: tuple[OrderBy, ...] | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    models: tuple[LoggedModel, ...] = ()
    next_page_token: str | None = None


def create(call: Call, request: Create) -> One:
    """Begin a model."""
    model = f"m-{secrets.token_hex(16)}"
    made = call.project.tracking.models.create(
        model,
        experiment=request.experiment_id,
        name=request.name or model,
        kind=request.model_type or None,
        run=request.source_run_id or None,
        params=check_params(request.params or ()),
        tags=check_tags(request.tags or ()),
    )
    return One(model=_shown(made))


def get(call: Call, request: Named) -> One:
    """Give a model that is not deleted."""
    return One(model=_shown(call.project.tracking.models.get(request.model_id)))


def finalize(call: Call, request: Finalize) -> One:
    """Say that the files are there, or will not come."""
    status = _STATUS.get(str(request.status))
    if status is None or status == "pending":
        raise invalid("status", request.status)
    return One(model=_shown(call.project.tracking.models.finalize(request.model_id, status)))


def delete(call: Call, request: Named) -> None:
    """Hide a model."""
    call.project.tracking.models.delete(request.model_id)


def add_params(call: Call, request: AddParams) -> None:
    """Write parameters once."""
    params = check_params(request.params or ())
    call.project.tracking.models.add_params(request.model_id, params)


def set_tags(call: Call, request: SetTags) -> One:
    """Set tags."""
    call.project.tracking.models.set_tags(request.model_id, check_tags(request.tags or ()))
    return get(call, request)


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag."""
    call.project.tracking.models.delete_tag(request.model_id, request.tag_key)


def search(call: Call, request: Search) -> Found:
    """Search models."""
    limit = bounded(request.max_results, 50, 1, RESULTS_AT_MOST, "max_results")
    experiments = request.experiment_ids or ()
    if not experiments:
        raise missing("experiment_ids")
    orders = request.order_by or ()
    asked = ["models", request.filter or "", experiments, request.datasets, orders]
    offset = offset_of(request.page_token, asked)
    found = call.project.tracking.reading.models(
        experiments,
        text=request.filter,
        datasets=[(one.dataset_name, one.dataset_digest) for one in request.datasets or ()],
        orders=[
            ModelOrder(
                one.field_name, one.ascending is not False, one.dataset_name, one.dataset_digest
            )
            for one in orders
        ],
        page=Page(offset, limit + 1),
    )
    return Found(
        models=tuple(_shown(model) for model in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def _shown(model: TrackedModel) -> LoggedModel:
    return LoggedModel(
        info=Info(
            model_id=model.model,
            experiment_id=model.experiment,
            name=model.name,
            creation_timestamp_ms=millis(model.created),
            last_updated_timestamp_ms=millis(model.updated),
            artifact_uri=model.location,
            status=_SHOWN[model.status],
            model_type=model.kind,
            source_run_id=model.run,
            tags=listed(model.tags),
        ),
        data=Data(
            params=listed(model.params),
            metrics=tuple(_metric(model.model, one) for one in model.metrics),
        ),
    )


def _metric(model: str, noted: ModelPoint) -> Metric:
    return Metric(
        key=noted.point.key,
        value=number(noted.point.value),
        timestamp=noted.point.at_ms,
        step=noted.point.step,
        run_id=noted.run,
        model_id=model,
        dataset_name=noted.dataset_name,
        dataset_digest=noted.dataset_digest,
    )


ENDPOINTS = (
    Endpoint("POST", "/logged-models", WRITE, Create, create),
    Endpoint("POST", "/logged-models/search", READ, Search, search),
    Endpoint("GET", "/logged-models/{model_id}", READ, Named, get),
    Endpoint("PATCH", "/logged-models/{model_id}", WRITE, Finalize, finalize),
    Endpoint("DELETE", "/logged-models/{model_id}", WRITE, Named, delete),
    Endpoint("POST", "/logged-models/{model_id}/params", WRITE, AddParams, add_params),
    Endpoint("PATCH", "/logged-models/{model_id}/tags", WRITE, SetTags, set_tags),
    Endpoint(
        "DELETE", "/logged-models/{model_id}/tags/{tag_key:path}", WRITE, DeleteTag, delete_tag
    ),
)
