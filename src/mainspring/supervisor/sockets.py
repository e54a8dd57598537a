"""The listening sockets, held by the supervisor so that a restart refuses nobody."""

import errno
import ipaddress
import socket
from typing import NamedTuple

from mainspring.core.errors import Misconfigured, Refused, Unavailable

_BACKLOG = 1024


class _Address(NamedTuple):
    family: socket.AddressFamily
    place: tuple[str, int] | tuple[str, int, int, int]


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a host."""
    return _only_here(_resolved(host, 0))


def listen(host: str, port: int, *, setting: str, public: bool) -> socket.socket:
    """Bind a socket and listen.

    Args:
        host: Name or address.
        port: 0 takes a free one.
        setting: Name of the setting that the port came from, for messages.
        public: Whether others than this machine may be let in.

    Raises:
        Refused: Others would be let in and may not.
        Misconfigured: The host is not one of this machine, or the port is none.
        Unavailable: The port is in use.
    """
    if not 0 <= port <= 65535:
        raise Misconfigured(f"setting {setting!r}: found {port}, expected 0 to 65535")
    address = _resolved(host, port)
    if not public and not _only_here(address):
        raise Refused(
            f"host {host!r}: other machines would reach it, and the home has no access token, so "
            "everybody would be its admin; grant a role and issue a token first, or use "
            "--host 127.0.0.1"
        )
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address.place)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise _refusal(error, host, port, setting) from error
    return sock


def url_of(sock: socket.socket) -> str:
    """Give the address at which this machine reaches a socket."""
    host, port = sock.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolved(host: str, port: int) -> _Address:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Misconfigured(
            f"setting 'host': {host!r} is no address ({error}); expected one such as '127.0.0.1'"
        ) from error
    # IPv4 first: what people type as localhost is 127.0.0.1 to most clients.
    first = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return _Address(first[0], first[4])  # type: ignore[arg-type]


def _only_here(address: _Address) -> bool:
    return ipaddress.ip_address(address.place[0].partition("%")[0]).is_loopback


def _refusal(error: OSError, host: str, port: int, setting: str) -> Exception:
    flag = f"--{setting.replace('_', '-')}"
    if error.errno == errno.EADDRINUSE:
        return Unavailable(
            f"port {port} of {host}: in use by another process; stop that one, set {setting!r} to "
            f"another port, or take a free one with `{flag} 0`"
        )
    if error.errno == errno.EACCES:
        return Unavailable(
            f"port {port} of {host}: this user may not listen there; choose one above 1023 with "
            f"`{flag}`"
        )
    return Misconfigured(
        f"setting 'host': cannot listen at {host!r}, port {port} ({error.strerror}); expected an "
        "address of this machine"
    )
