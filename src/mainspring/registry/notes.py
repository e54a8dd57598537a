"""What people note of models and versions: descriptions, tags and stages. All of it records."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import Connection, Table, delete, insert, select, update

from mainspring.registry.tables import MODEL_NOTE, MODEL_TAG

MODEL_ITSELF = ""
"""Stands where a version's number stands, for what is noted of the model."""

Stage = Literal["None", "Staging", "Production", "Archived"]


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted of a model or version, besides its tags."""

    description: str = ""
    stage: Stage = "None"
    run_link: str | None = None
    logged_model: str | None = None
    updated_ms: int = 0


NO_NOTE = Note()

Key = tuple[str, str]
"""A model and a version, or a model and MODEL_ITSELF."""


def set_note(connection: Connection, project: str, key: Key, values: Mapping[str, Any]) -> None:
    """Change some of a note; the rest of it stays."""
    mine = _of(MODEL_NOTE, project, key)
    if connection.execute(update(MODEL_NOTE).where(mine).values(**values)).rowcount == 0:
        row = {**msgspec.structs.asdict(NO_NOTE), **values}
        connection.execute(
            insert(MODEL_NOTE).values(project=project, model=key[0], version=key[1], **row)
        )


def set_model_tags(connection: Connection, project: str, key: Key, tags: Mapping[str, str]) -> None:
    """Set tags; the newest value stays."""
    for name, value in tags.items():
        mine = _of(MODEL_TAG, project, key) & (MODEL_TAG.c.key == name)
        if connection.execute(update(MODEL_TAG).where(mine).values(value=value)).rowcount == 0:
            row = {"project": project, "model": key[0], "version": key[1], "key": name}
            connection.execute(insert(MODEL_TAG).values(**row, value=value))


def delete_model_tag(connection: Connection, project: str, key: Key, name: str) -> None:
    """Remove a tag if it is there."""
    mine = _of(MODEL_TAG, project, key) & (MODEL_TAG.c.key == name)
    connection.execute(delete(MODEL_TAG).where(mine))


def forget(connection: Connection, project: str, model: str, version: str | None = None) -> None:
    """Remove what was noted of a version, or of a model and all its versions."""
    for table in (MODEL_NOTE, MODEL_TAG):
        mine = (table.c.project == project) & (table.c.model == model)
        if version is not None:
            mine &= table.c.version == version
        connection.execute(delete(table).where(mine))


def rename_notes(connection: Connection, project: str, model: str, name: str) -> None:
    """Let what was noted follow a model to its new name."""
    for table in (MODEL_NOTE, MODEL_TAG):
        mine = (table.c.project == project) & (table.c.model == model)
        connection.execute(update(table).where(mine).values(model=name))


def notes_of(connection: Connection, project: str, models: Sequence[str]) -> dict[Key, Note]:
    """Give the notes of models and all their versions."""
    mine = (MODEL_NOTE.c.project == project) & MODEL_NOTE.c.model.in_(models)
    return {
        (row.model, row.version): Note(
            description=row.description,
            stage=row.stage,
            run_link=row.run_link,
            logged_model=row.logged_model,
            updated_ms=row.updated_ms,
        )
        for row in connection.execute(select(MODEL_NOTE).where(mine))
    }


def tags_of(
    connection: Connection, project: str, models: Sequence[str]
) -> dict[Key, dict[str, str]]:
    """Give the tags of models and all their versions."""
    mine = (MODEL_TAG.c.project == project) & MODEL_TAG.c.model.in_(models)
    found: dict[Key, dict[str, str]] = {}
    for row in connection.execute(select(MODEL_TAG).where(mine).order_by(MODEL_TAG.c.key)):
        found.setdefault((row.model, row.version), {})[row.key] = row.value
    return found


def _of(table: Table, project: str, key: Key) -> Any:
    model, version = key
    return (table.c.project == project) & (table.c.model == model) & (table.c.version == version)
