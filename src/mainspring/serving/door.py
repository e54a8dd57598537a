"""Where connections come in: the limits, and what the connections of a worker share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mainspring.serving.http import Request, Response

Answering = Callable[[Request], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may take."""

    body_bytes: int
    head_bytes: int = 32 << 10
    pipelined: int = 64
    """Requests that wait on one connection."""
    connections: int = 900
    buffered_bodies: int = 4
    """Bodies of the largest size that all connections together may hold."""
    request_s: float = 30.0
    """From a request's first byte to its last; and for taking an answer."""
    idle_s: float = 75.0
    linger_s: float = 2.0
    """How long is read on after the last answer, so that it arrives."""
    unread_bytes: int = 256 << 10
    """Of answers that a peer has not taken; beyond it, its requests wait."""


class Peer(Protocol):
    """A connection, as the door sees it."""

    deadline: float

    @property
    def in_flight(self) -> int:
        """Count the requests begun and not answered."""
        ...

    def expire(self) -> None:
        """Act on a deadline that has passed."""
        ...

    def end(self) -> None:
        """Close, with nothing under way."""
        ...

    def abort(self) -> None:
        """Drop it."""
        ...


class Door:
    """The open connections of a worker and what they hold together."""

    def __init__(self, answering: Answering, limits: Limits, *, now: Callable[[], float]) -> None:
        self.answering = answering
        self.limits = limits
        self.now = now
        self.open: set[Peer] = set()
        self.buffered_bytes = 0
        """Of bodies, whole or not."""
        self.draining = False
        """Each answer is its connection's last."""
        self.turned_away: dict[int, int] = {}
        """By status: requests refused before they were whole."""

    @property
    def in_flight(self) -> int:
        """Count the requests begun and not answered."""
        return sum(peer.in_flight for peer in self.open)

    def turn_away(self, status: int) -> None:
        """Count a refusal."""
        self.turned_away[status] = self.turned_away.get(status, 0) + 1

    def sweep(self) -> None:
        """Act on deadlines that have passed; about once a second."""
        now = self.now()
        for peer in [peer for peer in self.open if peer.deadline <= now]:
            peer.expire()

    def close_idle(self) -> None:
        """Close the connections on which nothing is under way."""
        for peer in [peer for peer in self.open if not peer.in_flight]:
            peer.end()

    def abort(self) -> None:
        """Drop all connections."""
        for peer in list(self.open):
            peer.abort()
