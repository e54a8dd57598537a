"""Model versions and aliases: who has what number, and which name points where."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from mainspring.core.clock import Instant
from mainspring.core.errors import (
    Corrupt,
    InvalidInput,
    MainspringError,
    NotFound,
    Refused,
    StaleSubject,
)
from mainspring.core.events import Aliased, Fact, Registered
from mainspring.core.ids import Digest, Id, Seq, Subject, canonical, checked_name, digest_bytes
from mainspring.core.notices import Tell, silent
from mainspring.formats.model import Manifest, Signature, read_manifest, read_signature
from mainspring.registry.tables import ALIAS, MODEL, MODEL_VERSION, instant
from mainspring.store.blobs import Blobs
from mainspring.store.database import Database
from mainspring.store.ledger import Draft, Ledger

KIND = "model"

_RACES = 50


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version of a model."""

    model: str
    version: str
    manifest: Digest
    run: Id | None
    until: datetime | None
    as_of: datetime | None
    pins: dict[str, int]
    opaque: bool
    source: str | None
    """Where the client said that it lies; null for a run's own folder."""
    registered: datetime
    seq: Seq
    """Of the fact that registered it."""


class Alias(msgspec.Struct, frozen=True):
    """A name that points to a version."""

    alias: str
    version: str
    seq: Seq


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a version, read from its folder and the ledger."""

    version: ModelVersion
    aliases: tuple[str, ...]
    kind: str
    files: dict[str, Digest]
    signature: Signature | None


@dataclass(frozen=True, slots=True)
class Registry:
    """The verbs of the registry in one project."""

    project: str
    ledger: Ledger
    database: Database
    blobs: Blobs
    tell: Tell = silent

    # --- registering

    def register(
        self,
        *,
        model: str,
        manifest: Digest,
        actor: str,
        run: Id | None = None,
        until: Instant | None = None,
        as_of: Instant | None = None,
        pins: Mapping[str, int] | None = None,
        cause: Seq | None = None,
    ) -> ModelVersion:
        """Make a model folder the next version of a model; racing registrations queue up.

        Raises:
            Corrupt: The folder is not whole in blobs.
        """
        for _ in range(_RACES):
            draft = self.registration(
                model=model,
                manifest=manifest,
                run=run,
                until=until,
                as_of=as_of,
                pins=pins or {},
                cause=cause,
            )
            try:
                facts = self.ledger.append_all([draft], actor=actor)
            except StaleSubject:
                continue
            assert isinstance(facts[0].event, Registered)
            return self.get(model, facts[0].event.version)
        raise StaleSubject(f"{self.subject(model)}: lost {_RACES} races in a row; register again")

    def registration(
        self,
        *,
        model: str,
        manifest: Digest,
        run: Id | None,
        until: Instant | None,
        as_of: Instant | None,
        pins: Mapping[str, int],
        cause: Seq | None,
    ) -> Draft:
        """Check a model folder and draft its registration under the next number.

        The draft expects the model as it was read: whoever appends it too late is refused with
        StaleSubject and asks for a new one, so that no number is given twice.
        """
        checked_name(model, what="model")
        opaque = self._whole(manifest).kind == "opaque"
        subject = self.subject(model)
        # Read before the number: a version that lands in between makes the draft stale.
        expect = self.ledger.newest(subject)
        event = Registered(
            model=model,
            version=self.next_version(model),
            manifest=manifest,
            run=run,
            until=until,
            as_of=as_of,
            pins=dict(pins),
            opaque=opaque,
        )
        return Draft(subject, event, expect=expect, cause=cause)

    def register_opaque(
        self,
        *,
        model: str,
        files: Mapping[str, Digest],
        source: str,
        run: Id | None,
        actor: str,
        also: Callable[[Connection, str], None],
    ) -> ModelVersion:
        """Make files that a client logged, or a place only it can read, the next version.

        Args:
            files: Path -> blob; none when the files lie elsewhere.
            source: Where the client said that they lie.
            also: Runs in the same transaction with the version's number.

        Raises:
            NotFound: A blob is not there.
        """
        for digest in files.values():
            self.blobs.path(digest)
        manifest = self.blobs.put(canonical(Manifest(files=dict(files), kind="opaque")))
        for _ in range(_RACES):
            expect = self.ledger.newest(self.subject(model))
            version = self.next_version(model)
            event = Registered(
                model=model,
                version=version,
                manifest=manifest,
                run=run,
                until=None,
                as_of=None,
                pins={},
                opaque=True,
                source=source,
            )
            draft = Draft(self.subject(model), event, expect=expect)
            try:
                self.ledger.append_all(
                    [draft], actor=actor, also=partial(_with_version, also, version)
                )
            except StaleSubject:
                continue
            return self.get(model, version)
        raise StaleSubject(f"{self.subject(model)}: lost {_RACES} races in a row; register again")

    def next_version(self, model: str) -> str:
        """Give the number that the next version of a model will have; none is given twice."""
        mine = (MODEL.c.project == self.project) & (MODEL.c.model == model)
        with self.database.read() as connection:
            return str((connection.execute(select(MODEL.c.numbered).where(mine)).scalar() or 0) + 1)

    def _whole(self, manifest: Digest) -> Manifest:
        try:
            found = read_manifest(self.blobs.path, manifest)
            for digest in (manifest, *found.files.values()):
                self.blobs.get(digest)
        except MainspringError as error:
            raise Corrupt(
                f"model folder {manifest[:12]}: it is not whole in blobs ({error}); log the model "
                "again in a run"
            ) from error
        return found

    # --- aliases

    def set_alias(
        self,
        model: str,
        alias: str,
        version: str | None,
        *,
        actor: str,
        expect: Seq | None = None,
        cause: Seq | None = None,
    ) -> Fact:
        """Point an alias to a version, or remove it with None.

        Args:
            expect: Number of the model's newest fact that the caller decided on; see `seq`.

        Raises:
            StaleSubject: The model has moved since.
        """
        checked_name(alias, what="alias")
        if alias.isdigit():
            raise InvalidInput(
                f"alias {alias!r}: found a number, expected a name; versions are numbers"
            )
        if version is not None:
            self.get(model, version)
        event = Aliased(model=model, alias=alias, version=version)
        return self.ledger.append(
            self.subject(model), event, actor=actor, expect=expect, cause=cause
        )

    def aliases(self, model: str) -> dict[str, Alias]:
        """Give a model's aliases by name."""
        mine = (ALIAS.c.project == self.project) & (ALIAS.c.model == model)
        with self.database.read() as connection:
            rows = connection.execute(select(ALIAS).where(mine).order_by(ALIAS.c.alias))
            return {row.alias: Alias(row.alias, row.version, Seq(row.seq)) for row in rows}

    def references(self) -> tuple[dict[str, Digest], dict[str, str]]:
        """Give every version's folder by `models:/name/version`, and what each alias points to."""
        version, alias = MODEL_VERSION.c, ALIAS.c
        versions = select(version.model, version.version, version.manifest)
        aliases = select(alias.model, alias.alias, alias.version)
        with self.database.read() as connection:
            found = connection.execute(versions.where(version.project == self.project)).all()
            named = connection.execute(aliases.where(alias.project == self.project)).all()
        return (
            {f"models:/{row.model}/{row.version}": Digest(row.manifest) for row in found},
            {f"models:/{r.model}@{r.alias}": f"models:/{r.model}/{r.version}" for r in named},
        )

    # --- reading

    def subject(self, model: str) -> Subject:
        """Name a model in the ledger."""
        return Subject(self.project, KIND, subject_name(model))

    def seq(self, model: str) -> Seq:
        """Give the number of the model's newest fact: for `expect`."""
        return self.ledger.newest(self.subject(model))

    def models(self) -> list[str]:
        """List the models that have a version."""
        query = select(MODEL_VERSION.c.model).where(MODEL_VERSION.c.project == self.project)
        with self.database.read() as connection:
            return list(
                connection.execute(query.distinct().order_by(MODEL_VERSION.c.model)).scalars()
            )

    def versions(self, model: str) -> list[ModelVersion]:
        """List a model's versions, oldest first."""
        query = select(MODEL_VERSION).where(*self._of(model)).order_by(MODEL_VERSION.c.number)
        with self.database.read() as connection:
            return [version_of(row) for row in connection.execute(query)]

    def get(self, model: str, version: str) -> ModelVersion:
        """Give one version, by number or by `@alias`."""
        if version.startswith("@"):
            found = self.aliases(model).get(version[1:])
            if found is None:
                raise NotFound(f"model {model!r} has no alias {version!r}; see its aliases")
            version = found.version
        query = select(MODEL_VERSION).where(*self._of(model), MODEL_VERSION.c.version == version)
        with self.database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"model {model!r} has no version {version!r}; see its versions")
        return version_of(row)

    def deployable(self, model: str, version: str) -> ModelVersion:
        """Give a version that may take traffic.

        Raises:
            Refused: It is opaque: nothing but its own library could run it.
        """
        found = self.get(model, version)
        if found.opaque:
            raise Refused(
                f"version {found.version} of model {model!r} is opaque, expected an ONNX folder, "
                "because no server loads foreign code; convert it with log_model in a run"
            )
        return found

    def by_manifest(self, manifest: Digest) -> list[ModelVersion]:
        """List the versions that are this very folder."""
        mine = (MODEL_VERSION.c.project == self.project) & (MODEL_VERSION.c.manifest == manifest)
        with self.database.read() as connection:
            query = select(MODEL_VERSION).where(mine).order_by(MODEL_VERSION.c.seq)
            return [version_of(row) for row in connection.execute(query)]

    def card(self, model: str, version: str) -> Card:
        """Give what a model card is written from."""
        found = self.get(model, version)
        manifest = self._whole(found.manifest)
        aliases = self.aliases(model).values()
        return Card(
            version=found,
            aliases=tuple(alias.alias for alias in aliases if alias.version == found.version),
            kind=manifest.kind,
            files=dict(manifest.files),
            signature=None if found.opaque else read_signature(self.blobs.path, manifest),
        )

    def _of(self, model: str) -> tuple[Any, Any]:
        return MODEL_VERSION.c.project == self.project, MODEL_VERSION.c.model == model


def subject_name(model: str) -> str:
    """Name a model in the ledger: clients' names may hold signs that a subject's may not."""
    try:
        return checked_name(model, what="model")
    except InvalidInput:
        return f"sha256:{digest_bytes(model.encode())}"


def _with_version(
    also: Callable[[Connection, str], None], version: str, connection: Connection
) -> None:
    also(connection, version)


def version_of(row: Row[Any]) -> ModelVersion:
    return ModelVersion(
        model=row.model,
        version=row.version,
        manifest=Digest(row.manifest),
        run=None if row.run is None else Id(row.run),
        until=None if row.until_us is None else instant(row.until_us),
        as_of=None if row.as_of_us is None else instant(row.as_of_us),
        pins=msgspec.json.decode(row.pins),
        opaque=row.opaque,
        source=row.source,
        registered=instant(row.registered_us),
        seq=Seq(row.seq),
    )
