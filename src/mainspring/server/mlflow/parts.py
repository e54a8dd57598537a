"""Uploads in parts: begun, sent in any order and again, completed or given up."""

import posixpath
from datetime import timedelta

import msgspec
from anyio import to_thread
from starlette.responses import Response

from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import Digest
from mainspring.server.mlflow.errors import NotSupported
from mainspring.server.mlflow.paths import plain_path
from mainspring.server.mlflow.table import READ, WRITE
from mainspring.server.mlflow.wire import Message, Text, answer, read_body
from mainspring.server.routing import Asked, Route
from mainspring.store.uploads import PARTS_AT_MOST, Uploads
from mainspring.tracking.artifacts import Place

KEPT = timedelta(days=1)
"""After this long without a part an upload is swept."""

ONE_REQUEST = "Multipart upload is not supported for the current artifact repository"
"""Words at which clients send the file in one request instead."""

PIECE_BYTES = 1 << 20
"""What of an upload is in memory at once."""


class Create(Message, frozen=True, kw_only=True):
    """Of `path` the last part counts: clients send that of their own disk."""

    path: Text
    num_parts: int = 1


class Credential(Message, frozen=True, kw_only=True, omit_defaults=False):
    url: str
    part_number: int
    headers: dict[str, str]


class Created(Message, frozen=True, kw_only=True, omit_defaults=False):
    upload_id: str
    credentials: tuple[Credential, ...]


class SentPart(Message, frozen=True, kw_only=True):
    part_number: int
    etag: str | None = None
    size: int | None = None
    url: str | None = None


class Complete(Message, frozen=True, kw_only=True):
    path: str | None = None
    upload_id: Text
    parts: tuple[SentPart, ...] = ()


class Abort(Message, frozen=True, kw_only=True):
    path: str | None = None
    upload_id: Text


class PartsThere(Message, frozen=True, kw_only=True, omit_defaults=False):
    parts: tuple[SentPart, ...]


class Upload(msgspec.Struct, frozen=True):
    """Where an upload leads; the digest once it is complete."""

    owner: str
    path: str
    digest: str | None = None
    size_bytes: int = 0


def create(asked: Asked) -> Response:
    """Begin an upload; each part goes to an address of its own, in any order."""
    request = read_body(asked.body, Create)
    if not 1 <= request.num_parts <= PARTS_AT_MOST:
        raise InvalidInput(f"num_parts: found {request.num_parts}, expected 1 to {PARTS_AT_MOST}")
    artifacts = asked.call.project.tracking.artifacts
    try:
        folder = artifacts.locate(plain_path(asked.params["path"]))
    except NotFound as error:
        raise NotSupported(f"{ONE_REQUEST}: {error}") from error
    name = posixpath.basename(request.path.replace("\\", "/"))
    path = plain_path(posixpath.join(folder.path, name))
    artifacts.check_writable(Place(folder.owner, path))
    uploads = _uploads(asked)
    uploads.sweep(asked.call.platform.clock.now() - KEPT)
    upload = uploads.begin(msgspec.msgpack.encode(Upload(folder.owner, path)))
    address = _address(asked, upload)
    # Clients send to these addresses what stands here and nothing of their own; it goes back to
    # nobody but who sent it.
    shown = asked.request.headers.get("authorization")
    headers = {} if shown is None else {"Authorization": shown}
    credentials = tuple(
        Credential(url=f"{address}/{number}", part_number=number, headers=headers)
        for number in range(1, request.num_parts + 1)
    )
    return answer(Created(upload_id=upload, credentials=credentials))


def rootless(_: Asked) -> Response:
    """Send an old client, which does not say below which run, to its way of one request."""
    raise NotSupported(f"{ONE_REQUEST}: the address names no run")


async def put_part(asked: Asked) -> Response:
    """Take a part: it is there whole or not at all, and may be sent again."""
    uploads = _uploads(asked)

    def begun() -> None:
        if _found(uploads, asked.params["upload"]).digest is not None:
            raise NotFound("upload: it is complete; begin a new one")

    await to_thread.run_sync(begun)
    part = await to_thread.run_sync(uploads.part, asked.params["upload"], asked.params["number"])
    piece = bytearray()
    try:
        async for chunk in asked.request.stream():
            piece += chunk
            if len(piece) >= PIECE_BYTES:
                await to_thread.run_sync(part.write, piece)
                piece = bytearray()
        await to_thread.run_sync(part.write, piece)
        digest = await to_thread.run_sync(part.finish)
    finally:
        part.__exit__()
    response = answer(None)
    response.headers["etag"] = f'"{digest}"'
    return response


def parts(asked: Asked) -> Response:
    """List the parts that are there: who goes on after a break sends the others."""
    uploads, upload = _uploads(asked), asked.params["upload"]
    _found(uploads, upload)
    there = uploads.parts(upload)
    shown = (
        SentPart(part_number=number, etag=f'"{part.digest}"', size=part.size_bytes)
        for number, part in there.items()
    )
    return answer(PartsThere(parts=tuple(shown)))


def complete(asked: Asked) -> Response:
    """Let the path lead to the whole; asked again, it is there already."""
    request = read_body(asked.body, Complete)
    uploads, upload = _uploads(asked), request.upload_id
    begun = _found(uploads, upload)
    artifacts = asked.call.project.tracking.artifacts
    _check_same(asked, begun)
    if begun.digest is None:
        place = Place(begun.owner, begun.path)
        artifacts.check_writable(place)
        sent = [(part.part_number, (part.etag or "").strip('"')) for part in request.parts]
        digest, size_bytes = uploads.complete(upload, sent)
        artifacts.put(place, digest=Digest(digest), size_bytes=size_bytes)
        done = Upload(begun.owner, begun.path, digest, size_bytes)
        uploads.put_note(upload, msgspec.msgpack.encode(done))
        uploads.forget(upload, note=False)
    return answer(None)


def abort(asked: Asked) -> Response:
    """Give an upload up: its parts are gone. One that is complete, or gone already, stays so."""
    request = read_body(asked.body, Abort)
    uploads = _uploads(asked)
    try:
        begun = _found(uploads, request.upload_id)
    except NotFound:
        return answer(None)
    _check_same(asked, begun)
    if begun.digest is None:
        uploads.forget(request.upload_id)
    return answer(None)


def part_routes() -> list[Route]:
    """Give the routes below `/mlflow-artifacts`."""
    part = "/mpu/part/{upload}/{number:int}"
    return [
        Route("POST", "/mpu/create", WRITE, rootless),
        Route("POST", "/mpu/create/{path:path}", WRITE, create),
        Route("PUT", part, WRITE, put_part, streams=True),
        Route("GET", "/mpu/parts/{upload}", READ, parts),
        Route("POST", "/mpu/complete/{path:path}", WRITE, complete),
        Route("POST", "/mpu/abort/{path:path}", WRITE, abort),
    ]


def _uploads(asked: Asked) -> Uploads:
    return Uploads(asked.call.project.blobs)


def _found(uploads: Uploads, upload: str) -> Upload:
    return msgspec.msgpack.decode(uploads.note(upload), type=Upload)


def _check_same(asked: Asked, begun: Upload) -> None:
    """Refuse an upload that was begun for another run."""
    folder = asked.call.project.tracking.artifacts.locate(plain_path(asked.params["path"]))
    if folder.owner != begun.owner:
        raise InvalidInput("upload_id: it was begun below another artifact root; use its own")


def _address(asked: Asked, upload: str) -> str:
    """Give the whole address of an upload's parts, as the caller reached this server."""
    request = asked.request
    inner = request.scope["path"].partition("/mpu/create/")[0]
    return f"{request.url.scheme}://{request.headers['host']}{inner}/mpu/part/{upload}"
