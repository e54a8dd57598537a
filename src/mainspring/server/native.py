"""The native API: one route for every verb, from the same types as in memory."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.requests import Request
from starlette.responses import Response

from mainspring.api.table import VERBS
from mainspring.api.verb import AnyVerb
from mainspring.api.verb import Request as VerbRequest
from mainspring.core.errors import InvalidInput
from mainspring.server import answers
from mainspring.server.routing import Asked, Face, Permission, Route
from mainspring.server.statuses import WrongMediaType, tell

NAME = "native"
PREFIX = "/api/v1"
PARAMETERS_AT_MOST = 64

_SCALARS = (
    inspect.StrType
    | inspect.IntType
    | inspect.FloatType
    | inspect.BoolType
    | inspect.DateTimeType
    | inspect.LiteralType
    | inspect.NoneType
)


class _Named(msgspec.Struct):
    """The project that a body names, if it does."""

    project: str | msgspec.UnsetType = msgspec.UNSET


def face(more: Sequence[Route] = ()) -> Face:
    """Give the face of the table of verbs.

    Args:
        more: Further routes below its prefix.

    Raises:
        RuntimeError: A GET verb asks for what a query cannot hold.
    """
    return Face(PREFIX, [*(_route(verb) for verb in VERBS), *more], tell, name=NAME)


def project_asked(request: Request) -> str | None:
    """Give the project that a query names: it decides whose permissions hold."""
    return query_of(request).get("project")


def _route(verb: AnyVerb) -> Route:
    if verb.method == "GET":
        _check_scalars(verb)

    def handler(asked: Asked) -> Response:
        request = _from_query(verb, asked) if verb.method == "GET" else _from_body(verb, asked)
        try:
            answer = verb.function(asked.call, request)
        except OverflowError as error:
            # JSON has numbers of any size; what is stored has 64 bits.
            raise InvalidInput(
                f"{verb.name}: a whole number in it is beyond 64 bits ({error}); nothing was kept"
            ) from error
        form = answers.media_type(asked.request.headers.get("accept", ""))
        return Response(answers.encode(answer, verb.answer, form), media_type=form)

    return Route(verb.method, verb.path, Permission(verb.resource, verb.action), handler)


def _from_query(verb: AnyVerb, asked: Asked) -> VerbRequest:
    if asked.body:
        raise InvalidInput(f"{verb.name}: found a body, expected query parameters only")
    given = query_of(asked.request)
    _check_project(verb, asked, given.pop("project", None))
    try:
        request: VerbRequest = msgspec.convert(
            {**given, "project": asked.call.project.name}, verb.request, strict=False
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{verb.name}: {error}; see the request's parameters") from error
    return request


def _from_body(verb: AnyVerb, asked: Asked) -> VerbRequest:
    if asked.request.scope["query_string"]:
        raise InvalidInput(f"{verb.name}: found a query, expected the request in the body only")
    form = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if form not in (answers.JSON, answers.MSGPACK):
        raise WrongMediaType(
            f"{verb.name}: content type {form[:60]!r}, expected {answers.JSON} or {answers.MSGPACK}"
        )
    request: VerbRequest = answers.decode(asked.body, form, verb.request, what=verb.name)
    if request.project == asked.call.project.name:
        return request
    # Its own default, or the name of another project?
    named = answers.decode(asked.body, form, _Named, what=verb.name).project
    _check_project(verb, asked, None if named is msgspec.UNSET else named)
    return msgspec.structs.replace(request, project=asked.call.project.name)


def _check_project(verb: AnyVerb, asked: Asked, named: str | None) -> None:
    """Refuse a request that names another project than its path: the path's was asked for leave."""
    held = asked.call.project.name
    if named is not None and named != held:
        raise InvalidInput(
            f"{verb.name}: the request names project {named[:130]!r}, its path {held!r}; send it "
            f"to /p/<project>{PREFIX}{verb.path}"
        )


def query_of(request: Request) -> dict[str, str]:
    """Give a query's parameters.

    Raises:
        InvalidInput: It is not UTF-8, or holds one twice: which of the two would hold?
    """
    text: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_AT_MOST,
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"query: not readable ({error}); encode it as UTF-8") from error
    given = dict(pairs)
    if len(given) < len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidInput(f"query: {', '.join(twice)[:200]}: given twice; give each once")
    return given


def _check_scalars(verb: AnyVerb) -> None:
    kind = inspect.type_info(verb.request)
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        parts = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        if not all(isinstance(part, _SCALARS) for part in parts):
            raise RuntimeError(
                f"verb {verb.name!r}: the parameter {field.name!r} of a GET is one value; make the "
                "verb a POST"
            )
