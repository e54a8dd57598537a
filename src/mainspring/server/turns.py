"""Small requests done many at once: those that come while a write is under way share the next.

They are let in by the same rules, in the same order, as all others (`app.py`); what is not plain
here goes that way instead, with the same outcome.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from mainspring.api.verb import Call
from mainspring.core.errors import MainspringError
from mainspring.server.metrics import Measured
from mainspring.server.routing import Placed, Together

AT_ONCE = 256
"""Requests that share a write at most: bounds how long the first of them waits."""

Reply = Callable[[Response | None], None]
"""Gets an answer; None is that to all that is done without more to say."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    placed: Placed
    call: Call
    wanted: Any
    """What the body asked for, as the route's `Together` read it."""
    reply: Reply
    began_s: float


class Turns:
    """Collects what came, one write at a time under way. For the event loop's thread alone.

    Args:
        tell: Makes the answer to an error, in the way of the route's face.
        measured: What counts requests.
    """

    def __init__(self, tell: Callable[[Exception, Placed], Response], measured: Measured) -> None:
        self._tell = tell
        self._measured = measured
        self._waiting: list[_Asked] = []
        self._busy = False
        self.under_way = 0
        """Requests that were taken and not yet answered."""

    def take(self, placed: Placed, call: Call, body: bytes, reply: Reply) -> None:
        """Take a request that was let in; `reply` is called once, now or later."""
        together = placed.route.together
        assert together is not None
        began = time.perf_counter()
        try:
            wanted = together.read(body)
        except Exception as error:
            self._count(placed, began, self._refuse(error, placed, reply))
            return
        self.under_way += 1
        self._waiting.append(_Asked(placed, call, wanted, reply, began))
        if not self._busy:
            # Not now: others whose bytes are here as well join in.
            self._busy = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        """Begin the next write, of as many as belong together."""
        if not self._waiting:
            self._busy = False
            return
        first = self._waiting[0]
        together, project = first.placed.route.together, first.call.project
        assert together is not None
        some: list[_Asked] = []
        for one in self._waiting[:AT_ONCE]:
            if one.call.project is not project or one.placed.route.together is None:
                break
            if one.placed.route.together.begin is not together.begin:
                break
            some.append(one)
        del self._waiting[: len(some)]
        self._begin(together, some)

    def _begin(self, together: Together, some: Sequence[_Asked]) -> None:
        try:
            future = together.begin(some[0].call, [one.wanted for one in some])
        except Exception as error:
            self._end(some, [error] * len(some))
            return
        loop = asyncio.get_running_loop()

        def told(done: Future[list[Any]]) -> None:
            # A loop that has ended has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._written, together, some, done)

        future.add_done_callback(told)

    def _written(self, together: Together, some: Sequence[_Asked], done: Future[list[Any]]) -> None:
        error = done.exception()
        if error is None:
            self._end(some, done.result())
        elif len(some) == 1 or isinstance(error, MainspringError):
            failed = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._end(some, [failed] * len(some))
        else:
            # One of them broke the write for all: each alone, and only that one is told.
            self._waiting[:0] = some[1:]
            self._begin(together, some[:1])

    def _end(self, some: Sequence[_Asked], outcomes: Sequence[Any]) -> None:
        self.under_way -= len(some)
        for one, outcome in zip(some, outcomes, strict=True):
            status = 200
            together = one.placed.route.together
            if isinstance(outcome, Exception):
                status = self._refuse(outcome, one.placed, one.reply)
            elif together is None or together.show is None:
                one.reply(None)
            else:
                one.reply(together.show(outcome))
            self._count(one.placed, one.began_s, status)
        self._go()

    def _refuse(self, error: Exception, placed: Placed, reply: Reply) -> int:
        response = self._tell(error, placed)
        reply(response)
        return response.status_code

    def _count(self, placed: Placed, began_s: float, status: int) -> None:
        self._measured.request(placed, status, time.perf_counter() - began_s)
