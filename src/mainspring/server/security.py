"""Who is let in: hosts, origins, tokens, and how much they may send."""

import base64
import binascii
import ipaddress
import re
from asyncio import get_running_loop, timeout_at
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request

from mainspring.access.actors import Access, Actor
from mainspring.core.config import Config
from mainspring.core.errors import InvalidInput, NotAuthenticated, NotPermitted
from mainspring.core.ids import Id, digest_bytes
from mainspring.platform import Platform
from mainspring.server.routing import Permission
from mainspring.server.statuses import ForeignOrigin, TooLarge, TooSlow, WrongHost

RUN_ACTOR = "run"
RUN_MAY = frozenset(
    {("run", "report"), ("run", "read"), ("experiment", "read"), ("experiment", "write")}
)
"""All that the bearer of a live attempt may do."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        b"frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""On every answer that does not set its own."""

KEPT_AT_MOST = 1024
"""Callers kept at once; far more than there are."""

BODY_PATIENCE_S = 30.0
BODY_SLOWEST_BYTES_S = 64 << 10
"""A body may take the patience, and a second more for each so many bytes that have come."""

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_RUN_TOKEN = re.compile(r"run\.([0-9a-f]{32})\.([0-9a-f]{32})")
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class Hosts:
    """Names under which this server may be called, on any port.

    A page that made its own name resolve to this machine is told apart by them.
    """

    def __init__(self, config: Config) -> None:
        named = {"localhost", "127.0.0.1", "[::1]"}
        further = [name.strip() for name in config.allowed_hosts.split(",")]
        for name in (config.host, *further):
            if name not in _ANY_ADDRESS:
                named.add(_bracketed(name).lower())
        self.names = frozenset(named)

    def check(self, request: Request) -> None:
        """Refuse a request for another host, and a change asked for by another's page.

        Raises:
            WrongHost: The Host header is not exactly one, or not one of ours.
            ForeignOrigin: Not a read, and of a page that is not ours.
        """
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._ours(hosts[0]):
            raise WrongHost(
                f"host {_shown(hosts)}: expected one of {', '.join(sorted(self.names))}; call the "
                "server by one of these, or add the name to the setting `allowed_hosts`"
            )
        if request.method in SAFE_METHODS:
            return
        origins = request.headers.getlist("origin")
        if any(not self._origin_ours(origin) for origin in origins):
            raise ForeignOrigin(
                f"origin {_shown(origins)}: a page of another site asks for a change; use this "
                "server's own pages, or add the site to the setting `allowed_hosts`"
            )

    def _ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and found[1].lower().rstrip(".") in self.names

    def _origin_ours(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in ("http", "https") and self._ours(parts.netloc)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, with what they may do beside their role."""

    actor: Actor
    scope: frozenset[tuple[str, str]] | None = None
    """When given, exactly this and nothing of a role."""


class Identities:
    """Callers as they were identified, until roles or tokens change: most requests read nothing.

    A verb that changes them says so before it returns, so what was revoked is refused from then
    on. Attempts are never kept: their leases end by themselves. Thread-safe.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._kept: dict[tuple[str, str | None, bool], tuple[int, Caller]] = {}

    def kept(self, project: str, request: Request) -> Caller | None:
        """Give the caller if nothing has to be read for it."""
        found = self._kept.get(_shown_by(project, request))
        if found is None or found[0] != self._platform.tokens.changes:
            return None
        return found[1]

    def identify(self, access: Access, request: Request) -> Caller:
        """Say who calls a project; see `identify`."""
        if (found := self.kept(access.project, request)) is not None:
            return found
        # Taken before the database is read: what changes meanwhile makes this one old.
        changes = self._platform.tokens.changes
        caller = identify(self._platform, access, request)
        if caller.scope is None:
            if len(self._kept) >= KEPT_AT_MOST:
                self._kept.clear()
            self._kept[_shown_by(access.project, request)] = (changes, caller)
        return caller


def identify(platform: Platform, access: Access, request: Request) -> Caller:
    """Say who calls a project.

    Raises:
        NotAuthenticated: Nothing shown where something must be, or something unknown.
        StaleToken: The attempt that shows its token is over.
    """
    shown = _shown_token(request)
    if shown is not None and shown.startswith("run."):
        return _run(platform, access.project, shown)
    return Caller(access.identify(shown, local=is_local(request)))


def check(caller: Caller, access: Access, needed: Permission) -> None:
    """Refuse what the caller may not.

    Raises:
        NotPermitted: The message says what is missing.
    """
    if caller.scope is None:
        access.check(caller.actor, needed.resource, needed.action)
    elif (needed.resource, needed.action) not in caller.scope:
        raise NotPermitted(
            f"a run may not {needed.action} {needed.resource!r}: its token allows its own reports "
            "and experiments only; do it with a token of a person"
        )


def is_local(request: Request) -> bool:
    """Say whether the caller is on this machine, and not behind something that forwards."""
    if "forwarded" in request.headers or "x-forwarded-for" in request.headers:
        return False
    return request.client is not None and _is_loopback(request.client.host)


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """Read a body, counted as it comes, whatever its length header says.

    Raises:
        TooLarge: It is beyond the limit; not read further.
        TooSlow: It came slower than a slow line would bring it.
    """
    told = request.headers.get("content-length")
    if told is not None and (not told.isascii() or not told.isdigit() or len(told) > 18):
        raise InvalidInput(f"content-length {told[:40]!r}: expected a whole number")
    if told is not None and int(told) > limit_bytes:
        raise _too_large(int(told), limit_bytes)
    loop = get_running_loop()
    began = loop.time()
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        try:
            async with timeout_at(began + BODY_PATIENCE_S + size / BODY_SLOWEST_BYTES_S):
                message = await request.receive()
        except TimeoutError as error:
            raise TooSlow(
                f"body: {size} bytes in {loop.time() - began:.0f} s; send it faster, or in parts"
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _too_large(size, limit_bytes)
        parts.append(part)
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def has_body(request: Request) -> bool:
    """Say whether a request announces a body."""
    return "transfer-encoding" in request.headers or request.headers.get("content-length") not in (
        None,
        "0",
    )


def _run(platform: Platform, project: str, shown: str) -> Caller:
    found = _RUN_TOKEN.fullmatch(shown)
    if found is None:
        raise NotAuthenticated(
            "the token of a run is not whole: expected run.<run>.<lease token>; start the attempt "
            "through the platform"
        )
    run, token = found.groups()
    platform.project(project).stages.runs.check_token(Id(run), token=token)
    return Caller(Actor(RUN_ACTOR, None), RUN_MAY)


def _shown_by(project: str, request: Request) -> tuple[str, str | None, bool]:
    """Give what a caller is known by; of a secret only its digest is kept."""
    token = _shown_token(request)
    return project, None if token is None else digest_bytes(token.encode()), is_local(request)


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown_token(request: Request) -> str | None:
    """Give the token of the Authorization header: the bearer's, or Basic's password."""
    given = request.headers.getlist("authorization")
    if not given:
        return None
    scheme, _, value = given[0].partition(" ")
    value = value.strip()
    if len(given) == 1 and scheme.lower() == "bearer":
        return value
    if len(given) == 1 and scheme.lower() == "basic":
        try:
            text = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        _, colon, password = text.partition(":")
        if colon:
            return password
    raise NotAuthenticated(
        "header Authorization: expected one of 'Bearer <token>' and 'Basic <name:token in base64>'"
    )


def _too_large(size: int, limit_bytes: int) -> TooLarge:
    return TooLarge(
        f"body: {size} bytes or more, at most {limit_bytes} in one request; send it in parts, or "
        "raise the setting `request_limit_mib`"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _shown(values: Iterable[Any]) -> str:
    return ", ".join(repr(str(value)[:100]) for value in values) or "none"
