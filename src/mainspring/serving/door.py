"""Where connections come in: the limits, and what the connections of a worker share."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from mainspring.serving.http import Request, Response

Answering = Callable[[Sequence[Request]], Sequence[Response]]
"""Answers the requests of a turn, in their order; never raises."""

Head = tuple[tuple[bytes, bytes], ...]
_KEPT_HEADS = 256
_LONGEST_HEAD = 1024
_HEAD_END = b"\r\n\r\n"
_NOT_KEPT = frozenset({"transfer-encoding", "expect", "content-encoding"})
_TOGETHER = 128
"""Requests answered before the first of their answers is sent."""


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

    def answered(self, request: Request, response: Response) -> None:
        """Send the answer of the request that was asked, and go on."""
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
    """The open connections of a worker, what they hold together, and what they ask in a turn.

    Requests that come in one turn of the event loop are answered together at its end: the more
    there are, the less each costs, and a lone one waits for nobody.
    """

    def __init__(self, answering: Answering, limits: Limits, *, now: Callable[[], float]) -> None:
        self.answering = answering
        self.limits = limits
        self.now = now
        self.open: set[Peer] = set()
        self.buffered_bytes = 0
        """Of bodies, whole or not."""
        self.buffered_at_most = limits.buffered_bodies * limits.body_bytes
        self.draining = False
        """Each answer is its connection's last."""
        self.heads: dict[Head, Mapping[str, str]] = {}
        """Headers that were read and found in order, by their bytes."""
        self._shared: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self._whole: dict[bytes, tuple[int, Request]] = {}
        self._turn: list[tuple[Peer, Request]] = []
        self.turned_away: dict[int, int] = {}
        """By status: requests refused before they were whole."""

    def keep_head(self, head: Head, headers: Mapping[str, str], *, size: int) -> None:
        """Keep headers; whoever makes them up only empties the memory."""
        if size <= _LONGEST_HEAD:
            if len(self.heads) >= _KEPT_HEADS:
                self.heads.clear()
            self.heads[head] = headers

    def shared(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Give the one mapping of these headers, the length left out: nobody asks for it again."""
        kept = {name: value for name, value in headers.items() if name != "content-length"}
        if len(self._shared) >= _KEPT_HEADS:
            self._shared.clear()
        return self._shared.setdefault(tuple(kept.items()), kept)

    def whole(self, content: bytes) -> Request | None:
        """Give the request that these bytes are, if its head was parsed before and no more follows.

        Equal bytes parse to equal heads, so the parser need not see them again. Anything else
        (a part, several requests, a body without its length) is for the parser.
        """
        end = content.find(_HEAD_END) + len(_HEAD_END)
        found = self._whole.get(content[:end])
        if found is None:
            return None
        size, first = found
        if len(content) - end != size or self.buffered_bytes + size > self.buffered_at_most:
            return None
        return Request(
            first.method,
            first.target,
            first.headers,
            content[end:],
            first.keep_alive,
            first.old,
            self.now(),
        )

    def keep_whole(self, content: bytes, request: object) -> None:
        """Keep the head of a request whose bytes these are, as the parser understood it."""
        end = content.find(_HEAD_END) + len(_HEAD_END)
        if not isinstance(request, Request) or end > _LONGEST_HEAD:
            return
        size = len(content) - end
        # Framed by its length alone, so that the head says where the body ends.
        if len(request.body) != size or not request.headers.keys().isdisjoint(_NOT_KEPT):
            return
        if len(self._whole) >= _KEPT_HEADS:
            self._whole.clear()
        self._whole[content[:end]] = (size, msgspec.structs.replace(request, body=b""))

    def ask(self, peer: Peer, request: Request) -> None:
        """Have a request answered at the end of this turn; one at a time for each peer."""
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._answer_turn)
        self._turn.append((peer, request))

    def _answer_turn(self) -> None:
        turn, self._turn = self._turn, []
        for i in range(0, len(turn), _TOGETHER):
            # Whoever has gone meanwhile is not answered, and nothing is recorded for it.
            asked = [one for one in turn[i : i + _TOGETHER] if one[0] in self.open]
            responses = self.answering([request for _, request in asked])
            for (peer, request), response in zip(asked, responses, strict=True):
                peer.answered(request, response)

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
