"""Paths that clients send: one canonical decoding, no way out in any spelling."""

from urllib.parse import unquote

from mainspring.core.errors import InvalidInput
from mainspring.tracking.limits import checked_path

_DECODINGS = 4


def plain_path(path: str) -> str:
    """Return a path that is plain, however often it is decoded.

    Raises:
        InvalidInput: It is absolute or leads upwards, in this spelling or in an encoded one.
    """
    checked_path(path)
    text = path
    for _ in range(_DECODINGS):
        once = unquote(text)
        if once == text:
            return path
        checked_path(once)
        text = once
    raise InvalidInput(f"Invalid path: {path[:60]!r} is encoded too often; send it plain")
