"""The one door by which this server calls others.

A URL that a client gave is never simply fetched: its name is looked up once, every address it has
is checked, and the connection goes to the checked address, so that a name which answers otherwise
a moment later reaches nothing. No redirects, no proxies, bounded time and size; what comes back is
not handed on.
"""

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mainspring.core.errors import InvalidInput, NotPermitted, Unavailable

CONNECT_S = 5.0
TOTAL_S = 15.0
ANSWER_BYTES = 64 << 10
URL_LENGTH = 2048

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads, as far as that can be said without looking its name up."""

    secure: bool
    host: str
    port: int
    target: str


class Door:
    """Posts to other servers.

    Args:
        allowed: Hosts, or `host:port`, separated by commas, that may lie on a private network and
            be called without TLS. All others must be https and have public addresses only.
    """

    def __init__(self, allowed: str) -> None:
        self._allowed = frozenset(
            name.strip().lower() for name in allowed.split(",") if name.strip()
        )

    def check(self, url: str) -> Place:
        """Read a URL and refuse what could never be called; looks nothing up.

        Raises:
            InvalidInput: It is no URL of a web server, not https, or a private address, and its
                host is not allowed to be.
        """
        place = _place(url)
        if self._is_allowed(place):
            return place
        if not place.secure:
            raise InvalidInput(
                f"url {_shown(url)}: found http, expected https; use "
                f"https, or add {place.host}:{place.port} to the setting `outbound_hosts`"
            )
        if _literal(place.host) and not _public(place.host):
            raise InvalidInput(_inside(place))
        return place

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body and give the status of the answer.

        Raises:
            InvalidInput, NotPermitted: The URL may not be called.
            Unavailable: Nobody answered in time, or not as a web server does.
        """
        place = self.check(url)
        ends = time.monotonic() + TOTAL_S
        address = self._address(place)
        connection = _Connection(place, address, ends)
        try:
            connection.request("POST", place.target, body, dict(headers))
            answer = connection.getresponse()
            read = 0
            while read < ANSWER_BYTES and time.monotonic() < ends:
                part = answer.read(min(8192, ANSWER_BYTES - read))
                if not part:
                    break
                read += len(part)
            return answer.status
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"{place.host}:{place.port} did not answer ({type(error).__name__}); it is asked "
                "again later"
            ) from error
        finally:
            connection.close()

    def _address(self, place: Place) -> str:
        """Look the name up once and give an address that may be called."""
        try:
            found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"host {place.host!r} has no address; it is asked later") from error
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not self._is_allowed(place):
            private = [one for one in addresses if not _public(one)]
            # One private address among public ones is how a name is made to lead inside.
            if private or not addresses:
                raise NotPermitted(_inside(place))
        return addresses[0]

    def _is_allowed(self, place: Place) -> bool:
        return bool(self._allowed & {place.host, f"{place.host}:{place.port}"})


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, under the name that was asked for."""

    def __init__(self, place: Place, address: str, ends: float) -> None:
        super().__init__(place.host, place.port, timeout=CONNECT_S)
        self._place = place
        self._address = address
        self._ends = ends

    def connect(self) -> None:
        """Connect to the address, without looking the name up again."""
        plain = socket.create_connection((self._address, self._place.port), timeout=CONNECT_S)
        plain.settimeout(max(0.1, self._ends - time.monotonic()))
        self.sock = plain
        if self._place.secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(plain, server_hostname=self._place.host)


def _place(url: str) -> Place:
    what = f"url {_shown(url)}"
    if len(url) > URL_LENGTH or not url.isprintable() or any(sign in url for sign in " \\"):
        raise InvalidInput(f"{what}: expected at most {URL_LENGTH} printable signs; correct it")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").rstrip(".").lower()
        host.encode("idna")
    except (ValueError, UnicodeError) as error:
        raise InvalidInput(f"{what}: it is no URL ({error}); correct it") from error
    if parts.scheme not in ("http", "https") or not host:
        raise InvalidInput(f"{what}: expected https://host/path; correct it")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(f"{what}: it carries a user or password; leave them out")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(secure, host, port or (443 if secure else 80), target)


def _inside(place: Place) -> str:
    return (
        f"host {place.host!r}: an address of it is not public; add {place.host}:{place.port} to "
        "the setting `outbound_hosts` if it is meant"
    )


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes leads to the IPv4 one.
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if inner is None and found in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None and not _public(str(inner)):
            return False
    return found.is_global and not found.is_multicast


def _shown(url: str) -> str:
    return repr(url[:100])
