"""Predictions from several threads, and a book outside of the platform of what was answered."""

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
from small_driver import HISTORY
from small_world import SmallWorld
from sqlalchemy import text
from wire_driver import Predictor

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.platform import Platform

ROWS = 3


@dataclass(slots=True)
class Load:
    """Asks until it is stopped; each request has keys and an id of its own.

    Every request is repeated until it is answered, so none is left in doubt.
    """

    url: str
    book: Path
    threads: int = 4
    pause_s: float = 0.0
    longest_s: float = 0.0
    """The longest that one request took, its repeats included."""
    repeats: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _failed: list[BaseException] = field(default_factory=list)
    _running: list[threading.Thread] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Load":
        self._running = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(self.threads)
        ]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._running:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def answered(self) -> list[str]:
        """Give the keys of the rows that were answered so far."""
        return self.book.read_text("utf-8").split() if self.book.exists() else []

    def goes_on(self, requests: int = 20, *, within_s: float = 20.0) -> None:
        """Wait until so many further requests were answered."""
        wanted, ends = len(self.answered()) + requests * ROWS, time.monotonic() + within_s
        while len(self.answered()) < wanted:
            if self._failed:
                raise self._failed[0]
            assert time.monotonic() < ends, "predictions do not go on"
            time.sleep(0.01)

    def _ask(self, thread: int) -> None:
        predictor = Predictor(self.url)
        rows = SmallWorld().parts(HISTORY).head(ROWS)
        number = 0
        try:
            while not self._over.wait(self.pause_s):
                keys = [f"{os.getpid()}-{thread}-{number}-{row}" for row in range(ROWS)]
                begun = time.monotonic()
                predictor.predict(
                    rows.with_columns(part_id=pl.Series(keys)), request_id=f"{thread}-{number}"
                )
                self._note(keys, time.monotonic() - begun)
                number += 1
        except BaseException as error:
            self._failed.append(error)
        finally:
            self.repeats += predictor.repeats
            predictor.close()

    def _note(self, keys: list[str], took_s: float) -> None:
        with self._lock, self.book.open("a") as book:
            book.write("".join(f"{key}\n" for key in keys))
            self.longest_s = max(self.longest_s, took_s)


def recorded(home: Path) -> Counter[str]:
    """Compact, and count the predictions that count by key."""
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        monitoring = platform.project("default").stages.monitoring
        monitoring.compact()
        with platform.database.read() as connection:
            rows = connection.execute(text("SELECT key FROM prediction WHERE repeat_of IS NULL"))
            return Counter(str(key) for (key,) in rows)


def left_out(home: Path) -> int:
    """Give the rows that compaction was told are missing."""
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        platform.project("default").stages.monitoring.compact()
        with platform.database.read() as connection:
            return int(connection.scalar(text("SELECT sum(left_out) FROM segment_range")) or 0)
