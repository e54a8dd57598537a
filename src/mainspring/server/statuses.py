"""One table from an error's code to its HTTP status, and the native face's way of telling it."""

import http
import logging

import msgspec
from starlette.responses import Response

from mainspring.core.errors import (
    InvalidInput,
    MainspringError,
    NotFound,
    NotPermitted,
    TimedOut,
    Unavailable,
)

_log = logging.getLogger("mainspring.server")

STATUS: dict[str, int] = {
    "internal": 500,
    "invalid_input": 400,
    "invalid_declaration": 422,
    "not_found": 404,
    "already_exists": 409,
    "stale_subject": 409,
    "stale_token": 409,
    "leased": 409,
    "not_permitted": 403,
    "not_authenticated": 401,
    "refused": 409,
    "checks_failed": 422,
    "schema_mismatch": 422,
    "leak_found": 422,
    "not_reproducible": 422,
    "step_failed": 422,
    "unconvertible": 422,
    "corrupt": 500,
    "storage_full": 507,
    "unavailable": 503,
    "timed_out": 504,
    "misconfigured": 422,
}
"""Every code has its line; a test compares it with `core.errors`."""

INTERNAL = (
    "a mistake of ours: the request was not done, or not wholly; the control process's log holds "
    "the trace; report it"
)
RETRY_AFTER_S = "1"


class NoSuchMethod(InvalidInput):
    """The path has other methods."""

    status = 405

    def __init__(self, message: str, allowed: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allowed = allowed


class NoSuchPath(NotFound):
    """The path is not in the table of routes."""


class TooLarge(InvalidInput):
    """The body is beyond the limit: send it in parts."""

    status = 413


class WrongMediaType(InvalidInput):
    """The body is in no form that the route reads."""

    status = 415


class TooSlow(TimedOut):
    """The body came too slowly."""

    status = 408


class WrongHost(NotPermitted):
    """The request names a host that is not ours: a browser was led here by another name."""

    status = 421


class ForeignOrigin(NotPermitted):
    """A page of somebody else asks for a change."""


class Starting(Unavailable):
    """The process ends and its successor starts: nothing was begun, repeat it."""


class Overloaded(Unavailable):
    """As many requests as may are under way: repeat it a little later."""


class ErrorTold(msgspec.Struct, frozen=True):
    """What went wrong: a stable code, and a message for people."""

    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """The answer to every request that failed."""

    error: ErrorTold


def status_of(error: Exception) -> int:
    """Give the HTTP status of an error; 500 for what no caller can do anything about."""
    if not isinstance(error, MainspringError):
        return http.HTTPStatus.INTERNAL_SERVER_ERROR
    status: int = getattr(error, "status", STATUS[error.code])
    return status


def message_of(error: Exception) -> str:
    """Give what a caller may read; the trace of a mistake of ours goes to the log only.

    It may hold paths, SQL or values of others.
    """
    if isinstance(error, MainspringError) and error.code != "internal":
        return str(error)
    _log.error("a request ended in a mistake of ours", exc_info=error)
    return INTERNAL


def tell(error: Exception) -> Response:
    """Tell an error as the native API does."""
    code = error.code if isinstance(error, MainspringError) else MainspringError.code
    told = ErrorAnswer(ErrorTold(code, message_of(error)))
    return Response(
        msgspec.json.encode(told), status_code=status_of(error), media_type="application/json"
    )


def headers_of(error: Exception) -> dict[str, str]:
    """Give the headers that an error asks for, whichever face tells it."""
    match error:
        case NoSuchMethod():
            return {"Allow": ", ".join(error.allowed)}
        case Starting():
            return {"Retry-After": RETRY_AFTER_S, "Mainspring-Starting": "1", "Connection": "close"}
        case Unavailable():
            return {"Retry-After": RETRY_AFTER_S}
        case TooSlow():
            return {"Connection": "close"}
        case MainspringError(code="not_authenticated"):
            # Basic first: it is what browsers and MLflow's client can answer.
            return {"WWW-Authenticate": 'Basic realm="mainspring", charset="UTF-8", Bearer'}
        case _:
            return {}
