"""What subscribers are told of the registry, in the words of MLflow's webhooks."""

from typing import Any

from sqlalchemy import Connection

from mainspring.core.events import Aliased, Fact, ModelCreated, Registered
from mainspring.core.notices import Notice
from mainspring.registry.notes import MODEL_ITSELF, NO_NOTE, Key, notes_of, tags_of
from mainspring.registry.versions import Registry

PROMPT = "mlflow.prompt.is_prompt"
"""The tag of models and versions that are texts, not models."""


def notice_of(connection: Connection, fact: Fact) -> Notice | None:
    """Give what is told of a fact, inside the write that appends it."""
    project = fact.subject.project
    match fact.event:
        case ModelCreated(model):
            key = (model, MODEL_ITSELF)
            tags = tags_of(connection, project, [model]).get(key, {})
            note = notes_of(connection, project, [model]).get(key, NO_NOTE)
            kind = "prompt" if PROMPT in tags else "registered_model"
            content = {"name": model, "tags": tags, "description": note.description or None}
            return Notice(project, f"{kind}.created", content)
        case Registered() as event:
            return _version(connection, project, event)
        case Aliased(model, alias, version):
            kind = "prompt" if _is_prompt(connection, project, model) else "model_version"
            content = {"name": model, "alias": alias}
            if version is None:
                return Notice(project, f"{kind}_alias.deleted", content)
            return Notice(project, f"{kind}_alias.created", {**content, "version": version})
        case _:
            return None


def tell_of_tag(
    registry: Registry, connection: Connection, key: Key, action: str, content: dict[str, Any]
) -> None:
    """Tell of a tag that was set or deleted; of a model's own tags only those of prompts."""
    model, version = key
    prompt = _is_prompt(connection, registry.project, model)
    if version == MODEL_ITSELF:
        if prompt:
            notice = Notice(registry.project, f"prompt_tag.{action}", {"name": model, **content})
            registry.tell(connection, notice)
        return
    kind = "prompt_version_tag" if prompt else "model_version_tag"
    told = {"name": model, "version": version, **content}
    registry.tell(connection, Notice(registry.project, f"{kind}.{action}", told))


def _version(connection: Connection, project: str, event: Registered) -> Notice:
    key = (event.model, event.version)
    tags = tags_of(connection, project, [event.model]).get(key, {})
    note = notes_of(connection, project, [event.model]).get(key, NO_NOTE)
    content: dict[str, Any] = {
        "name": event.model,
        "version": event.version,
        "tags": tags,
        "description": note.description or None,
    }
    if PROMPT in tags:
        return Notice(project, "prompt_version.created", content)
    source = event.source or f"mlflow-artifacts:/manifests/{event.manifest}"
    content |= {"source": source, "run_id": event.run}
    return Notice(project, "model_version.created", content)


def _is_prompt(connection: Connection, project: str, model: str) -> bool:
    tags = tags_of(connection, project, [model])
    return any(PROMPT in each for each in tags.values())
