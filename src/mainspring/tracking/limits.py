"""What may be logged: lengths, paths and times, with what is told to whoever exceeds them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import InvalidInput

KEY_LENGTH = 250
PATH_LENGTH = 1024
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
METRICS_PER_BATCH = 1000

_KEY = re.compile(rf"[^\x00-\x1f]{{1,{KEY_LENGTH}}}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def millis(at: Instant) -> int:
    """Give whole milliseconds since 1970 UTC."""
    return (utc(at) - _EPOCH) // timedelta(milliseconds=1)


def instant(at_ms: int) -> Instant:
    """Give the instant of whole milliseconds since 1970 UTC."""
    return _EPOCH + timedelta(milliseconds=at_ms)


def checked_time(at_ms: int, *, what: str) -> int:
    """Return milliseconds that are an instant between 1970 and 9999."""
    if not 0 <= at_ms <= _LAST_MS:
        raise InvalidInput(
            f"{what}: found {at_ms}, expected milliseconds since 1970 UTC; correct it"
        )
    return at_ms


def checked_key(key: str, *, what: str) -> str:
    """Return a key that may be logged, else say what may."""
    if _KEY.fullmatch(key) is None:
        raise InvalidInput(
            f"{what} key {key[:60]!r}: found {len(key)} characters, expected 1 to {KEY_LENGTH} "
            "without control characters; shorten it"
        )
    return key


def checked_text(key: str, value: str, *, what: str, limit: int) -> str:
    """Return a value that fits its limit."""
    if len(value) > limit:
        raise InvalidInput(
            f"{what} {key!r}: found a value of {len(value)} characters, expected {limit} at most; "
            "log it as an artifact"
        )
    return value


def checked_path(path: str) -> str:
    """Return an artifact path: relative, plain, below its run; it names a row and never a file."""
    parts = PurePosixPath(path).parts
    plain = path == "/".join(parts) and "\\" not in path and path.isprintable()
    if not parts or path.startswith("/") or ".." in parts or not plain or len(path) > PATH_LENGTH:
        raise InvalidInput(
            f"Invalid path: artifact path {path[:60]!r} is not allowed; expected a relative path "
            f"of plain parts, such as plots/roc.png, of {PATH_LENGTH} characters at most"
        )
    return path
