"""Group rates from one confusion cube, compared so that chance does not look like harm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from mainspring.core.errors import InvalidInput
from mainspring.stats.interval import Interval, katz, normal_tail, proportions_z, wilson

RateName = Literal["selection", "tpr", "fpr", "fnr", "ppv", "accuracy", "base"]
Outcome = Literal["pass", "fail", "inconclusive"]

MIN_ROWS = 100
MIN_DENOMINATOR = 30


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of one group by label and decision."""

    tn: int
    fp: int
    fn: int
    tp: int

    @property
    def rows(self) -> int:
        return self.tn + self.fp + self.fn + self.tp

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.tn + other.tn, self.fp + other.fp, self.fn + other.fn, self.tp + other.tp
        )


@dataclass(frozen=True, slots=True)
class Cube:
    """Confusion counts per group, groups sorted by name."""

    groups: tuple[str, ...]
    counts: tuple[Counts, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """k of n rows."""

    k: int
    n: int

    @property
    def value(self) -> float:
        """The share, NaN without rows."""
        return self.k / self.n if self.n else float("nan")

    def interval(self, level: float = 0.95) -> Interval:
        """Bound the share (Wilson)."""
        return wilson(self.k, self.n, level=level)


@dataclass(frozen=True, slots=True)
class AgainstRest:
    """One group's rate against all other judged groups together; p is adjusted by Holm."""

    group: str
    rate: float
    rest: float
    p: float


@dataclass(frozen=True, slots=True)
class RatioVerdict:
    """The lowest group's rate as a share of the highest's.

    Attributes:
        outcome: pass = every group's lower bound is at or above the bound; fail = the lowest
            group's upper bound is below it and, with more than two groups, that group also
            differs from the rest after Holm; else inconclusive.
        ratio: Point estimate, NaN when nothing could be judged.
        interval: Katz interval of the lowest against the highest group.
        lowest: Name of the group with the lowest rate.
        highest: Name of the group with the highest rate.
        rows: Rows of the judged groups in the rate's denominator.
        against_rest: Each judged group against the others.
        too_small: Groups left out for lack of rows.
    """

    outcome: Outcome
    ratio: float
    interval: Interval
    lowest: str
    highest: str
    rows: int
    against_rest: tuple[AgainstRest, ...]
    too_small: tuple[str, ...]


def confusion_cube(groups: ArrayLike, y: ArrayLike, decision: ArrayLike) -> Cube:
    """Count rows by group, label and decision."""
    names, index = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    cell = index * 4 + (np.asarray(y) == 1) * 2 + (np.asarray(decision) == 1)
    table = np.bincount(cell, minlength=names.size * 4).reshape(-1, 4)
    return Cube(tuple(names.tolist()), tuple(Counts(*row) for row in table.tolist()))


def rate(counts: Counts, name: RateName) -> Rate:
    """Read one rate off the counts.

    >>> rate(Counts(tn=520, fp=80, fn=60, tp=240), "tpr")
    Rate(k=240, n=300)
    """
    c = counts
    match name:
        case "selection":
            return Rate(c.tp + c.fp, c.rows)
        case "tpr":
            return Rate(c.tp, c.tp + c.fn)
        case "fnr":
            return Rate(c.fn, c.tp + c.fn)
        case "fpr":
            return Rate(c.fp, c.fp + c.tn)
        case "ppv":
            return Rate(c.tp, c.tp + c.fp)
        case "accuracy":
            return Rate(c.tp + c.tn, c.rows)
        case "base":
            return Rate(c.tp + c.fn, c.rows)
        case _:
            raise InvalidInput(f"rate {name!r}: expected one of {', '.join(get_args(RateName))}")


def equalised_odds_difference(cube: Cube) -> float:
    """Larger of the gaps in true and false positive rate over the groups that have them."""
    gaps = []
    names: tuple[RateName, ...] = ("tpr", "fpr")
    for name in names:
        values = [found.value for found in (rate(c, name) for c in cube.counts) if found.n]
        gaps.append(max(values) - min(values) if values else 0.0)
    return max(gaps)


def each_against_rest(cube: Cube, name: RateName) -> tuple[AgainstRest, ...]:
    """Test every group against all others, adjusted so that one false find stays at the level."""
    rates = [rate(counts, name) for counts in cube.counts]
    k, n = sum(r.k for r in rates), sum(r.n for r in rates)
    rests = [Rate(k - r.k, n - r.n) for r in rates]
    raw = [
        normal_tail(proportions_z(r.k, r.n, rest.k, rest.n)) if r.n and rest.n else 1.0
        for r, rest in zip(rates, rests, strict=True)
    ]
    return tuple(
        AgainstRest(group, r.value, rest.value, p)
        for group, r, rest, p in zip(cube.groups, rates, rests, holm(raw), strict=True)
    )


def ratio_verdict(
    cube: Cube,
    *,
    name: RateName = "selection",
    bound: float = 0.8,
    min_rows: int = MIN_ROWS,
    alpha: float = 0.05,
) -> RatioVerdict:
    """Judge the four-fifths rule by interval, not by point: small groups differ by chance.

    Groups under `min_rows` rows, or 30 in the rate's denominator, are listed and not judged.
    """
    judged, too_small = _large_enough(cube, name, min_rows)
    rates = {group: rate(c, name) for group, c in zip(judged.groups, judged.counts, strict=True)}
    rows = sum(found.n for found in rates.values())
    if len(rates) < 2:
        nothing = Interval(float("nan"), float("nan"))
        return RatioVerdict("inconclusive", float("nan"), nothing, "", "", rows, (), too_small)
    lowest = min(rates, key=lambda group: rates[group].value)
    highest = max(rates, key=lambda group: rates[group].value)
    top = rates[highest]
    bounds = {g: katz(r.k, r.n, top.k, top.n, level=1 - alpha) for g, r in rates.items()}
    tests = each_against_rest(judged, name)
    differs = len(rates) == 2 or any(t.group == lowest and t.p < alpha for t in tests)
    outcome: Outcome = "inconclusive"
    if bounds[lowest].high < bound and differs:
        outcome = "fail"
    elif all(bounds[group].low >= bound for group in rates if group != highest):
        outcome = "pass"
    ratio = rates[lowest].value / top.value if top.k else 1.0
    return RatioVerdict(outcome, ratio, bounds[lowest], lowest, highest, rows, tests, too_small)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values so that any false find has at most the level's chance (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = running
    return tuple(adjusted)


def _large_enough(cube: Cube, name: RateName, min_rows: int) -> tuple[Cube, tuple[str, ...]]:
    kept: list[tuple[str, Counts]] = []
    too_small: list[str] = []
    for group, counts in zip(cube.groups, cube.counts, strict=True):
        if counts.rows < min_rows or rate(counts, name).n < MIN_DENOMINATOR:
            too_small.append(group)
        else:
            kept.append((group, counts))
    groups = tuple(group for group, _ in kept)
    return Cube(groups, tuple(counts for _, counts in kept)), tuple(too_small)
