"""Watches the ledger and strikes a running platform at chosen facts."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from running_platform import RunningPlatform, alive, wait_until

LOOK_S = 0.002
RUN_S = 10.0


class Blow(Protocol):
    """Something bad that happens when an event is in the ledger for the n-th time."""

    @property
    def event(self) -> str: ...

    @property
    def nth(self) -> int: ...

    def strike(self, platform: RunningPlatform) -> None:
        """Do it."""
        ...


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL one process of a role."""

    event: str
    role: str
    """supervisor, control, inference or run."""
    nth: int = 1

    def strike(self, platform: RunningPlatform) -> None:
        """Kill it, and see it gone; a supervisor is started again."""
        if self.role == "supervisor":
            platform.kill()
            platform.start()
            return
        if self.role == "run":
            _wait_for_a_run(platform)
        pid = platform.signal(self.role, signal.SIGKILL)
        assert pid is not None, f"{self}: there is none"
        wait_until(lambda: not alive(pid), f"{self}: it is gone")


@dataclass(frozen=True, slots=True)
class Jump:
    """The wall clock of all processes jumps."""

    event: str
    file: Path
    offset_s: float
    nth: int = 1

    def strike(self, platform: RunningPlatform) -> None:
        """Set how far the clocks are off from now on."""
        assert platform.url
        new = self.file.with_name("offset.new")
        new.write_text(str(self.offset_s))
        new.replace(self.file)


@dataclass(slots=True)
class Striker:
    """Carries a plan out beside a driver; what it could not do is an error."""

    platform: RunningPlatform
    plan: Sequence[Blow]
    done: list[Blow] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Striker":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()
        if self._failed:
            raise self._failed[0]
        if kind is None:
            assert [blow for blow in self.plan if blow not in self.done] == []

    def _watch(self) -> None:
        seen, after = Counter[str](), 0
        try:
            over = False
            while not over:
                # What happened while a long blow was struck is still seen when all is over.
                over = self._over.wait(LOOK_S)
                for seq, event in self.platform.events(after):
                    after, seen[event] = seq, seen[event] + 1
                    for blow in self.plan:
                        if (blow.event, blow.nth) == (event, seen[event]):
                            blow.strike(self.platform)
                            self.done.append(blow)
        except BaseException as error:
            self._failed.append(error)


@dataclass(slots=True)
class Storm:
    """Kills one process after the other at random times, as a blow that lasts."""

    seed: int
    kills: int
    event: str = "Applied"
    nth: int = 1
    done: list[str] = field(default_factory=list)

    def strike(self, platform: RunningPlatform) -> None:
        """Kill; the seed decides what and when, as far as the machine is the same."""
        chance = random.Random(self.seed)
        for _ in range(self.kills):
            time.sleep(chance.uniform(0.1, 1.5))
            role = chance.choices(("control", "inference", "run", "supervisor"), (4, 3, 2, 1))[0]
            if role == "supervisor":
                platform.kill()
                platform.start()
                self.done.append(role)
            elif platform.signal(role, signal.SIGKILL) is not None:
                self.done.append(role)


def _wait_for_a_run(platform: RunningPlatform) -> None:
    ends = time.monotonic() + RUN_S
    while not platform.pids("run") and time.monotonic() < ends:
        time.sleep(LOOK_S)
