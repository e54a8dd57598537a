"""Instants as whole microseconds since 1970 UTC, as segments and tables carry them."""

from datetime import UTC, datetime, timedelta

from mainspring.core.clock import Instant, utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(instant: Instant) -> int:
    """Count microseconds, exactly; a naive time is refused."""
    if instant.tzinfo is None:
        utc(instant)  # says what is wrong
    return (instant - _EPOCH) // _MICROSECOND


def instant(us: int) -> Instant:
    """Give the instant back."""
    return _EPOCH + us * _MICROSECOND


def span(length: timedelta) -> int:
    """Count the microseconds of a duration."""
    return length // _MICROSECOND


def day_of(us: int) -> str:
    """Name the UTC day, as partitions are named.

    >>> day_of(1_364_774_400_000_000)
    '2013-04-01'
    """
    return instant(us).date().isoformat()
