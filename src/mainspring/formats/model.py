"""The model folder as readers see it: manifest, signature, goldens, and the folder laid out.

A version is addressed by the digest of its manifest, which names every file of the folder by
path and digest. `blob` arguments are functions from a digest to the file that holds it, such as
`lambda digest: home.blob(project, digest)`; what is read is verified against the digest.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import msgspec

from mainspring.core.errors import AlreadyExists, Corrupt, InvalidInput, NotFound
from mainspring.core.ids import Digest

_T = TypeVar("_T")
Blob = Callable[[Digest], Path]

ML_MODEL = "MLmodel"
ONNX = "model.onnx"
SIGNATURE = "signature.json"
GOLDENS = "goldens.json"
PROFILE = "profile.json"
CALIBRATION = "calibration.json"
ENVIRONMENT = "environment.json"


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A named input. Numbers travel as floats, missing as NaN; a missing string is empty."""

    name: str
    type: Literal["float", "int", "str", "bool"]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model reads, in order, and the name of the one value it gives per row."""

    inputs: tuple[Column, ...]
    output: str = "probability"


class Goldens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Real rows with the outputs the converted model gave where it was trained.

    Missing numbers are null in the file; `tolerance` is absolute.
    """

    columns: dict[str, list[float | str | None]]
    outputs: list[float]
    tolerance: float = 1e-5


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files of a folder by their path in it.

    An opaque folder came from elsewhere and holds no graph of ours: it can be shown and
    downloaded, but not served before it is converted.
    """

    files: dict[str, Digest]
    kind: Literal["onnx", "opaque"] = "onnx"


def read_manifest(blob: Blob, digest: Digest) -> Manifest:
    """Read a manifest.

    Raises:
        NotFound: There is no such blob.
        Corrupt: Its bytes are not those of the digest, or are no manifest.
    """
    content = verified(blob, digest, "manifest")
    manifest = _decoded(content, Manifest, "manifest", digest)
    for name in manifest.files:
        checked_path(name)
    return manifest


def read_file(blob: Blob, manifest: Manifest, name: str) -> bytes:
    """Read one file of a folder, verified; NotFound if the folder has none of that name."""
    digest = manifest.files.get(name)
    if digest is None:
        known = ", ".join(sorted(manifest.files))
        raise NotFound(f"model folder has no file {name!r}; it holds {known}")
    return verified(blob, digest, name)


def read_signature(blob: Blob, manifest: Manifest) -> Signature:
    """Read what the model takes and gives."""
    return _read(blob, manifest, SIGNATURE, Signature)


def read_goldens(blob: Blob, manifest: Manifest) -> Goldens:
    """Read the golden pairs."""
    return _read(blob, manifest, GOLDENS, Goldens)


def read_profile(blob: Blob, manifest: Manifest) -> dict[str, Any]:
    """Read the reference profile as the mapping it was written from."""
    return _read(blob, manifest, PROFILE, dict[str, Any])


def read_environment(blob: Blob, manifest: Manifest) -> dict[str, Any]:
    """Read the record of environment and hardware."""
    return _read(blob, manifest, ENVIRONMENT, dict[str, Any])


def read_calibration(blob: Blob, manifest: Manifest) -> dict[str, Any] | None:
    """Read the calibration map; None if the model was logged without one."""
    if CALIBRATION not in manifest.files:
        return None
    return _read(blob, manifest, CALIBRATION, dict[str, Any])


def materialise(blob: Blob, digest: Digest, target: Path) -> Path:
    """Lay a version out as the folder that `mlflow.pyfunc.load_model` reads.

    Each file is copied from a verified blob. The folder appears whole or not at all.

    Raises:
        AlreadyExists: Something lies at the target.
        NotFound, Corrupt: A blob is gone or altered.
    """
    if target.exists():
        raise AlreadyExists(f"{target.name!r} exists; choose an empty place for the model folder")
    manifest = read_manifest(blob, digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    try:
        for name in manifest.files:
            file = partial / checked_path(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(read_file(blob, manifest, name))
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def verified(blob: Blob, digest: Digest, what: str) -> bytes:
    """Read a blob and check its bytes against the digest."""
    try:
        content = blob(digest).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{what} {digest[:12]}: no such blob; restore it from a backup") from error
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise Corrupt(
            f"{what}: found bytes of digest {found[:12]}, expected {digest[:12]}; "
            "restore the blob from a backup"
        )
    return content


def checked_path(name: str) -> PurePosixPath:
    """Return a folder-relative path that cannot leave the folder, else refuse it."""
    path = PurePosixPath(name)
    if (
        not path.parts
        or path.is_absolute()
        or ".." in path.parts
        or str(path) != name
        or "\\" in name
        or "\0" in name
    ):
        raise InvalidInput(
            f"file {name!r} of a model folder: expected a relative path without '..', as in "
            "'data/model.bin'"
        )
    return path


def _read(blob: Blob, manifest: Manifest, name: str, kind: type[_T]) -> _T:
    return _decoded(read_file(blob, manifest, name), kind, name, manifest.files[name])


def _decoded(content: bytes, kind: type[_T], what: str, digest: Digest) -> _T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Corrupt(
            f"{what} {digest[:12]} is not readable ({error}); log the model again"
        ) from error
