"""One table from our errors to MLflow's codes and statuses, and its way of telling them."""

import msgspec
from starlette.responses import Response

from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.server.statuses import (
    NoSuchMethod,
    NoSuchPath,
    Overloaded,
    TooLarge,
    TooSlow,
    WrongHost,
    message_of,
)

INVALID = "INVALID_PARAMETER_VALUE"

CODES: dict[str, tuple[str, int]] = {
    "internal": ("INTERNAL_ERROR", 500),
    "invalid_input": (INVALID, 400),
    "invalid_declaration": (INVALID, 400),
    "not_found": ("RESOURCE_DOES_NOT_EXIST", 404),
    "already_exists": ("RESOURCE_ALREADY_EXISTS", 400),
    "stale_subject": ("RESOURCE_CONFLICT", 409),
    "stale_token": ("RESOURCE_CONFLICT", 409),
    "leased": ("RESOURCE_CONFLICT", 409),
    "not_permitted": ("PERMISSION_DENIED", 403),
    "not_authenticated": ("UNAUTHENTICATED", 401),
    "refused": (INVALID, 400),
    "checks_failed": (INVALID, 400),
    "schema_mismatch": (INVALID, 400),
    "leak_found": (INVALID, 400),
    "not_reproducible": (INVALID, 400),
    "step_failed": (INVALID, 400),
    "unconvertible": (INVALID, 400),
    "corrupt": ("DATA_LOSS", 500),
    # Not 503: clients repeat that for minutes, and a full disk does not empty itself.
    "storage_full": ("RESOURCE_EXHAUSTED", 507),
    "unavailable": ("TEMPORARILY_UNAVAILABLE", 503),
    "timed_out": ("DEADLINE_EXCEEDED", 504),
    "misconfigured": (INVALID, 400),
}
"""Code of `core.errors` -> MLflow's code and the HTTP status; a test compares the two."""


class NotSupported(InvalidInput):
    """The server leaves this part of the protocol to the client's other way."""


class Told(msgspec.Struct, frozen=True):
    """An error as MLflow's clients read it."""

    error_code: str
    message: str


def on_error(error: Exception) -> Response:
    """Tell an error."""
    body = msgspec.json.encode(told(error))
    return Response(body, _place(error)[1], media_type="application/json")


def told(error: Exception) -> Told:
    """Give what a client is told of an error, but for its status."""
    return Told(_place(error)[0], message_of(error))


def _place(error: Exception) -> tuple[str, int]:
    match error:
        case NoSuchPath():
            return "ENDPOINT_NOT_FOUND", 404
        case NotSupported():
            return "NOT_IMPLEMENTED", 501
        case Overloaded():
            return "RESOURCE_EXHAUSTED", 429
        case TooLarge() | TooSlow() | NoSuchMethod():
            return "BAD_REQUEST", error.status
        case WrongHost():
            return "PERMISSION_DENIED", error.status
        case MainspringError():
            return CODES[error.code]
        case _:
            return CODES[MainspringError.code]
