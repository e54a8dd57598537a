"""Experiments, and the datasets that their runs read."""

import re

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.server.mlflow.limits import check_key, check_length
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    Text,
    bounded,
    invalid,
    listed,
    offset_of,
    page_token,
    pairs,
)
from mainspring.tracking import experiments as tracked
from mainspring.tracking.limits import millis
from mainspring.tracking.search import Page, View

RESULTS_AT_MOST = 50_000
DATASETS_AT_MOST = 1000

_VIEWS: dict[str, View] = {
    "ACTIVE_ONLY": "active",
    "DELETED_ONLY": "deleted",
    "ALL": "all",
    "1": "active",
    "2": "deleted",
    "3": "all",
}


class Experiment(Message, frozen=True, kw_only=True):
    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int
    last_update_time: int
    tags: tuple[KeyValue, ...] = ()


class Create(Message, frozen=True, kw_only=True):
    name: Text
    artifact_location: str | None = None
    tags: tuple[KeyValue, ...] | None = None


class Created(Message, frozen=True, kw_only=True):
    experiment_id: str


class Named(Message, frozen=True, kw_only=True):
    experiment_id: Text


class ByName(Message, frozen=True, kw_only=True):
    experiment_name: Text


class One(Message, frozen=True, kw_only=True):
    experiment: Experiment


class Update(Message, frozen=True, kw_only=True):
    experiment_id: Text
    new_name: Text


class SetTag(Message, frozen=True, kw_only=True):
    experiment_id: Text
    key: Text
    value: str | None = ""


class DeleteTag(Message, frozen=True, kw_only=True):
    experiment_id: Text
    key: Text


class Search(Message, frozen=True, kw_only=True):
    view_type: str | int | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    filter: str | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    experiments: tuple[Experiment, ...] = ()
    next_page_token: str | None = None


class SearchDatasets(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None


class DatasetSummary(Message, frozen=True, kw_only=True):
    experiment_id: str
    name: str
    digest: str
    context: str | None = None


class DatasetsFound(Message, frozen=True, kw_only=True):
    dataset_summaries: tuple[DatasetSummary, ...] = ()


def view(asked: str | int | None) -> View:
    """Read which of active and deleted ones are asked for."""
    if asked is None or asked == "":
        return "active"
    if str(asked).upper() not in _VIEWS:
        raise invalid("view_type", asked)
    return _VIEWS[str(asked).upper()]


def create(call: Call, request: Create) -> Created:
    """Make an experiment."""
    check_length("name", request.name, tracked.NAME_LENGTH)
    for number, tag in enumerate(request.tags or ()):
        check_key(tag.key, f"tags[{number}].key")
    if re.search("[?#]", request.artifact_location or ""):
        raise InvalidInput("'artifact_location' URL can't include fragments or params.")
    tags = {key: value[: tracked.TAG_LENGTH] for key, value in pairs(request.tags).items()}
    made = call.project.tracking.experiments.create(
        request.name, location=request.artifact_location or None, tags=tags
    )
    return Created(experiment_id=made)


def get(call: Call, request: Named) -> One:
    """Give one by its id, deleted or not."""
    if not re.fullmatch("-?[0-9]+", request.experiment_id):
        raise InvalidInput(
            f"Invalid experiment ID '{request.experiment_id[:60]}'. Experiment ID must be a valid "
            "integer."
        )
    return One(experiment=_shown(call.project.tracking.experiments.get(request.experiment_id)))


def get_by_name(call: Call, request: ByName) -> One:
    """Give one by its name, deleted or not."""
    found = call.project.tracking.experiments.by_name(request.experiment_name)
    return One(experiment=_shown(found))


def delete(call: Call, request: Named) -> None:
    """Hide one with its runs."""
    call.project.tracking.experiments.delete(request.experiment_id)


def restore(call: Call, request: Named) -> None:
    """Bring one back with its runs."""
    call.project.tracking.experiments.restore(request.experiment_id)


def update(call: Call, request: Update) -> None:
    """Rename one."""
    check_length("name", request.new_name, tracked.NAME_LENGTH)
    call.project.tracking.experiments.rename(request.experiment_id, request.new_name)


def set_tag(call: Call, request: SetTag) -> None:
    """Set a tag."""
    check_key(request.key, "key")
    tags = {request.key: (request.value or "")[: tracked.TAG_LENGTH]}
    call.project.tracking.experiments.set_tags(request.experiment_id, tags)


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag."""
    call.project.tracking.experiments.delete_tag(request.experiment_id, request.key)


def search(call: Call, request: Search) -> Found:
    """Search experiments."""
    limit = bounded(request.max_results, 1000, 1, RESULTS_AT_MOST, "max_results")
    orders = request.order_by or ()
    asked = ["experiments", request.filter or "", orders, str(request.view_type)]
    offset = offset_of(request.page_token, asked)
    call.project.tracking.experiments.get(tracked.DEFAULT)
    found = call.project.tracking.reading.experiments(
        text=request.filter,
        orders=orders,
        view=view(request.view_type),
        page=Page(offset, limit + 1),
    )
    return Found(
        experiments=tuple(_shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def search_datasets(call: Call, request: SearchDatasets) -> DatasetsFound:
    """List the datasets that the runs of some experiments read."""
    ids = request.experiment_ids or ()
    if not ids:
        raise invalid("experiment_ids", list(ids), "At least one experiment ID is required.")
    found = call.project.tracking.reading.datasets(ids)[:DATASETS_AT_MOST]
    return DatasetsFound(
        dataset_summaries=tuple(
            DatasetSummary(experiment_id=experiment, name=name, digest=digest, context=context)
            for experiment, name, digest, context in found
        )
    )


def _shown(found: tracked.Experiment) -> Experiment:
    return Experiment(
        experiment_id=found.experiment,
        name=found.name,
        artifact_location=found.location,
        lifecycle_stage="active" if found.deleted is None else "deleted",
        creation_time=millis(found.created),
        last_update_time=millis(found.updated),
        tags=listed(found.tags),
    )


ENDPOINTS = (
    Endpoint("POST", "/experiments/create", WRITE, Create, create),
    Endpoint("GET", "/experiments/get", READ, Named, get),
    Endpoint("GET", "/experiments/get-by-name", READ, ByName, get_by_name),
    Endpoint("POST", "/experiments/delete", WRITE, Named, delete),
    Endpoint("POST", "/experiments/restore", WRITE, Named, restore),
    Endpoint("POST", "/experiments/update", WRITE, Update, update),
    Endpoint("POST", "/experiments/set-experiment-tag", WRITE, SetTag, set_tag),
    Endpoint("POST", "/experiments/delete-experiment-tag", WRITE, DeleteTag, delete_tag),
    Endpoint("POST", "/experiments/search", READ, Search, search),
    Endpoint("GET", "/experiments/search", READ, Search, search),
    Endpoint("POST", "/experiments/search-datasets", READ, SearchDatasets, search_datasets),
)
