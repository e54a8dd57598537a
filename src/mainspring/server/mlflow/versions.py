"""Model versions."""

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.registry.notes import Note
from mainspring.registry.search import PROMPT, Page
from mainspring.server.mlflow.limits import check_length, check_registry_tags
from mainspring.server.mlflow.registered import (
    DESCRIPTION_LENGTH,
    OneVersion,
    Search,
    Versions,
    catalog,
    checked_stage,
    checked_version,
    shown_version,
)
from mainspring.server.mlflow.sources import Source, download_uri, read_source
from mainspring.server.mlflow.table import MODEL_READ, MODEL_WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    KeyValue,
    Message,
    Text,
    bounded,
    offset_of,
    page_token,
    pairs,
)

RESULTS_AT_MOST = 200_000
SOURCE_LENGTH = 500


class Create(Message, frozen=True, kw_only=True):
    name: Text
    source: Text
    run_id: str | None = None
    tags: tuple[KeyValue, ...] | None = None
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class Named(Message, frozen=True, kw_only=True):
    name: Text
    version: Text | int

    @property
    def number(self) -> str:
        """The version's number as text."""
        return checked_version(str(self.version))


class Describe(Named, frozen=True, kw_only=True):
    description: str | None = None


class SetTag(Named, frozen=True, kw_only=True):
    key: Text
    value: str | None = ""


class DeleteTag(Named, frozen=True, kw_only=True):
    key: Text


class Transition(Named, frozen=True, kw_only=True):
    stage: Text
    archive_existing_versions: bool | None = False


class DownloadUri(Message, frozen=True, kw_only=True):
    artifact_uri: str


def create(call: Call, request: Create) -> OneVersion:
    """Make logged files the next version of a model."""
    check_registry_tags(request.tags or ())
    check_length("source", request.source, SOURCE_LENGTH)
    check_length("description", request.description, DESCRIPTION_LENGTH)
    catalog(call).get(request.name)
    tags = pairs(request.tags)
    run = Id(request.run_id) if request.run_id else None
    if run is not None:
        call.project.tracking.found(run)
    # A prompt is a text in a tag: its source names nothing.
    source = Source({}) if PROMPT in tags else read_source(call, request.source, run)
    logged = request.model_id or source.logged_model
    if logged is not None and PROMPT not in tags:
        made_by = call.project.tracking.models.get(logged).run
        run = run or (None if made_by is None else Id(made_by))
    made = catalog(call).add_version(
        request.name,
        files=source.files,
        source=request.source,
        run=run,
        note=Note(
            description=request.description or "",
            run_link=request.run_link,
            logged_model=logged,
        ),
        tags=tags,
        actor=call.actor,
    )
    return OneVersion(model_version=shown_version(made))


def get(call: Call, request: Named) -> OneVersion:
    """Give a version."""
    found = catalog(call).version(request.name, request.number)
    return OneVersion(model_version=shown_version(found))


def describe(call: Call, request: Describe) -> OneVersion:
    """Set a description."""
    check_length("description", request.description, DESCRIPTION_LENGTH)
    catalog(call).describe((request.name, request.number), request.description or "")
    return get(call, request)


def delete(call: Call, request: Named) -> None:
    """Delete a version and the aliases that point to it."""
    catalog(call).delete_version(request.name, request.number, actor=call.actor)


def set_tag(call: Call, request: SetTag) -> None:
    """Set a tag."""
    check_registry_tags([KeyValue(key=request.key, value=request.value)])
    catalog(call).set_tag((request.name, request.number), request.key, request.value or "")


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag if it is there."""
    catalog(call).delete_tag((request.name, request.number), request.key)


def transition(call: Call, request: Transition) -> OneVersion:
    """Move a version to a stage."""
    stage = checked_stage(request.stage)
    archive = request.archive_existing_versions is True
    if archive and stage not in ("Staging", "Production"):
        raise InvalidInput(
            "Model version transition cannot archive existing model versions because "
            f"'{stage}' is not an Active stage. Valid stages are Staging, Production"
        )
    moved = catalog(call).transition(request.name, request.number, stage, archive=archive)
    return OneVersion(model_version=shown_version(moved))


def search(call: Call, request: Search) -> Versions:
    """Search versions."""
    limit = bounded(request.max_results, 10_000, 1, RESULTS_AT_MOST, "max_results")
    orders = request.order_by or ()
    asked = ["versions", request.filter or "", orders]
    offset = offset_of(request.page_token, asked)
    found = catalog(call).search_versions(
        text=request.filter, orders=orders, page=Page(offset, limit + 1)
    )
    return Versions(
        model_versions=tuple(shown_version(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def get_download_uri(call: Call, request: Named) -> DownloadUri:
    """Say where the client reads a version's files."""
    found = catalog(call).version(request.name, request.number)
    return DownloadUri(artifact_uri=download_uri(call, found.version))


ENDPOINTS = (
    Endpoint("POST", "/model-versions/create", MODEL_WRITE, Create, create),
    Endpoint("GET", "/model-versions/get", MODEL_READ, Named, get),
    Endpoint("PATCH", "/model-versions/update", MODEL_WRITE, Describe, describe),
    Endpoint("DELETE", "/model-versions/delete", MODEL_WRITE, Named, delete),
    Endpoint("POST", "/model-versions/set-tag", MODEL_WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/model-versions/delete-tag", MODEL_WRITE, DeleteTag, delete_tag),
    Endpoint("POST", "/model-versions/transition-stage", MODEL_WRITE, Transition, transition),
    Endpoint("GET", "/model-versions/search", MODEL_READ, Search, search),
    Endpoint("GET", "/model-versions/get-download-uri", MODEL_READ, Named, get_download_uri),
)
