"""Groups and calibration: what their bars refuse."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput
from mainspring.validation import (
    Better,
    CalibrationBar,
    FairnessBar,
    Finding,
    Gate,
    NoGroupWorse,
    Scores,
    Slice,
    judge,
)

ROWS = 9000
RNG = np.random.default_rng(0)
TRUTH = RNG.beta(2, 3, ROWS)
SEX = np.where(np.arange(ROWS) % 2 == 0, "f", "m")
DAY = np.arange(ROWS) * 45 // ROWS
Y = (RNG.random(ROWS) < TRUTH).astype(np.int64)
WOBBLE = RNG.normal(0, 0.1, ROWS)


def found(
    bar: FairnessBar | NoGroupWorse,
    candidate: Sequence[float] | NDArray[np.float64],
    champion: NDArray[np.float64] | None = None,
    groups: NDArray[np.str_] = SEX,
    days: NDArray[np.int64] = DAY,
) -> Finding:
    gate = Gate({}, Better("log_loss", 0.01), fairness=(bar,))
    rows = Slice(Y, days, {"sex": groups})
    old = Scores("1", champion) if champion is not None else None
    verdict = judge(gate, rows, Scores("2", np.asarray(candidate)), old, (), {}, seed=0)
    return next(f for f in verdict.findings if "sex" in f.what)


@pytest.mark.parametrize(
    ("push", "outcome"), [(0.0, "pass"), (-0.25, "fail"), (-0.047, "inconclusive")]
)
def test_the_ratio_of_selection_is_judged_by_its_interval(push: float, outcome: str) -> None:
    candidate = np.clip(TRUTH + np.where(SEX == "f", push, 0.0), 0, 1)

    finding = found(FairnessBar("sex"), candidate)

    assert finding.outcome == outcome
    assert finding.bound == 0.8
    if push:
        assert "f against m" in finding.note


def test_groups_too_small_are_named_and_not_judged() -> None:
    groups = SEX.copy().astype("<U9")
    groups[:40] = "other"

    finding = found(FairnessBar("sex"), TRUTH, groups=groups)

    assert finding.outcome == "pass"
    assert "too small to judge: other" in finding.note


def test_one_group_alone_cannot_be_judged() -> None:
    finding = found(FairnessBar("sex"), TRUTH, groups=np.full(ROWS, "f"))

    assert finding.outcome == "inconclusive"
    assert finding.observed is None


@pytest.mark.parametrize("loss", ["miss", "error", "brier"])
@pytest.mark.parametrize(("push", "outcome"), [(0.0, "pass"), (-0.9, "fail")])
def test_a_group_served_worse_than_by_the_champion_is_refused(
    loss: str, push: float, outcome: str
) -> None:
    champion = np.clip(TRUTH + WOBBLE, 0, 1)
    candidate = np.clip(TRUTH - WOBBLE + np.where(SEX == "f", push, 0.0), 0, 1)
    bar = NoGroupWorse("sex", margin=0.05, loss=loss)  # type: ignore[arg-type]

    finding = found(bar, candidate, champion)

    assert finding.outcome == outcome
    if push:
        assert "worst group f" in finding.note


def test_without_a_champion_no_group_can_be_worse() -> None:
    finding = found(NoGroupWorse("sex", margin=0.05), TRUTH)

    assert finding.outcome == "noted"
    assert finding.note == "no champion yet"


def test_equal_models_on_many_groups_do_not_fail_by_chance() -> None:
    failed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        groups = rng.choice(list("abcdefgh"), ROWS)
        champion = np.clip(TRUTH + rng.normal(0, 0.2, ROWS), 0, 1)
        candidate = np.clip(TRUTH + rng.normal(0, 0.2, ROWS), 0, 1)
        bar = NoGroupWorse("sex", margin=0.001, loss="brier")
        failed += found(bar, candidate, champion, groups, DAY // 2).outcome == "fail"

    assert failed <= 6


def test_the_bound_that_fails_a_group_is_shared_among_the_groups() -> None:
    champion = np.clip(TRUTH + WOBBLE, 0, 1)
    bar = NoGroupWorse("sex", margin=0.05, loss="brier")

    finding = found(bar, TRUTH, champion, RNG.choice(list("abcd"), ROWS), DAY // 2)

    assert finding.observed is not None
    assert finding.low is not None
    assert finding.high is not None
    assert finding.high - finding.observed > 1.2 * (finding.observed - finding.low)


def test_a_column_the_slice_does_not_carry_is_refused() -> None:
    with pytest.raises(InvalidInput, match="found groups of sex"):
        found(FairnessBar("race"), TRUTH)


@pytest.mark.parametrize(
    ("power", "outcome"), [(1.0, "pass"), (2.0, "fail"), (0.5, "fail"), (1.25, "inconclusive")]
)
def test_the_calibration_slope_is_judged_by_its_interval(power: float, outcome: str) -> None:
    odds = (TRUTH / (1 - TRUTH)) ** power
    gate = Gate({}, Better("log_loss", 0.01), calibration=CalibrationBar())

    verdict = judge(gate, Slice(Y, DAY), Scores("2", odds / (1 + odds)), None, (), {}, seed=0)

    slope, *others = [f for f in verdict.findings if "calibration" in f.what]
    assert slope.outcome == verdict.outcome == outcome
    assert slope.observed == pytest.approx(1 / power, rel=0.1)
    assert {f.metric for f in others} == {"debiased squared error", "Spiegelhalter z"}
    assert {f.outcome for f in others} == {"noted"}


def test_equal_answers_have_no_slope_and_stay_open() -> None:
    gate = Gate({}, Better("log_loss", 0.01), calibration=CalibrationBar())

    verdict = judge(gate, Slice(Y, DAY), Scores("2", np.full(ROWS, 0.4)), None, (), {}, seed=0)

    assert verdict.outcome == "inconclusive"
    assert "did not converge" in verdict.reason
