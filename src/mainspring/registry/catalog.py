"""The catalogue: models as clients of the tracking protocol see them, named before any version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from mainspring.core.clock import Clock
from mainspring.core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from mainspring.core.events import (
    AnyEvent,
    ModelCreated,
    ModelDeleted,
    ModelRenamed,
    VersionDeleted,
)
from mainspring.core.ids import Digest, Id
from mainspring.registry.notes import (
    MODEL_ITSELF,
    NO_NOTE,
    Key,
    Note,
    Stage,
    delete_model_tag,
    forget,
    notes_of,
    rename_notes,
    set_model_tags,
    set_note,
    tags_of,
)
from mainspring.registry.notices import tell_of_tag
from mainspring.registry.search import Page, search_models, search_versions
from mainspring.registry.tables import ALIAS, MODEL, MODEL_VERSION, instant, micros
from mainspring.registry.versions import ModelVersion, Registry, version_of
from mainspring.store.ledger import Draft

NAME_LENGTH = 256


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A version with what was noted of it."""

    version: ModelVersion
    note: Note
    tags: dict[str, str]
    aliases: tuple[str, ...]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model with what was noted of it, and the newest version of each stage."""

    name: str
    created: datetime
    updated: datetime
    description: str
    tags: dict[str, str]
    aliases: dict[str, str]
    latest: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The verbs of the catalogue in one project."""

    registry: Registry
    clock: Clock

    # --- models

    def create(self, name: str, *, description: str, tags: Mapping[str, str], actor: str) -> Model:
        """Take a model's name.

        Raises:
            AlreadyExists: It is taken.
            InvalidInput: It is no name.
        """
        checked_model(name)
        key = (name, MODEL_ITSELF)

        def also(connection: Connection) -> None:
            self._free(connection, name)
            if description:
                values = {"description": description, "updated_ms": self._now_ms()}
                set_note(connection, self._project, key, values)
            set_model_tags(connection, self._project, key, tags)

        self._append(name, ModelCreated(model=name), actor, also)
        return self.get(name)

    def rename(self, name: str, new_name: str, *, actor: str) -> Model:
        """Give a model another name; versions, aliases and notes follow.

        Raises:
            Refused: A version of it can serve: its endpoint has its name.
        """
        checked_model(new_name)

        def also(connection: Connection) -> None:
            self._removable(connection, name)
            self._free(connection, new_name)
            rename_notes(connection, self._project, name, new_name)

        self._append(name, ModelRenamed(model=name, name=new_name), actor, also)
        return self.get(new_name)

    def delete(self, name: str, *, actor: str) -> None:
        """Delete a model with its versions; Refused when one of them can serve."""

        def also(connection: Connection) -> None:
            self._removable(connection, name)
            forget(connection, self._project, name)

        self._append(name, ModelDeleted(model=name), actor, also)

    def get(self, name: str) -> Model:
        """Give a model."""
        with self.registry.database.read() as connection:
            return self._models(connection, [self._existing(connection, name)])[0]

    def search(self, *, text: str | None, orders: Sequence[str], page: Page) -> list[Model]:
        """Search models, by name unless ordered otherwise."""
        with self.registry.database.read() as connection:
            rows = search_models(connection, self._project, text=text, orders=orders, page=page)
            return self._models(connection, rows)

    # --- versions

    def add_version(
        self,
        name: str,
        *,
        files: Mapping[str, Digest],
        source: str,
        run: Id | None,
        note: Note,
        tags: Mapping[str, str],
        actor: str,
    ) -> Version:
        """Make logged files the next version of a model, opaque."""

        def also(connection: Connection, version: str) -> None:
            self._existing(connection, name)
            values = {**msgspec.structs.asdict(note), "updated_ms": self._now_ms()}
            set_note(connection, self._project, (name, version), values)
            set_model_tags(connection, self._project, (name, version), tags)

        made = self.registry.register_opaque(
            model=name, files=files, source=source, run=run, actor=actor, also=also
        )
        return self.version(name, made.version)

    def version(self, name: str, version: str) -> Version:
        """Give a version."""
        with self.registry.database.read() as connection:
            return self._versions(connection, [self._version_row(connection, name, version)])[0]

    def search_versions(
        self, *, text: str | None, orders: Sequence[str], page: Page
    ) -> list[Version]:
        """Search versions, newest first unless ordered otherwise."""
        with self.registry.database.read() as connection:
            rows = search_versions(connection, self._project, text=text, orders=orders, page=page)
            return self._versions(connection, rows)

    def delete_version(self, name: str, version: str, *, actor: str) -> None:
        """Delete a version and the aliases that point to it; Refused when it can serve."""

        def also(connection: Connection) -> None:
            row = self._version_row(connection, name, version)
            if not row.opaque:
                raise _serving(f"version {version} of model {name!r}")
            forget(connection, self._project, name, version)

        self._append(name, VersionDeleted(model=name, version=version), actor, also)

    def transition(self, name: str, version: str, stage: Stage, *, archive: bool) -> Version:
        """Move a version to a stage.

        Args:
            archive: Move the versions that were in it to Archived.
        """
        now_ms = self._now_ms()

        def work(connection: Connection) -> None:
            self._version_row(connection, name, version)
            if archive:
                for key, note in notes_of(connection, self._project, [name]).items():
                    if note.stage == stage and key[1] not in (MODEL_ITSELF, version):
                        values = {"stage": "Archived", "updated_ms": now_ms}
                        set_note(connection, self._project, key, values)
            values = {"stage": stage, "updated_ms": now_ms}
            set_note(connection, self._project, (name, version), values)
            set_note(connection, self._project, (name, MODEL_ITSELF), {"updated_ms": now_ms})

        self.registry.database.write(work)
        return self.version(name, version)

    # --- notes of either; without a version of the model itself

    def describe(self, key: Key, description: str) -> None:
        """Set a description."""
        values = {"description": description, "updated_ms": self._now_ms()}
        self._note(key, partial(_set_note, self._project, key, values))

    def set_tag(self, key: Key, name: str, value: str) -> None:
        """Set a tag."""

        def write(connection: Connection) -> None:
            set_model_tags(connection, self._project, key, {name: value})
            content = {"key": name, "value": value}
            tell_of_tag(self.registry, connection, key, "set", content)

        self._note(key, write)

    def delete_tag(self, key: Key, name: str) -> None:
        """Remove a tag if it is there."""

        def write(connection: Connection) -> None:
            delete_model_tag(connection, self._project, key, name)
            tell_of_tag(self.registry, connection, key, "deleted", {"key": name})

        self._note(key, write)

    def _note(self, key: Key, write: Any) -> None:
        def work(connection: Connection) -> None:
            name, version = key
            if version == MODEL_ITSELF:
                self._existing(connection, name)
            else:
                self._version_row(connection, name, version)
            write(connection)

        self.registry.database.write(work)

    # --- rows

    @property
    def _project(self) -> str:
        return self.registry.project

    def _now_ms(self) -> int:
        return micros(self.clock.now()) // 1000

    def _append(self, name: str, event: AnyEvent, actor: str, also: Any) -> None:
        # The state is checked in `also`, in the same transaction: no `expect` is needed.
        draft = Draft(self.registry.subject(name), event)
        self.registry.ledger.append_all([draft], actor=actor, also=also)

    def _free(self, connection: Connection, name: str) -> None:
        if self._row(connection, name) is not None:
            raise AlreadyExists(f"Registered Model (name={name}) already exists.")

    def _removable(self, connection: Connection, name: str) -> None:
        self._existing(connection, name)
        mine = self._of(MODEL_VERSION, name) & MODEL_VERSION.c.opaque.is_(False)
        if connection.execute(select(MODEL_VERSION.c.version).where(mine)).first() is not None:
            raise _serving(f"model {name!r}")

    def _existing(self, connection: Connection, name: str) -> Row[Any]:
        row = self._row(connection, name)
        if row is None:
            raise NotFound(f"Registered Model with name={name[:256]} not found")
        return row

    def _row(self, connection: Connection, name: str) -> Row[Any] | None:
        return connection.execute(select(MODEL).where(self._of(MODEL, name))).first()

    def _version_row(self, connection: Connection, name: str, version: str) -> Row[Any]:
        mine = self._of(MODEL_VERSION, name) & (MODEL_VERSION.c.version == version)
        row = connection.execute(select(MODEL_VERSION).where(mine)).first()
        if row is None:
            raise NotFound(f"Model Version (name={name[:256]}, version={version[:20]}) not found")
        return row

    def _of(self, table: Any, name: str) -> Any:
        return (table.c.project == self._project) & (table.c.model == name)

    def _versions(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Version]:
        names = sorted({row.model for row in rows})
        notes = notes_of(connection, self._project, names)
        tags = tags_of(connection, self._project, names)
        aliases = self._aliases(connection, names)
        return [
            Version(
                version=version_of(row),
                note=notes.get((row.model, row.version), NO_NOTE),
                tags=tags.get((row.model, row.version), {}),
                aliases=tuple(
                    alias for alias, of in aliases.get(row.model, {}).items() if of == row.version
                ),
            )
            for row in rows
        ]

    def _models(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Model]:
        names = [row.model for row in rows]
        notes = notes_of(connection, self._project, names)
        tags = tags_of(connection, self._project, names)
        aliases = self._aliases(connection, names)
        latest = self._latest(connection, names)
        found = []
        for row in rows:
            note = notes.get((row.model, MODEL_ITSELF), NO_NOTE)
            found.append(
                Model(
                    name=row.model,
                    created=instant(row.created_us),
                    updated=instant(max(row.updated_us, note.updated_ms * 1000)),
                    description=note.description,
                    tags=tags.get((row.model, MODEL_ITSELF), {}),
                    aliases=aliases.get(row.model, {}),
                    latest=tuple(latest.get(row.model, ())),
                )
            )
        return found

    def _latest(self, connection: Connection, names: Sequence[str]) -> dict[str, list[Version]]:
        """Give the newest version of each stage, by model."""
        mine = (MODEL_VERSION.c.project == self._project) & MODEL_VERSION.c.model.in_(names)
        query = select(MODEL_VERSION).where(mine).order_by(MODEL_VERSION.c.number)
        newest: dict[str, dict[str, Version]] = {}
        for version in self._versions(connection, connection.execute(query).all()):
            newest.setdefault(version.version.model, {})[version.note.stage] = version
        return {name: list(stages.values()) for name, stages in newest.items()}

    def _aliases(self, connection: Connection, names: Sequence[str]) -> dict[str, dict[str, str]]:
        mine = (ALIAS.c.project == self._project) & ALIAS.c.model.in_(names)
        found: dict[str, dict[str, str]] = {}
        for row in connection.execute(select(ALIAS).where(mine).order_by(ALIAS.c.alias)):
            found.setdefault(row.model, {})[row.alias] = row.version
        return found


def checked_model(name: str) -> str:
    """Return a name that a model may have."""
    if "/" in name or ":" in name:
        raise InvalidInput(f"Invalid model name '{name[:256]}'. Names cannot contain '/' or ':'.")
    if not name.strip() or len(name) > NAME_LENGTH or not name.isprintable() or name in (".", ".."):
        raise InvalidInput(
            f"Invalid model name '{name[:60]}': expected 1 to {NAME_LENGTH} printable signs"
        )
    return name


def _set_note(project: str, key: Key, values: Mapping[str, Any], connection: Connection) -> None:
    set_note(connection, project, key, values)


def _serving(what: str) -> Refused:
    return Refused(
        f"{what} is one that can serve, so predictions may rest on it: it is never renamed or "
        "deleted"
    )
