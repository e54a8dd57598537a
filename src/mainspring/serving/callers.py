"""Who may call: the name they call by, the page they come from, the token they show."""

import base64
import binascii
import re

from mainspring.core.config import Config
from mainspring.core.errors import NotAuthenticated, NotPermitted
from mainspring.formats.tokens import TokenBook
from mainspring.serving.http import Request, Response, failed

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_ANY = frozenset({"0.0.0.0", "::", "[::]", ""})
_KEPT_HOSTS = 64
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:\d{1,5})?", re.IGNORECASE)


class Callers:
    """Checks of every request, before its target is looked at."""

    def __init__(self, config: Config, tokens: TokenBook) -> None:
        names = {name.strip().lower() for name in config.allowed_hosts.split(",")} - {""}
        own = {config.host.lower()} - _ANY
        self._names = _LOOPBACK | names | {f"[{n}]" if ":" in n else n for n in own}
        self._local = config.host.lower() in _LOOPBACK | {"::1"}
        self._tokens = tokens
        self._seen: set[str] = set()
        self._nobody_has_one: bool | None = None

    def begin_turn(self) -> None:
        """Look at the published tokens anew at the next question: once for all of a turn."""
        self._nobody_has_one = None

    def turned_away(self, request: Request) -> Response | None:
        """Say why a request is not taken, from its headers; None if it is.

        A page that rebinds its name to this address shows its own name in `Host`; a page that
        posts from elsewhere shows its own in `Origin`.
        """
        host = request.headers.get("host")
        if host is None and request.old:
            return None
        if host is None or not self._known(host):
            return failed(
                400 if host is None else 403,
                f"host {(host or '')[:100]!r} is not served here; call by a loopback name, or add "
                "the name to the setting 'allowed_hosts'",
            )
        if request.method in ("GET", "HEAD"):
            return None
        origin = request.headers.get("origin")
        if origin is None or origin.lower() in (
            f"http://{host.lower()}",
            f"https://{host.lower()}",
        ):
            return None
        return failed(
            403,
            f"origin {origin[:100]!r} may not send here; call from a page of this address, or "
            "without a browser",
        )

    def check(self, request: Request, project: str, permission: object) -> None:
        """Refuse a caller without the permission, which prints as `resource/action`.

        While the home has no token, a caller over loopback is the local user.

        Raises:
            NotAuthenticated: No or an unknown token, where one is needed.
            NotPermitted: The token's role does not allow it.
            Corrupt: The published tokens are not readable.
        """
        secret = _secret(request.headers.get("authorization"))
        if secret is None:
            if self._nobody_has_one is None:
                self._nobody_has_one = self._local and not self._tokens.exist()
            if self._nobody_has_one:
                return
            raise NotAuthenticated(
                f"project {project!r}: no token given, expected one; ask an admin to issue it and "
                "send it as 'Authorization: Bearer ...'"
            )
        token = self._tokens.find(project, secret)
        if token is None:
            raise NotAuthenticated(
                f"project {project!r}: the token is unknown or revoked; ask an admin for a new one"
            )
        if str(permission) not in token.permissions:
            raise NotPermitted(
                f"{token.name!r} may not {permission} in project {project!r}: found role "
                f"{token.role or 'none'}; ask an admin for one that may"
            )

    def _known(self, host: str) -> bool:
        if host in self._seen:
            return True
        match = _HOST.fullmatch(host)
        if match is None or match[1].lower() not in self._names:
            return False
        if len(self._seen) < _KEPT_HOSTS:
            self._seen.add(host)
        return True


def _secret(authorization: str | None) -> str | None:
    """Give what was shown; None if nothing was, and "" if it can be no token."""
    if authorization is None:
        return None
    scheme, _, value = authorization.strip().partition(" ")
    if not scheme:
        return None
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        # The password alone is the secret; clients fill in any user name.
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
