"""Round ticks for numbers and for times."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

_DAY_S = 86_400
_DAY_STEPS = (1, 2, 7, 14)
_MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120)


def round_ticks(low: float, high: float, *, about: int = 4) -> list[float]:
    """Give evenly spaced round numbers that enclose a range.

    >>> round_ticks(0.641, 0.747)
    [0.64, 0.66, 0.68, 0.7, 0.72, 0.74, 0.76]
    >>> round_ticks(3.0, 3.0)
    [2.4, 2.6, 2.8, 3.0, 3.2, 3.4, 3.6]
    """
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5 + 1e-9
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.75)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    places = max(0, 2 - math.floor(math.log10(step)))
    return [round(i * step, places) for i in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """Write a tick with as many places as its step needs.

    >>> tick_label(0.7, 0.02), tick_label(12000.0, 4000.0)
    ('0.70', '12k')
    """
    if step >= 1000:
        return f"{value / 1000:g}k" if value else "0"
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if round(step, places) != step:
        places += 1
    return f"{value:.{places}f}"


def time_ticks(start: datetime, end: datetime, *, at_most: int) -> list[tuple[datetime, str]]:
    """Give round instants within a stretch, each with its label.

    >>> start = datetime(2013, 1, 10, tzinfo=UTC)
    >>> [label for _, label in time_ticks(start, datetime(2013, 6, 1, tzinfo=UTC), at_most=6)]
    ['Feb 2013', 'Mar', 'Apr', 'May', 'Jun']
    """
    length = max((end - start).total_seconds(), 1)
    for days in _DAY_STEPS:
        if length / (days * _DAY_S) <= at_most:
            return _dated(list(_days(start, end, days)))
    for months in _MONTH_STEPS:
        found = list(_months(start, end, months))
        if len(found) <= at_most:
            return _named(found)
    return []


def _days(start: datetime, end: datetime, step: int) -> Iterator[datetime]:
    first = math.ceil(start.timestamp() / _DAY_S)
    # Weeks are counted from a Monday; 1970 began on a Thursday.
    shift = 4 if step % 7 == 0 else 0
    first += -(first - shift) % step
    at = datetime.fromtimestamp(first * _DAY_S, UTC)
    while at <= end:
        yield at
        at += timedelta(days=step)


def _months(start: datetime, end: datetime, step: int) -> Iterator[datetime]:
    count = start.year * 12 + start.month - 1
    if start > datetime(start.year, start.month, 1, tzinfo=UTC):
        count += 1
    count += -count % step
    while (at := datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)) <= end:
        yield at
        count += step


def _dated(found: Sequence[datetime]) -> list[tuple[datetime, str]]:
    return [(at, f"{at.day} {at:%b}") for at in found]


def _named(found: Sequence[datetime]) -> list[tuple[datetime, str]]:
    return [
        (at, f"{at:%b %Y}" if place == 0 or at.month == 1 else f"{at:%b}")
        for place, at in enumerate(found)
    ]
