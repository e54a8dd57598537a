"""Artifacts: listed, taken and given by path; what a path leads to is looked up, never opened."""

import mimetypes
import posixpath
from collections.abc import Mapping

import msgspec
from anyio import to_thread
from starlette.responses import FileResponse, Response

from mainspring.core.errors import NotFound
from mainspring.core.ids import Digest, Id
from mainspring.server.mlflow.errors import NotSupported
from mainspring.server.mlflow.parts import PIECE_BYTES, part_routes
from mainspring.server.mlflow.paths import plain_path
from mainspring.server.mlflow.registered import catalog, checked_version
from mainspring.server.mlflow.runs import Named
from mainspring.server.mlflow.sources import manifest_files, registered_manifest, split_manifest
from mainspring.server.mlflow.spans import read_file
from mainspring.server.mlflow.table import MODEL_READ, READ, WRITE
from mainspring.server.mlflow.wire import Message, Text, answer, read_query
from mainspring.server.routing import Asked, Route
from mainspring.store.blobs import Incoming
from mainspring.tracking.artifacts import Entry, Place

_TEXTS = frozenset(
    {"", ".txt", ".log", ".err", ".cfg", ".conf", ".cnf", ".cf", ".ini", ".properties", ".prop"}
    | {".hocon", ".toml", ".yaml", ".yml", ".xml", ".json", ".js", ".py", ".py3", ".csv", ".tsv"}
    | {".md", ".rst", ".jsonnet"}
)
"""Endings that are shown as text whatever else they are."""


class ShownFile(Message, frozen=True, kw_only=True):
    path: str
    is_dir: bool
    file_size: int | None = None


class Listing(Message, frozen=True, kw_only=True):
    root_uri: str | None = None
    files: tuple[ShownFile, ...] = ()


class List(Named, frozen=True, kw_only=True):
    path: str | None = None
    page_token: str | None = None


class ListProxy(Message, frozen=True, kw_only=True):
    path: str | None = None


class GetFile(Named, frozen=True, kw_only=True):
    path: Text


class GetVersionFile(Message, frozen=True, kw_only=True):
    name: Text
    version: Text
    path: Text


def list_of_run(asked: Asked) -> Response:
    """List a folder of a run; paths are those from the run's root."""
    request = read_query(asked.request.query_params, List)
    artifacts = asked.call.project.tracking.artifacts
    root = artifacts.location(request.run)
    path = (request.path or "").rstrip("/")
    found = artifacts.listing(Place(request.run, plain_path(path) if path else ""))
    return answer(Listing(root_uri=root, files=tuple(_shown(one) for one in found)))


def list_of_model(asked: Asked) -> Response:
    """List a folder of a logged model."""
    request = read_query(asked.request.query_params, ListProxy)
    model = asked.call.project.tracking.models.get(asked.params["model_id"])
    path = (request.path or "").rstrip("/")
    place = Place(model.model, plain_path(path) if path else "")
    found = asked.call.project.tracking.artifacts.listing(place)
    return answer(Listing(root_uri=model.location, files=tuple(_shown(one) for one in found)))


def list_by_proxy(asked: Asked) -> Response:
    """List a folder by its proxy path; names are relative to it, a missing one is empty."""
    path = (read_query(asked.request.query_params, ListProxy).path or "").strip("/")
    if not path:
        return answer(Listing())
    plain_path(path)
    version = split_manifest(path)
    try:
        if version is not None:
            found = _listed(asked, _version_files(asked, version[0]), version[1])
        else:
            artifacts = asked.call.project.tracking.artifacts
            found = artifacts.listing(artifacts.locate(path))
    except NotFound:
        return answer(Listing())
    names = [msgspec.structs.replace(one, path=posixpath.basename(one.path)) for one in found]
    return answer(Listing(files=tuple(_shown(one) for one in names)))


def download(asked: Asked) -> Response:
    """Give a file by its proxy path."""
    path = plain_path(asked.params["path"])
    version = split_manifest(path)
    if version is not None:
        files = _version_files(asked, version[0])
        return _file(asked, version[1], files.get(version[1]))
    artifacts = asked.call.project.tracking.artifacts
    found = artifacts.file(artifacts.locate(path))
    return _file(asked, found.path, found.digest)


def download_of_run(asked: Asked) -> Response:
    """Give a file of a run: the address that pages use."""
    request = read_query(asked.request.query_params, GetFile)
    place = Place(request.run, plain_path(request.path))
    found = asked.call.project.tracking.artifacts.file(place)
    return _file(asked, found.path, found.digest)


def download_of_version(asked: Asked) -> Response:
    """Give a file of a version: the address that pages use."""
    request = read_query(asked.request.query_params, GetVersionFile)
    path = plain_path(request.path)
    found = catalog(asked.call).version(request.name, checked_version(request.version))
    return _file(asked, path, manifest_files(asked.call, found.version.manifest).get(path))


def download_of_model(asked: Asked) -> Response:
    """Give a file of a logged model: the address that pages use."""
    model = asked.call.project.tracking.models.get(asked.params["model_id"])
    path = asked.request.query_params.get("artifact_file_path", "")
    found = asked.call.project.tracking.artifacts.file(Place(model.model, plain_path(path)))
    return _file(asked, found.path, found.digest)


async def upload(asked: Asked) -> Response:
    """Take a file by its proxy path; it is there whole, or not at all."""
    path = asked.params["path"]
    artifacts = asked.call.project.tracking.artifacts

    def located() -> Place:
        found = artifacts.locate(plain_path(path))
        artifacts.check_writable(found)
        return found

    place = await to_thread.run_sync(located)
    digest, size_bytes = await _receive(asked)

    def put() -> None:
        artifacts.put(place, digest=digest, size_bytes=size_bytes)
        read_file(asked.call, place, digest, size_bytes)

    await to_thread.run_sync(put)
    return answer(None)


def upload_of_run(asked: Asked) -> Response:
    """Take a small file of a run: the address that pages use."""
    request = read_query(asked.request.query_params, GetFile)
    place = Place(Id(request.run), plain_path(request.path))
    asked.call.project.tracking.artifacts.check_writable(place)
    digest = asked.call.project.blobs.put(asked.body)
    asked.call.project.tracking.artifacts.put(place, digest=digest, size_bytes=len(asked.body))
    return answer(None)


def remove(asked: Asked) -> Response:
    """Remove a file, or a folder with all below it."""
    artifacts = asked.call.project.tracking.artifacts
    artifacts.remove(artifacts.locate(plain_path(asked.params["path"])))
    return answer(None)


def unsupported(asked: Asked) -> Response:
    """Leave the client to its other way: one streamed request per file."""
    raise NotSupported(
        f"{asked.request.url.path[:120]}: not offered; upload and download each file in one "
        "request, of any size"
    )


async def _receive(asked: Asked) -> tuple[Digest, int]:
    """Write a body to a blob as it comes: a piece of it is in memory, however long it is."""
    blobs = asked.call.project.blobs
    incoming: Incoming = await to_thread.run_sync(blobs.incoming)
    piece = bytearray()
    try:
        async for chunk in asked.request.stream():
            piece += chunk
            if len(piece) >= PIECE_BYTES:
                await to_thread.run_sync(incoming.write, piece)
                piece = bytearray()
        await to_thread.run_sync(incoming.write, piece)
        return await to_thread.run_sync(incoming.finish), incoming.size_bytes
    finally:
        incoming.__exit__()


def _version_files(asked: Asked, digest: str) -> Mapping[str, Digest]:
    return manifest_files(asked.call, registered_manifest(asked.call, digest))


def _listed(asked: Asked, files: Mapping[str, Digest], folder: str) -> list[Entry]:
    begin = f"{folder}/" if folder else ""
    found: dict[str, int | None] = {}
    for path, digest in files.items():
        name, inner, _ = path.removeprefix(begin).partition("/")
        if path.startswith(begin):
            size = None if inner else asked.call.project.blobs.path(digest).stat().st_size
            found[name] = size
    return [Entry(begin + name, size) for name, size in sorted(found.items())]


def _shown(entry: Entry) -> ShownFile:
    if entry.size_bytes is None:
        return ShownFile(path=entry.path, is_dir=True)
    return ShownFile(path=entry.path, is_dir=False, file_size=entry.size_bytes)


def _file(asked: Asked, path: str, digest: Digest | None) -> Response:
    if digest is None:
        raise NotFound(f"No such artifact: '{path[:200]}'")
    name = posixpath.basename(path)
    response = FileResponse(
        asked.call.project.blobs.path(digest),
        media_type=_media_type(name),
        filename=name,
        headers={
            "x-content-type-options": "nosniff",
            # Somebody else's page is never ours, even where a browser shows it.
            "content-security-policy": "sandbox; default-src 'none'",
        },
    )
    response.headers["etag"] = f'"{digest}"'
    return response


def _media_type(name: str) -> str:
    ending = posixpath.splitext(name)[1].lower()
    if ending in _TEXTS:
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def proxy_routes() -> list[Route]:
    """Give the routes below `/mlflow-artifacts`."""
    return [
        Route("GET", "/artifacts", READ, list_by_proxy),
        Route("GET", "/artifacts/{path:path}", READ, download),
        Route("PUT", "/artifacts/{path:path}", WRITE, upload, streams=True),
        Route("DELETE", "/artifacts/{path:path}", WRITE, remove),
        *part_routes(),
        Route("GET", "/presigned/{path:path}", READ, unsupported),
    ]


def run_routes() -> list[Route]:
    """Give the routes below `/mlflow`."""
    model = "/logged-models/{model_id}/artifacts"
    return [
        Route("GET", "/artifacts/list", READ, list_of_run),
        Route("POST", "/upload-artifact", WRITE, upload_of_run),
        Route("GET", f"{model}/directories", READ, list_of_model),
        Route("GET", f"{model}/files", READ, download_of_model),
    ]


def page_routes() -> list[Route]:
    """Give the routes at the root."""
    return [
        Route("GET", "/get-artifact", READ, download_of_run),
        Route("GET", "/model-versions/get-artifact", MODEL_READ, download_of_version),
    ]
