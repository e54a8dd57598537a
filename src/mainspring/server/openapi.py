"""The interface as a document: OpenAPI 3.1, made from the types that the verbs are called with."""

import inspect as source
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

import msgspec
from starlette.responses import Response

from mainspring.api.table import VERBS
from mainspring.api.verb import AnyVerb
from mainspring.core import errors
from mainspring.server import answers, events
from mainspring.server.native import PREFIX
from mainspring.server.routing import Asked, Open, Route
from mainspring.server.statuses import STATUS, ErrorAnswer

PUBLIC = Open("the interface is the same everywhere; nothing of a project is in it")

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_ANSWERED = "answer."
"""Before the names of answers' types: what is not a number may be a text there."""

# What the door says before a verb is entered, beside what the codes map to.
_AT_THE_DOOR = {
    400: "The request is wrong as it stands.",
    405: "The path has other methods.",
    408: "The body came too slowly.",
    413: "The body is beyond the limit.",
    415: "The body is in no form that the route reads.",
    421: "The Host header names none of this server's names.",
}


def routes() -> Sequence[Route]:
    """Give the document and its page, below the native API's prefix."""

    def document(_: Asked) -> Response:
        return Response(_document_text(), media_type="application/json")

    def page(_: Asked) -> Response:
        return Response(_page_text(), media_type="text/html; charset=utf-8")

    return (
        Route("GET", "/openapi.json", PUBLIC, document),
        Route("GET", "/docs", PUBLIC, page),
    )


@cache
def _document_text() -> bytes:
    return msgspec.json.encode(document())


@cache
def document() -> Schema:
    """Make the document: every verb with its permission, its types and its errors."""
    asked, asked_types = _schemas([verb.request for verb in VERBS], _REFERENCE)
    template = _REFERENCE.replace("{name}", _ANSWERED + "{name}")
    told, told_types = _schemas([verb.answer for verb in VERBS] + [ErrorAnswer], template)
    told_types = {_ANSWERED + name: _unfinished(kind) for name, kind in told_types.items()}
    paths = {
        PREFIX + verb.path: {verb.method.lower(): _operation(verb, request, asked_types, answer)}
        for verb, request, answer in zip(VERBS, asked, told[:-1], strict=True)
    }
    paths[PREFIX + events.PATH] = {"get": _stream()}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Mainspring",
            "version": "1",
            "description": "Every verb is one route. Other projects than the default one are "
            "below /p/{project}.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"basic": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**asked_types, **told_types},
            "responses": _failures(told[-1]),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "token as password"},
            },
        },
    }


def _schemas(types: Sequence[Any], template: str) -> tuple[Sequence[Schema], Mapping[str, Schema]]:
    return msgspec.json.schema_components(types, ref_template=template)


def _operation(
    verb: AnyVerb,
    request: Schema,
    types: Mapping[str, Schema],
    answer: Schema,
) -> Schema:
    operation: Schema = {
        "operationId": verb.name,
        "tags": [verb.name.partition(".")[0]],
        "summary": _summary(verb.function),
        "x-resource": verb.resource,
        "x-action": verb.action,
        "x-repeatable": verb.repeatable,
        "responses": {"200": _content("Done.", answer), **_may_fail()},
    }
    if verb.method == "GET":
        operation["parameters"] = _parameters(_resolved(request, types))
    else:
        body = {answers.JSON: {"schema": request}, answers.MSGPACK: {"schema": request}}
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _stream() -> Schema:
    schema, types = _schemas([events.StreamAsked], _REFERENCE)
    again = {
        "name": "Last-Event-ID",
        "in": "header",
        "required": False,
        "description": "Number of the last fact that was read; wins over `after`.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,15}$"},
    }
    return {
        "operationId": "event.stream",
        "tags": ["event"],
        "summary": "Send facts as they come: `id` is the number, `event` the type.",
        "x-resource": events.NEEDED.resource,
        "x-action": events.NEEDED.action,
        "parameters": [*_parameters(_resolved(schema[0], types)), again],
        "responses": {
            "200": {
                "description": "Server-sent events, without an end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            **_may_fail(),
        },
    }


def _parameters(schema: Schema) -> list[Schema]:
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _one_value(kind),
            **({"description": kind["description"]} if "description" in kind else {}),
        }
        for name, kind in schema["properties"].items()
    ]


def _one_value(kind: Schema) -> Schema:
    """Give a parameter's type: what may be null is a parameter that may be left out."""
    kind = {key: value for key, value in kind.items() if (key, value) != ("default", None)}
    if "anyOf" in kind:
        kinds = [one for one in kind.pop("anyOf") if one != {"type": "null"}]
        kind = {**kind, **kinds[0]} if len(kinds) == 1 else {**kind, "anyOf": kinds}
    return kind


def _resolved(schema: Schema, types: Mapping[str, Schema]) -> Schema:
    return types[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _content(description: str, schema: Schema) -> Schema:
    forms = {answers.JSON: {"schema": schema}, answers.MSGPACK: {"schema": schema}}
    return {"description": description, "content": forms}


@cache
def _codes() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {status: [] for status in _AT_THE_DOOR}
    for code, status in STATUS.items():
        found.setdefault(status, []).append(code)
    return dict(sorted(found.items()))


def _may_fail() -> Schema:
    return {str(status): {"$ref": f"#/components/responses/failed.{status}"} for status in _codes()}


def _failures(schema: Schema) -> Schema:
    classes = {
        kind.code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.MainspringError)
    }
    failures = {}
    for status, codes in _codes().items():
        said = [f"`{code}`: {_summary(classes[code])}" for code in codes]
        door = _AT_THE_DOOR.get(status)
        failures[f"failed.{status}"] = {
            "description": " ".join(said or [door or ""]),
            "content": {answers.JSON: {"schema": schema}},
        }
    return failures


def _summary(documented: Any) -> str:
    return (source.getdoc(documented) or "").partition("\n")[0]


def _unfinished(kind: Any) -> Any:
    """Widen the numbers of an answer to what stands for those that are none."""
    if isinstance(kind, list):
        return [_unfinished(one) for one in kind]
    if not isinstance(kind, dict):
        return kind
    if kind.get("type") == "number":
        return {"anyOf": [kind, {"enum": list(answers.NOT_FINITE)}]}
    nullable = {"type": "null"} in kind.get("anyOf", [])
    return {
        key: value if key == "anyOf" and nullable and not _refers(value) else _unfinished(value)
        for key, value in kind.items()
    }


def _refers(kinds: Sequence[Schema]) -> bool:
    return any("type" not in kind or kind["type"] in ("array", "object") for kind in kinds)


@cache
def _page_text() -> bytes:
    rows = "\n".join(_section(path, method, one) for path, method, one in _operations())
    return _PAGE.replace("{sections}", rows).encode()


def _operations() -> list[tuple[str, str, Schema]]:
    return [
        (path, method.upper(), operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]


def _section(path: str, method: str, operation: Schema) -> str:
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"][answers.JSON]["schema"]
        resolved = _resolved(schema, document()["components"]["schemas"])
        needed = resolved.get("required", [])
        fields = [
            (name, name in needed, kind) for name, kind in resolved.get("properties", {}).items()
        ]
    else:
        fields = [(one["name"], one["required"], one["schema"]) for one in operation["parameters"]]
    asked = "".join(
        f"<li><code>{escape(name)}</code>: {escape(_kind(kind))}"
        f"{'' if required else ', may be left out'}</li>"
        for name, required, kind in fields
    )
    permission = f"{operation['x-action']} {operation['x-resource']}"
    return (
        f'<section id="{escape(operation["operationId"])}">'
        f"<h2>{escape(operation['operationId'])}</h2>"
        f"<p><code>{method} {escape(path)}</code></p><p>{escape(operation['summary'])}</p>"
        f"<p>Needs: {escape(permission)}.</p><ul>{asked}</ul></section>"
    )


def _kind(kind: Schema) -> str:
    if "$ref" in kind:
        return str(kind["$ref"].rpartition("/")[2])
    if "anyOf" in kind:
        return " or ".join(_kind(one) for one in kind["anyOf"])
    if "enum" in kind:
        return " or ".join(repr(one) for one in kind["enum"])
    if kind.get("type") == "array":
        return f"list of {_kind(kind.get('items') or {})}"
    return str(kind.get("format") or kind.get("contentEncoding") or kind.get("type") or "anything")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Mainspring: the native API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head><body>
<h1>The native API</h1>
<p>Every verb is one route. A GET takes query parameters; a POST takes JSON or msgpack, and answers
in what the <code>Accept</code> header names. Routes of another project than the default one are
below <code>/p/&lt;project&gt;</code>. Failures are
<code>{"error": {"code": ..., "message": ...}}</code>. For programs: <a
href="openapi.json">openapi.json</a>.</p>
{sections}
</body></html>
"""
