"""The one clock: wall time as a value that is passed in, always aware UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

Instant = datetime
"""A point in time, aware and in UTC."""


class Clock(Protocol):
    """Wall time. Leases, time-outs, back-off and latency use it; event time never does."""

    def now(self) -> Instant:
        """Give the present, aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Give seconds that never go backwards, for durations."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Instant:
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()


class FrozenClock:
    """A clock that moves only when told to: tests and rehearsals.

    >>> clock = FrozenClock(datetime(2013, 1, 1, tzinfo=UTC))
    >>> clock.advance(timedelta(hours=1))
    >>> clock.now().isoformat()
    '2013-01-01T01:00:00+00:00'
    """

    def __init__(self, start: Instant) -> None:
        self._start = start
        self._now = start

    def now(self) -> Instant:
        return self._now

    def monotonic_s(self) -> float:
        return (self._now - self._start).total_seconds()

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self._now += by


def utc(value: datetime) -> Instant:
    """Return the instant in UTC; naive times are refused because they name no instant."""
    if value.tzinfo is None:
        raise ValueError(f"{value.isoformat()} has no time zone; give an aware time, such as ...Z")
    return value.astimezone(UTC)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str) -> timedelta:
    """Read a duration: a whole number and one of s, m, h, d, w.

    >>> duration("90m")
    datetime.timedelta(seconds=5400)
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdigit() or int(number) == 0:
        raise ValueError(f"duration {text!r}: expected a positive whole number and s, m, h, d or w")
    return timedelta(seconds=int(number) * _UNITS[unit])
