"""What a user declares of a gate: plain frozen values that go through JSON unchanged."""

from collections.abc import Iterable
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidDeclaration
from mainspring.stats.fairness import RateName
from mainspring.stats.paired import rows_for_margin

Metric = Literal["log_loss", "auc", "brier"]
GroupLoss = Literal["miss", "error", "brier"]

ALPHA = 0.05
"""One-sided error of every bar; intervals are 90 % two-sided."""
POWER = 0.8
"""Chance that the hold-back is long enough for an equal candidate."""

PLANNING_SD: dict[Metric, float] = {"log_loss": 0.27, "auc": 0.37, "brier": 0.09}
"""Assumed sd of one row's paired difference until a gate has measured it: on the flights a
retrained model differed from the frozen one by this much; Brier is log loss times 2p(1-p)."""


class Better(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metric that decides, and the harm that still counts as "not worse".

    Attributes:
        metric: Losses are better when smaller, AUC when larger.
        margin: In the metric's unit.
        sd: Planning sd of one row's paired difference, None for `PLANNING_SD`.
    """

    metric: Metric
    margin: float
    sd: float | None = None

    def __post_init__(self) -> None:
        _known_metric(self.metric, where="better")
        _demand(
            isfinite(self.margin) and self.margin > 0,
            f"better: found margin {self.margin}, expected a positive number in the unit of "
            f"{self.metric}",
        )
        _demand(
            self.sd is None or (isfinite(self.sd) and self.sd > 0),
            f"better: found sd {self.sd}, expected a positive number or none",
        )


class FairnessBar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ratio"):
    """The lowest group's rate as a share of the highest's, judged by interval (four-fifths rule).

    Attributes:
        column: Whose values are the groups; a missing value is a group.
        bound: Smallest ratio accepted.
        rate: What is compared.
        min_rows: Smaller groups are named, not judged.
        threshold: Probability from which the decision is yes.
    """

    column: str
    bound: float = 0.8
    rate: RateName = "selection"
    min_rows: int = 100
    threshold: float = 0.5

    def __post_init__(self) -> None:
        where = f"fairness of {self.column!r}"
        _share(self.bound, where=where, what="bound")
        _share(self.threshold, where=where, what="threshold")
        _demand(
            self.rate in get_args(RateName),
            f"{where}: found rate {self.rate!r}, expected one of {', '.join(get_args(RateName))}",
        )
        _demand(self.min_rows > 0, f"{where}: found min_rows {self.min_rows}, expected 1 or more")


class NoGroupWorse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="no_group_worse"):
    """No group may be served worse than by the champion by more than a margin.

    The bar for columns whose groups truly differ in base rate, where a ratio can never pass.

    Attributes:
        column: Whose values are the groups.
        margin: Largest accepted growth of the mean loss in any group.
        loss: "miss" = positives answered no, "error" = wrong decisions, "brier" = squared error.
        min_rows: Smaller groups are named, not judged.
        threshold: Probability from which the decision is yes.
    """

    column: str
    margin: float
    loss: GroupLoss = "miss"
    min_rows: int = 100
    threshold: float = 0.5

    def __post_init__(self) -> None:
        where = f"fairness of {self.column!r}"
        _share(self.margin, where=where, what="margin")
        _share(self.threshold, where=where, what="threshold")
        _demand(
            self.loss in get_args(GroupLoss),
            f"{where}: found loss {self.loss!r}, expected one of {', '.join(get_args(GroupLoss))}",
        )
        _demand(self.min_rows > 0, f"{where}: found min_rows {self.min_rows}, expected 1 or more")


class CalibrationBar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the calibration slope must lie: 1 is perfect, below 1 is too sure of itself."""

    slope_low: float = 0.8
    slope_high: float = 1.25

    def __post_init__(self) -> None:
        _demand(
            0 < self.slope_low < self.slope_high and isfinite(self.slope_high),
            f"calibration: found slopes {self.slope_low} to {self.slope_high}, "
            "expected 0 < low < high",
        )


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named row whose answer is known, such as an incident that must not come back.

    Attributes:
        name: Unique in its gate.
        row: The request, column to JSON scalar.
        at_least: Smallest accepted probability.
        at_most: Largest accepted probability.
        owner: Who is asked when it fails.
    """

    name: str
    row: dict[str, Any]
    at_least: float | None = None
    at_most: float | None = None
    owner: str = ""

    def __post_init__(self) -> None:
        where = f"case {self.name!r}"
        _demand(
            self.at_least is not None or self.at_most is not None,
            f"{where}: found neither at_least nor at_most, expected one or both",
        )
        low = 0.0 if self.at_least is None else self.at_least
        high = 1.0 if self.at_most is None else self.at_most
        _demand(
            0 <= low <= high <= 1,
            f"{where}: found at_least {self.at_least} and at_most {self.at_most}, "
            "expected probabilities with at_least <= at_most",
        )
        odd = [name for name, value in self.row.items() if not _json_scalar(value)]
        _demand(
            not odd,
            f"{where}: found {', '.join(odd)} with values that are no JSON scalars, "
            "expected texts, numbers, true, false or null",
        )


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a candidate must show before it may take traffic.

    Attributes:
        floors: Metric to its worst accepted value (a ceiling for losses), judged by interval.
        better: The comparison with champion and kept versions.
        fairness: Bars on groups.
        cases: Named rows.
        calibration: Bar on the calibration slope.
        deadline: How long an inconclusive verdict may wait.
        min_rows: Labelled rows below which nothing statistical is concluded.
        block: Length of event time whose rows are drawn together, because they share what moves
            the loss: a day where days differ.
    """

    floors: dict[str, float]
    better: Better
    fairness: tuple[FairnessBar | NoGroupWorse, ...] = ()
    cases: tuple[Case, ...] = ()
    calibration: CalibrationBar | None = None
    deadline: str = "14d"
    min_rows: int = 2000
    block: str = "1d"

    if TYPE_CHECKING:

        def __init__(
            self,
            floors: dict[str, float],
            better: Better,
            fairness: Iterable[FairnessBar | NoGroupWorse] = (),
            cases: Iterable[Case] = (),
            calibration: CalibrationBar | None = None,
            deadline: str = "14d",
            min_rows: int = 2000,
            block: str = "1d",
        ) -> None: ...

    def __post_init__(self) -> None:
        # A project file may well say fairness=[...].
        msgspec.structs.force_setattr(self, "fairness", tuple(self.fairness))
        msgspec.structs.force_setattr(self, "cases", tuple(self.cases))
        for metric, bound in self.floors.items():
            _known_metric(metric, where="floors")
            _demand(isfinite(bound), f"floors: found {metric} {bound}, expected a finite number")
        twice = _repeated(case.name for case in self.cases)
        _demand(not twice, f"cases: found {', '.join(twice)} more than once, expected unique names")
        _demand(self.min_rows > 0, f"gate: found min_rows {self.min_rows}, expected 1 or more")
        for name in ("deadline", "block"):
            try:
                duration(getattr(self, name))
            except ValueError as error:
                raise InvalidDeclaration(f"gate {name}: {error}") from error

    def group_columns(self) -> tuple[str, ...]:
        """Columns whose values the slice must carry, each once."""
        return tuple(dict.fromkeys(bar.column for bar in self.fairness))


def rows_needed(gate: Gate, *, measured_sd: float | None) -> int:
    """Newest labelled rows to hold back, so that an equal candidate is shown not to be worse.

    Args:
        gate: Its margin, planning sd and smallest number of rows.
        measured_sd: `Verdict.planning_sd` of the endpoint's last gate, None before the first.

    >>> rows_needed(Gate({}, Better("log_loss", 0.005)), measured_sd=None)
    18029
    """
    sd = measured_sd or gate.better.sd or PLANNING_SD[gate.better.metric]
    needed = rows_for_margin(sd, gate.better.margin, alpha=ALPHA, power=POWER)
    return max(gate.min_rows, needed)


def _known_metric(metric: str, *, where: str) -> None:
    names = ", ".join(get_args(Metric))
    _demand(
        metric in get_args(Metric), f"{where}: found metric {metric!r}, expected one of {names}"
    )


def _share(value: float, *, where: str, what: str) -> None:
    _demand(0 < value < 1, f"{where}: found {what} {value}, expected a share between 0 and 1")


def _json_scalar(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return value is None or isinstance(value, str | int)


def _repeated(names: Iterable[str]) -> list[str]:
    every = list(names)
    return sorted({name for name in every if every.count(name) > 1})


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise InvalidDeclaration(otherwise)
