"""Where artifacts may be said to lie: in this server, or somewhere the server never looks.

A foreign location (`s3://...`) is an opaque string for clients that go there by themselves. A path
of this machine is neither, in no spelling.
"""

import re
from urllib.parse import unquote

from mainspring.core.errors import InvalidInput

PROXY = "mlflow-artifacts:/"
"""What every location in this server begins with."""

LOCATION_LENGTH = 2048

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,31}:")
_OWN = re.compile(r"mlflow-artifacts:/(?://)?(?!/)")
_LOCAL_SCHEMES = {"file", "local", "sqlite", "jar", "data", "runs", "javascript", "about", "blob"}
_DECODINGS = 4


def checked_location(location: str, *, what: str) -> str:
    """Return a location that is foreign, or in this server and plain.

    Raises:
        InvalidInput: It is a path of this machine, or leads out of the server's own tree.
    """
    plain = _decoded(location, what)
    scheme = _SCHEME.match(plain.lower())
    if (
        scheme is None
        or scheme.group()[:-1] in _LOCAL_SCHEMES
        or len(location) > LOCATION_LENGTH
        or not location.isprintable()
        or "\\" in plain
        or ".." in re.split(r"[/:]", plain)
    ):
        raise _refused(location, what)
    if is_own(location) and ("?" in plain or "#" in plain or plain != location):
        raise _refused(location, what)
    return location


def is_own(location: str) -> bool:
    """Tell whether a location is in this server; one with a host is somebody's own business."""
    return _OWN.match(location.lower()) is not None


def own_path(location: str) -> str:
    """Give the path of a location in this server, as its artifact routes name it."""
    return location.split(":", 1)[1].strip("/")


def _decoded(location: str, what: str) -> str:
    """Undo percent-encoding until it is stable, so that no spelling hides a path."""
    text = location
    for _ in range(_DECODINGS):
        once = unquote(text)
        if once == text:
            return text
        text = once
    raise _refused(location, what)


def _refused(location: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"Invalid {what} '{location[:200]}': expected mlflow-artifacts:/... or a remote store such "
        "as s3://bucket/path; paths of the server's machine are not served, upload through the "
        "server instead"
    )
