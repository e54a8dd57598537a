"""One HTTP exchange as values: what was asked, what is answered, and the bytes of the answer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is whole and within all limits."""

    method: str
    target: str
    """Path and query as they were sent."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    keep_alive: bool = True
    old: bool = False
    """Of HTTP/1.0."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def failed(status: int, error: str, *headers: tuple[str, str]) -> Response:
    """Make the answer that says what went wrong, as V2 has it."""
    return Response(status, msgspec.json.encode({"error": error}), JSON, headers)


def encoded(
    response: Response, *, head: bool = False, close: bool = False, old: bool = False
) -> bytes:
    """Give an answer's bytes.

    Args:
        response: The answer.
        head: Leave the body out, as HEAD asks.
        close: The connection ends with it.
        old: Say that it stays, to a client that would not expect it (HTTP/1.0).
    """
    more = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    if close:
        more += "Connection: close\r\n"
    elif old:
        more += "Connection: keep-alive\r\n"
    lines = (
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}\r\n"
        f"Content-Type: {response.type}\r\n"
        f"Content-Length: {len(response.body)}\r\n"
        f"Date: {_date()}\r\n"
        "X-Content-Type-Options: nosniff\r\n"
        f"Cache-Control: no-store\r\n{more}\r\n"
    ).encode("latin-1")
    return lines if head else lines + response.body


_dated: tuple[int, str] = (0, "")


def _date() -> str:
    global _dated
    now = int(time.time())
    if now != _dated[0]:
        _dated = (now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)))
    return _dated[1]
