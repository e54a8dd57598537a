"""Registered models and their aliases."""

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.registry.catalog import Catalog, Model, Version
from mainspring.registry.notes import MODEL_ITSELF, Stage
from mainspring.registry.search import Page
from mainspring.registry.tables import micros
from mainspring.server.mlflow.limits import check_alias, check_length, check_registry_tags
from mainspring.server.mlflow.sources import readable_at
from mainspring.server.mlflow.table import MODEL_ALIAS, MODEL_READ, MODEL_WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    KeyValue,
    Message,
    Text,
    bounded,
    listed,
    offset_of,
    page_token,
    pairs,
)

RESULTS_AT_MOST = 1000
LATEST = "latest"
DESCRIPTION_LENGTH = 100_000

_STAGES: dict[str, Stage] = {
    "none": "None",
    "staging": "Staging",
    "production": "Production",
    "archived": "Archived",
}


class ShownAlias(Message, frozen=True, kw_only=True):
    alias: str
    version: str


class ModelVersion(Message, frozen=True, kw_only=True):
    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: str
    description: str
    source: str
    run_id: str
    run_link: str
    status: str
    tags: tuple[KeyValue, ...] = ()
    aliases: tuple[str, ...] = ()
    model_id: str | None = None


class RegisteredModel(Message, frozen=True, kw_only=True):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: tuple[ModelVersion, ...] = ()
    tags: tuple[KeyValue, ...] = ()
    aliases: tuple[ShownAlias, ...] = ()


class One(Message, frozen=True, kw_only=True):
    registered_model: RegisteredModel


class OneVersion(Message, frozen=True, kw_only=True):
    model_version: ModelVersion


class Create(Message, frozen=True, kw_only=True):
    name: Text
    description: str | None = None
    tags: tuple[KeyValue, ...] | None = None


class Named(Message, frozen=True, kw_only=True):
    name: Text


class Rename(Named, frozen=True, kw_only=True):
    new_name: Text


class Describe(Named, frozen=True, kw_only=True):
    description: str | None = None


class SetTag(Named, frozen=True, kw_only=True):
    key: Text
    value: str | None = ""


class DeleteTag(Named, frozen=True, kw_only=True):
    key: Text


class Alias(Named, frozen=True, kw_only=True):
    alias: Text


class SetAlias(Alias, frozen=True, kw_only=True):
    version: Text


class Latest(Named, frozen=True, kw_only=True):
    stages: tuple[str, ...] | None = None


class Versions(Message, frozen=True, kw_only=True):
    model_versions: tuple[ModelVersion, ...] = ()
    next_page_token: str | None = None


class Search(Message, frozen=True, kw_only=True):
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    registered_models: tuple[RegisteredModel, ...] = ()
    next_page_token: str | None = None


def catalog(call: Call) -> Catalog:
    """Give the project's catalogue."""
    return Catalog(call.project.stages.registry, call.platform.clock)


def create(call: Call, request: Create) -> One:
    """Take a model's name."""
    check_registry_tags(request.tags or ())
    check_length("description", request.description, DESCRIPTION_LENGTH)
    made = catalog(call).create(
        request.name,
        description=request.description or "",
        tags=pairs(request.tags),
        actor=call.actor,
    )
    return One(registered_model=shown_model(made))


def get(call: Call, request: Named) -> One:
    """Give a model."""
    return One(registered_model=shown_model(catalog(call).get(request.name)))


def rename(call: Call, request: Rename) -> One:
    """Give a model another name; its own changes nothing."""
    if request.new_name == request.name:
        return get(call, request)
    renamed = catalog(call).rename(request.name, request.new_name, actor=call.actor)
    return One(registered_model=shown_model(renamed))


def describe(call: Call, request: Describe) -> One:
    """Set a description."""
    check_length("description", request.description, DESCRIPTION_LENGTH)
    catalog(call).describe((request.name, MODEL_ITSELF), request.description or "")
    return get(call, request)


def delete(call: Call, request: Named) -> None:
    """Delete a model with its versions."""
    catalog(call).delete(request.name, actor=call.actor)


def set_tag(call: Call, request: SetTag) -> None:
    """Set a tag."""
    check_registry_tags([KeyValue(key=request.key, value=request.value)])
    catalog(call).set_tag((request.name, MODEL_ITSELF), request.key, request.value or "")


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag if it is there."""
    catalog(call).delete_tag((request.name, MODEL_ITSELF), request.key)


def search(call: Call, request: Search) -> Found:
    """Search models."""
    limit = bounded(request.max_results, 100, 1, RESULTS_AT_MOST, "max_results")
    orders = request.order_by or ()
    asked = ["registered", request.filter or "", orders]
    offset = offset_of(request.page_token, asked)
    found = catalog(call).search(text=request.filter, orders=orders, page=Page(offset, limit + 1))
    return Found(
        registered_models=tuple(shown_model(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def latest(call: Call, request: Latest) -> Versions:
    """Give the newest version of each stage asked for, or of all."""
    for stage in request.stages or ():
        checked_stage(stage)
    wanted = {stage.lower() for stage in request.stages or ()}
    found = catalog(call).get(request.name).latest
    return Versions(
        model_versions=tuple(
            shown_version(one) for one in found if not wanted or one.note.stage.lower() in wanted
        )
    )


def set_alias(call: Call, request: SetAlias) -> None:
    """Point an alias to a version, wherever it pointed before."""
    check_alias(request.alias)
    version = catalog(call).version(request.name, request.version).version
    call.project.stages.registry.set_alias(
        request.name, request.alias, version.version, actor=call.actor
    )


def get_alias(call: Call, request: Alias) -> OneVersion:
    """Give the version that an alias points to; an unknown one is invalid, not missing.

    Nobody can set `latest`: it is the newest version.
    """
    found = catalog(call).get(request.name)
    version = found.aliases.get(request.alias)
    if request.alias.lower() == LATEST:
        if not found.latest:
            raise NotFound(f"Latest version not found for model {request.name}.")
        version = max((one.version.version for one in found.latest), key=int)
    if version is None:
        raise InvalidInput(f"Registered model alias {request.alias[:255]} not found.")
    return OneVersion(model_version=shown_version(catalog(call).version(request.name, version)))


def delete_alias(call: Call, request: Alias) -> None:
    """Remove an alias if it is there."""
    if request.alias in catalog(call).get(request.name).aliases:
        call.project.stages.registry.set_alias(request.name, request.alias, None, actor=call.actor)


def shown_model(model: Model) -> RegisteredModel:
    """Show a model."""
    return RegisteredModel(
        name=model.name,
        creation_timestamp=micros(model.created) // 1000,
        last_updated_timestamp=micros(model.updated) // 1000,
        description=model.description,
        latest_versions=tuple(shown_version(one) for one in model.latest),
        tags=listed(model.tags),
        aliases=tuple(
            ShownAlias(alias=alias, version=version) for alias, version in model.aliases.items()
        ),
    )


def shown_version(found: Version) -> ModelVersion:
    """Show a version."""
    version, note = found.version, found.note
    registered_ms = micros(version.registered) // 1000
    return ModelVersion(
        name=version.model,
        version=version.version,
        creation_timestamp=registered_ms,
        last_updated_timestamp=max(registered_ms, note.updated_ms),
        current_stage=note.stage,
        description=note.description,
        source=version.source or readable_at(version),
        run_id=version.run or "",
        run_link=note.run_link or "",
        status="READY",
        tags=listed(found.tags),
        aliases=found.aliases,
        model_id=note.logged_model,
    )


def checked_version(version: str) -> str:
    """Return a version's number; what is no number is no version."""
    if not version.isascii() or not version.isdigit():
        raise InvalidInput(f"Parameter 'version' must be an integer, got '{version[:40]}'.")
    if len(version) > 18:
        raise NotFound(f"Model Version (version={version[:40]}) not found")
    return version


def checked_stage(stage: str) -> Stage:
    """Return a stage by its name in either case."""
    found = _STAGES.get(stage.lower())
    if found is None:
        raise InvalidInput(
            f"Invalid Model Version stage: {stage[:40]}. Value must be one of None, Staging, "
            "Production, Archived."
        )
    return found


ENDPOINTS = (
    Endpoint("POST", "/registered-models/create", MODEL_WRITE, Create, create),
    Endpoint("GET", "/registered-models/get", MODEL_READ, Named, get),
    Endpoint("POST", "/registered-models/rename", MODEL_WRITE, Rename, rename),
    Endpoint("PATCH", "/registered-models/update", MODEL_WRITE, Describe, describe),
    Endpoint("DELETE", "/registered-models/delete", MODEL_WRITE, Named, delete),
    Endpoint("POST", "/registered-models/set-tag", MODEL_WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/registered-models/delete-tag", MODEL_WRITE, DeleteTag, delete_tag),
    Endpoint("GET", "/registered-models/search", MODEL_READ, Search, search),
    Endpoint("POST", "/registered-models/get-latest-versions", MODEL_READ, Latest, latest),
    Endpoint("GET", "/registered-models/get-latest-versions", MODEL_READ, Latest, latest),
    Endpoint("POST", "/registered-models/alias", MODEL_ALIAS, SetAlias, set_alias),
    Endpoint("GET", "/registered-models/alias", MODEL_READ, Alias, get_alias),
    Endpoint("DELETE", "/registered-models/alias", MODEL_ALIAS, Alias, delete_alias),
)
