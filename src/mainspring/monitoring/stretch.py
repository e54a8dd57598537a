"""The stretch of labels that an alarm speaks of: since the loss last ran within its tolerance."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """Sums since the excess over the tolerance was last used up (Page's cumulative sum).

    The detector weighs every possible beginning; this is the likeliest one, for people. Losses
    are scaled as the detector takes them.

    Attributes:
        since_us: Eligibility of the first label of the stretch; None while there is no excess.
        labels: Labels in it.
        realised: Sum of their losses; `expected` of those the version expected.
        excess: Sum of realised minus expected minus tolerance, above 0 within a stretch.
    """

    since_us: int | None = None
    labels: int = 0
    realised: float = 0.0
    expected: float = 0.0
    excess: float = 0.0


NO_STRETCH = Stretch()


def extend(
    stretch: Stretch, rows: Iterable[tuple[int, float, float]], *, tolerance: float
) -> Stretch:
    """Take in labels as (eligibility, realised, expected), in order.

    A batch ends in the same bits as its rows one by one.

    >>> worse = extend(Stretch(), [(1, 0.5, 0.5), (2, 0.9, 0.5), (3, 0.9, 0.5)], tolerance=0.1)
    >>> worse.since_us, worse.labels, round(worse.realised / worse.labels, 6)
    (2, 2, 0.9)
    >>> extend(worse, [(4, 0.0, 0.9)], tolerance=0.1)
    Stretch(since_us=None, labels=0, realised=0.0, expected=0.0, excess=0.0)
    """
    since_us, labels = stretch.since_us, stretch.labels
    realised, expected, excess = stretch.realised, stretch.expected, stretch.excess
    for eligible_us, lost, feared in rows:
        excess += lost - feared - tolerance
        if excess <= 0:
            since_us, labels, realised, expected, excess = None, 0, 0.0, 0.0, 0.0
            continue
        since_us = eligible_us if since_us is None else since_us
        labels, realised, expected = labels + 1, realised + lost, expected + feared
    return Stretch(since_us, labels, realised, expected, excess)
