"""One HTTP exchange as values: what was asked, what is answered, and the bytes of the answer."""

import time
import zlib
from collections.abc import Mapping

import msgspec

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_GZIP = 31
"""The window of zlib that takes gzip, and only that."""
BUSY = ("Retry-After", "1")

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
    504: "Gateway Timeout",
}


class Request(msgspec.Struct, frozen=True, gc=False):
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
    came_s: float | None = None
    """When it was whole, on the monotonic scale."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer."""

    status: int
    body: bytes
    type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def failed(status: int, error: str, *headers: tuple[str, str]) -> Response:
    """Make the answer that says what went wrong, as V2 has it."""
    return Response(status, msgspec.json.encode({"error": error}), JSON, headers)


class TooLarge(Exception):
    """A body that is larger than it may be once it is inflated."""


def inflated(body: bytes, at_most: int) -> bytes | None:
    """Inflate a gzip body; None if it is none, or is cut off.

    Raises:
        TooLarge: It gives more than `at_most` bytes; no more than that was inflated.
    """
    found: list[bytes] = []
    left = at_most
    while True:
        member = zlib.decompressobj(_GZIP)
        try:
            found.append(member.decompress(body, left + 1))
        except zlib.error:
            return None
        left -= len(found[-1])
        if left < 0:
            raise TooLarge
        if not member.eof:
            return None
        # A gzip file may be several behind each other; each takes bytes away, so this ends.
        body = member.unused_data
        if not body:
            return b"".join(found)


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
    if response.headers or close or old or head:
        more = "".join(f"{name}: {value}\r\n" for name, value in response.headers)
        if close:
            more += "Connection: close\r\n"
        elif old:
            more += "Connection: keep-alive\r\n"
        ending = f"\r\n{more}\r\n"
    else:
        ending = "\r\n\r\n"
    body = response.body
    beginning = _beginning(response.status, response.type)
    lines = b"%b%d%b" % (beginning, len(body), ending.encode("latin-1"))
    return lines if head else lines + body


_begun: dict[tuple[int, str], bytes] = {}
_second = 0


def _beginning(status: int, kind: str) -> bytes:
    """Give the lines that stay the same for a second, up to the length."""
    global _second
    now = int(time.time())
    if now != _second:
        _begun.clear()
        _second = now
    found = _begun.get((status, kind))
    if found is None:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        found = _begun[status, kind] = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
            f"Content-Type: {kind}\r\n"
            f"Date: {date}\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Cache-Control: no-store\r\n"
            "Content-Length: "
        ).encode("latin-1")
    return found
