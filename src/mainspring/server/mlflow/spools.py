"""Spools: requests that a client wrote down and sends later, in their order and once."""

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.server.mlflow import logs, runs
from mainspring.server.mlflow.errors import told
from mainspring.server.mlflow.table import WRITE, Endpoint
from mainspring.server.mlflow.wire import Int64, Message, Text, read_body

_KINDS: dict[str, tuple[type[Message], Callable[[Any], Any]]] = {
    "runs/create": (runs.Create, runs.create),
    "runs/update": (runs.Update, runs.changed),
    "runs/log-metric": (logs.LogMetric, logs.log_metric),
    "runs/log-batch": (logs.LogBatch, logs.log_batch),
    "runs/log-parameter": (logs.LogText, logs.log_parameter),
    "runs/set-tag": (logs.LogText, logs.set_tag),
    "runs/log-inputs": (logs.LogInputs, logs.inputs),
    "runs/outputs": (logs.LogOutputs, logs.outputs),
}
"""What may be sent later, by its path below the face's prefix."""


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """One request as it would have been sent at once."""

    path: str
    body: msgspec.Raw


class Replay(Message, frozen=True, kw_only=True):
    spool: Text
    first: Int64 = 0
    entries: tuple[Sent, ...] = ()


class Refused(Message, frozen=True, kw_only=True):
    number: int
    error_code: str
    message: str


class Replayed(Message, frozen=True, kw_only=True, omit_defaults=False):
    next: int
    refused: tuple[Refused, ...] = ()
    unseen: int = 0


class Asked(Message, frozen=True, kw_only=True):
    spool: Text


def expected(call: Call, request: Asked) -> Replayed:
    """Say which entry of a spool is expected next."""
    return Replayed(next=call.project.tracking.spools.expected(request.spool))


def replay(call: Call, request: Replay) -> Replayed:
    """Log what came of a spool: each entry once, whatever is sent again."""
    entries = [_read(one) for one in request.entries]
    found = call.project.tracking.spools.replay(request.spool, request.first, entries).result()
    refused = tuple(
        Refused(number=number, error_code=told(error).error_code, message=told(error).message)
        for number, error in found.refused
    )
    return Replayed(next=found.next, refused=refused, unseen=found.unseen)


def _read(sent: Sent) -> Any:
    """Give what an entry asks for, or the error that its sender would have been told."""
    found = _KINDS.get(sent.path)
    if found is None:
        return InvalidInput(f"spool: {sent.path[:80]!r} cannot be sent later; send it at once")
    kind, function = found
    try:
        return function(read_body(bytes(sent.body), kind))
    except MainspringError as error:
        return error


ENDPOINTS = (
    Endpoint("GET", "/mainspring/spool", WRITE, Asked, expected),
    Endpoint("POST", "/mainspring/spool", WRITE, Replay, replay),
)
