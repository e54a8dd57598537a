"""Where a version's files come from: what the client calls its source, and whose files those are.

Files in this server are taken by digest when the version is made, so what is logged later does not
change it. A source elsewhere is kept as it was given and never opened.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import Digest, Id
from mainspring.formats.model import read_manifest
from mainspring.registry.versions import ModelVersion
from mainspring.server.mlflow.paths import plain_path
from mainspring.tracking.artifacts import Place
from mainspring.tracking.location import PROXY, checked_location, is_own, own_path

MANIFESTS = "manifests"
"""First part of the proxy paths under which versions are read."""

_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})(?:/(.+))?")
_VERSION = re.compile(r"models:/([^/:@]+)(?:/([0-9]{1,18})|@([\w\-]+))")
_RUN = re.compile(r"runs:/([0-9a-f]{32})(?:/(.*))?")
_MANIFEST = re.compile(MANIFESTS + r"/([0-9a-f]{64})(?:/(.*))?")


@dataclass(frozen=True, slots=True)
class Source:
    """A version's files, none when they lie elsewhere, and the logged model that they are."""

    files: Mapping[str, Digest]
    logged_model: str | None = None


def read_source(call: Call, source: str, run: Id | None) -> Source:
    """Find the files that a source names.

    Raises:
        InvalidInput: It is a path of this machine, or not within the run that is named with it.
        NotFound: The run, logged model or version does not exist.
    """
    if match := _LOGGED.fullmatch(source):
        model = match.group(1)
        call.project.tracking.models.get(model)
        place = Place(model, plain_path(match.group(2)) if match.group(2) else "")
        return Source(call.project.tracking.artifacts.files(place), model)
    if match := _VERSION.fullmatch(source):
        name, number, alias = match.groups()
        version = call.project.stages.registry.get(name, number or f"@{alias}")
        return Source(manifest_files(call, version.manifest))
    if match := _RUN.fullmatch(source):
        path = (match.group(2) or "").rstrip("/")
        return _within(call, Place(match.group(1), plain_path(path) if path else ""), run)
    checked_location(source, what="model version source")
    if source.lower().startswith(("models:", "runs:")):
        raise InvalidInput(
            f"Invalid model version source: '{source[:200]}': expected models:/<name>/<version>, "
            "models:/<name>@<alias>, models:/m-<id> or runs:/<run id>/<path>"
        )
    if not is_own(source):
        return Source({})
    if match := _MANIFEST.fullmatch(own_path(source)):
        return Source(manifest_files(call, registered_manifest(call, match.group(1))))
    return _within(call, call.project.tracking.artifacts.locate(plain_path(own_path(source))), run)


def readable_at(version: ModelVersion) -> str:
    """Give the location at which clients read a version's files."""
    return f"{PROXY}{MANIFESTS}/{version.manifest}"


def download_uri(call: Call, version: ModelVersion) -> str:
    """Give the location that a client reads a version from: here, or where only it can go."""
    if version.source is None or manifest_files(call, version.manifest):
        return readable_at(version)
    return version.source


def split_manifest(path: str) -> tuple[str, str] | None:
    """Read a proxy path of a version's files: the manifest's digest and the path below it."""
    match = _MANIFEST.fullmatch(path)
    return None if match is None else (match.group(1), match.group(2) or "")


def registered_manifest(call: Call, digest: str) -> Digest:
    """Return the digest of a manifest if a version of the project is that folder."""
    found = Digest(digest)
    if not call.project.stages.registry.by_manifest(found):
        raise NotFound(f"no version of project {call.project.name!r} is the folder {digest[:12]}")
    return found


def manifest_files(call: Call, digest: Digest) -> Mapping[str, Digest]:
    """Give the files of a version."""
    return read_manifest(call.project.blobs.path, digest).files


def _within(call: Call, place: Place, run: Id | None) -> Source:
    if run is not None and place.owner != run and not _made_by(call, place.owner, run):
        raise InvalidInput(
            f"Invalid model version source: it is not contained within run {run}'s artifact "
            "directory; give the run that logged it, or none"
        )
    call.project.tracking.artifacts.location(place.owner)
    logged = place.owner if place.owner.startswith("m-") and not place.path else None
    return Source(call.project.tracking.artifacts.files(place), logged)


def _made_by(call: Call, model: str, run: Id) -> bool:
    return model.startswith("m-") and call.project.tracking.models.get(model).run == run
