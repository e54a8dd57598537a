"""A run process that is there before its run: it has the last one's libraries loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mainspring.core.clock import Clock
from mainspring.formats.wire import Loaded, Process, State
from mainspring.supervisor.launch import Launched

NAME = "run-spare"

Stamps = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What a run of one interpreter had loaded."""

    interpreter: str | None
    loaded: Loaded


@dataclass(slots=True)
class _Waiting:
    known: _Known
    launched: Launched
    started: datetime
    until_s: float
    stamps: Stamps
    ready: bool = False


class Spare:
    """At most one process without an assignment, for the interpreter that ran last.

    Starting Python and importing what a training needs takes seconds; done ahead, a run begins at
    once. It is thrown away unused when a library was installed or removed meanwhile, and after a
    while without runs.

    Args:
        launch: Starts a process of an interpreter that loads modules and waits.
        life_s: How long it waits; 0 = there is never one.
    """

    def __init__(
        self,
        launch: Callable[[str | None, Loaded], Launched],
        *,
        clock: Clock,
        life_s: float,
    ) -> None:
        self._launch = launch
        self._clock = clock
        self._life_s = life_s
        self._known: _Known | None = None
        self._waiting: _Waiting | None = None
        self._ending: list[Launched] = []

    @property
    def launched(self) -> list[Launched]:
        """Its processes: the one that waits, and those that were told to end."""
        waiting = [] if self._waiting is None else [self._waiting.launched]
        return waiting + self._ending

    @property
    def processes(self) -> list[Process]:
        """The process as it is now, if there is one."""
        one = self._waiting
        if one is None:
            return []
        state: State = "ready" if one.ready else "starting"
        return [Process("run", NAME, one.launched.pid, state, 0, one.started)]

    @property
    def due_s(self) -> float | None:
        """When its time is over, by the monotonic clock."""
        return None if self._waiting is None else self._waiting.until_s

    def remember(self, interpreter: str | None, loaded: Loaded) -> None:
        """Keep what a run had loaded: the next spare loads the same."""
        self._known = _Known(interpreter, loaded)

    def prepare(self) -> None:
        """Start one, if it is known what to load and none waits."""
        if self._life_s <= 0 or self._known is None or self._waiting is not None:
            return
        known, stamps = self._known, _stamps(self._known.loaded)
        try:
            launched = self._launch(known.interpreter, known.loaded)
        except OSError:
            return
        until_s = self._clock.monotonic_s() + self._life_s
        self._waiting = _Waiting(known, launched, self._clock.now(), until_s, stamps)

    def take(self, interpreter: str | None) -> Launched | None:
        """Give the process for an attempt, if one of this interpreter waits and is not stale."""
        one = self._waiting
        if one is None:
            return None
        fits = one.known.interpreter == interpreter and one.launched.ended() is None
        if not fits or one.stamps != _stamps(one.known.loaded):
            self.end()
            return None
        self._waiting = None
        return one.launched

    def hear(self) -> None:
        """Take in what its processes said, and which are gone."""
        one = self._waiting
        if one is not None:
            one.ready = one.ready or bool(one.launched.channel.receive())
            if one.launched.ended() is not None:
                one.launched.clear()
                self._waiting = None
        for launched in [each for each in self._ending if each.ended() is not None]:
            launched.clear()
            self._ending.remove(launched)

    def act(self) -> None:
        """End it when its time is over."""
        if self.due_s is not None and self.due_s <= self._clock.monotonic_s():
            self.end()

    def end(self) -> None:
        """End it; it has no work to lose."""
        if self._waiting is not None:
            self._waiting.launched.kill()
            self._ending.append(self._waiting.launched)
            self._waiting = None


def _stamps(loaded: Loaded) -> Stamps:
    """Give the times at which the libraries' folders last gained or lost an entry."""
    return tuple(_stamp(folder) for folder in loaded.folders)


def _stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1
