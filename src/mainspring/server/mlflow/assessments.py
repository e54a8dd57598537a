"""Assessments of traces as MLflow's clients make them."""

from typing import Any

from mainspring.api.verb import Call
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import Message, missing
from mainspring.tracking.assessments import Assessments


class Create(Message, frozen=True, kw_only=True):
    trace_id: str = ""
    assessment: dict[str, Any]


class Named(Message, frozen=True, kw_only=True):
    trace_id: str = ""
    assessment_id: str = ""


class Update(Named, frozen=True, kw_only=True):
    assessment: dict[str, Any]
    update_mask: str | None = None


class One(Message, frozen=True, kw_only=True):
    assessment: dict[str, Any]


def create(call: Call, request: Create) -> One:
    """Keep an assessment."""
    return One(assessment=_of(call).create(request.trace_id, request.assessment))


def get(call: Call, request: Named) -> One:
    """Give one."""
    return One(assessment=_of(call).get(request.trace_id, request.assessment_id))


def update(call: Call, request: Update) -> One:
    """Change the fields that the mask names, in either spelling of protocol buffers."""
    fields = [_snake(name.strip()) for name in (request.update_mask or "").split(",")]
    fields = [name for name in fields if name]
    if not fields:
        raise missing("update_mask")
    changed = _of(call).change(request.trace_id, request.assessment_id, request.assessment, fields)
    return One(assessment=changed)


def delete(call: Call, request: Named) -> None:
    """Delete one if it is there."""
    _of(call).delete(request.trace_id, request.assessment_id)


def _of(call: Call) -> Assessments:
    return call.project.tracking.assessments


def _snake(name: str) -> str:
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in name)


_ALL = "/traces/{trace_id}/assessments"
_ONE = f"{_ALL}/{{assessment_id}}"

ENDPOINTS = (
    Endpoint("POST", _ALL, WRITE, Create, create),
    Endpoint("GET", _ONE, READ, Named, get),
    Endpoint("PATCH", _ONE, WRITE, Update, update),
    Endpoint("DELETE", _ONE, WRITE, Named, delete),
)
