"""Bars the candidate must clear by itself: floors, cases, groups, calibration."""

from collections.abc import Mapping
from math import isfinite
from typing import assert_never, cast

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.calibration import (
    calibration_line,
    spiegelhalter_z,
    squared_calibration_error,
)
from mainspring.stats.fairness import MIN_DENOMINATOR, confusion_cube, ratio_verdict
from mainspring.stats.interval import normal_quantile
from mainspring.stats.loss import brier_rows
from mainspring.stats.paired import block_mean
from mainspring.validation.comparison import FEWEST_BLOCKS, Ground, unmeasurable
from mainspring.validation.measure import measure
from mainspring.validation.slice import Scores
from mainspring.validation.spec import (
    ALPHA,
    CalibrationBar,
    Case,
    FairnessBar,
    GroupLoss,
    Metric,
    NoGroupWorse,
)
from mainspring.validation.verdict import Finding, FindingOutcome, number

Floats = NDArray[np.float64]


def floor_findings(ground: Ground, candidate: Scores) -> list[Finding]:
    """Hold the candidate's own metrics against their worst accepted values."""
    findings = []
    for name, bound in sorted(ground.gate.floors.items()):
        # Gate has checked the names.
        metric = cast(Metric, name)
        what = f"floor of {candidate.version}"
        if not ground.measurable(metric):
            findings.append(unmeasurable(ground, what, metric))
            continue
        found = measure(metric, ground.rows, candidate, seed=ground.seed)
        outcome = (
            ground.outcome(found.low, found.high, bound)
            if metric == "auc"
            else ground.outcome(-found.high, -found.low, -bound)
        )
        findings.append(
            Finding(
                what=what,
                metric=metric,
                observed=number(found.value),
                low=number(found.low),
                high=number(found.high),
                bound=bound,
                rows=found.rows,
                method=found.method,
                outcome=outcome,
            )
        )
    return findings


def case_findings(cases: tuple[Case, ...], answers: Mapping[str, float]) -> list[Finding]:
    """Hold each named row against its answer; no answer is a miss."""
    return [_case(case, answers.get(case.name)) for case in cases]


def fairness_finding(
    ground: Ground, bar: FairnessBar | NoGroupWorse, candidate: Scores, champion: Scores | None
) -> Finding:
    """Hold the groups of one column against their bar."""
    if bar.column not in ground.rows.groups:
        known = ", ".join(sorted(ground.rows.groups)) or "none"
        raise InvalidInput(
            f"fairness of {bar.column!r}: found groups of {known} in the slice; "
            "give the slice this column's values"
        )
    groups = np.asarray(ground.rows.groups[bar.column]).astype(str)
    if ground.rows.rows == 0:
        return unmeasurable(ground, f"groups of {bar.column}", "group rate")
    match bar:
        case FairnessBar():
            return _ratio(ground, bar, groups, candidate)
        case NoGroupWorse():
            return _no_group_worse(ground, bar, groups, candidate, champion)
    assert_never(bar)


def calibration_findings(ground: Ground, bar: CalibrationBar, candidate: Scores) -> list[Finding]:
    """Hold the calibration slope against its range and report two other views of it."""
    what = f"calibration of {candidate.version}"
    if not ground.measurable("auc"):
        return [unmeasurable(ground, what, "slope")]
    y, p, rows = ground.rows.y, candidate.clipped, ground.rows.rows
    line = calibration_line(y, p, ground.rows.blocks)
    half = normal_quantile(1 - ALPHA) * line.slope_se
    low, high = line.slope - half, line.slope + half
    inside = low >= bar.slope_low and high <= bar.slope_high
    outside = high < bar.slope_low or low > bar.slope_high
    outcome: FindingOutcome = "inconclusive"
    if ground.enough and line.converged:
        outcome = "pass" if inside else "fail" if outside else "inconclusive"
    slope = Finding(
        what=what,
        metric="slope",
        observed=number(line.slope),
        low=number(low),
        high=number(high),
        bound=bar.slope_low if line.slope < 1 else bar.slope_high,
        rows=rows,
        method="logistic line, errors by block",
        outcome=outcome,
        note="" if line.converged else "the line did not converge: classes apart or equal scores",
    )
    noted = {
        "debiased squared error": squared_calibration_error(y, p),
        "Spiegelhalter z": spiegelhalter_z(y, p),
    }
    return [slope] + [
        Finding(what=what, metric=name, observed=number(value), rows=rows, outcome="noted")
        for name, value in noted.items()
    ]


def _case(case: Case, answer: float | None) -> Finding:
    low = 0.0 if case.at_least is None else case.at_least
    high = 1.0 if case.at_most is None else case.at_most
    given = answer is not None and isfinite(answer)
    met = answer is not None and given and low <= answer <= high
    notes = [f"expected {low:g} to {high:g}"]
    if not given:
        notes.append(f"found {'no answer' if answer is None else answer}")
    if case.owner:
        notes.append(f"owner {case.owner}")
    return Finding(
        what=f"case {case.name}",
        metric="answer",
        observed=number(answer) if answer is not None else None,
        bound=case.at_least if case.at_least is not None else case.at_most,
        rows=1,
        method="exact",
        outcome="pass" if met else "fail",
        note=", ".join(notes),
    )


def _ratio(
    ground: Ground, bar: FairnessBar, groups: NDArray[np.str_], candidate: Scores
) -> Finding:
    cube = confusion_cube(groups, ground.rows.y, candidate.clipped >= bar.threshold)
    found = ratio_verdict(cube, name=bar.rate, bound=bar.bound, min_rows=bar.min_rows)
    pair = f"{found.lowest} against {found.highest}" if found.lowest else "under two groups"
    return Finding(
        what=f"{bar.rate} ratio over {bar.column}",
        metric="ratio",
        observed=number(found.ratio),
        low=number(found.interval.low),
        high=number(found.interval.high),
        bound=bar.bound,
        rows=found.rows,
        method="Katz 95 %, lowest group against the rest by Holm",
        outcome=found.outcome if ground.enough else "inconclusive",
        note=pair + _too_small(found.too_small),
    )


def _no_group_worse(
    ground: Ground,
    bar: NoGroupWorse,
    groups: NDArray[np.str_],
    candidate: Scores,
    champion: Scores | None,
) -> Finding:
    what = f"{bar.loss} of no group of {bar.column} worse"
    if champion is None:
        return Finding(
            what=what, metric=f"{bar.loss} gain", rows=0, outcome="noted", note="no champion yet"
        )
    y, cut = ground.rows.y, bar.threshold
    gain = _group_loss(bar.loss, y, champion, cut) - _group_loss(bar.loss, y, candidate, cut)
    eligible = y == 1 if bar.loss == "miss" else np.ones(y.size, bool)
    members = {str(name): eligible & (groups == name) for name in np.unique(groups)}
    sizes = {name: int(np.count_nonzero(groups == name)) for name in members}
    judged = {
        name: at
        for name, at in members.items()
        if sizes[name] >= bar.min_rows and np.count_nonzero(at) >= MIN_DENOMINATOR
    }
    too_small = tuple(name for name in members if name not in judged)
    if not judged:
        note = "no group is large enough" + _too_small(too_small)
        return Finding(
            what=what, metric=f"{bar.loss} gain", rows=0, outcome="inconclusive", note=note
        )
    return _worst_group(ground, bar, gain, judged, too_small=too_small)


def _worst_group(
    ground: Ground,
    bar: NoGroupWorse,
    gain: Floats,
    judged: dict[str, NDArray[np.bool_]],
    *,
    too_small: tuple[str, ...],
) -> Finding:
    """Judge every group; failing any one shares the error among them, passing all needs none."""
    blocks, seed = ground.rows.blocks, ground.seed
    shared, single = 1 - 2 * ALPHA / len(judged), 1 - 2 * ALPHA
    bounds = {
        name: block_mean(gain[at], blocks[at], level=single, seed=seed)
        for name, at in judged.items()
    }
    tops = {
        name: block_mean(gain[at], blocks[at], level=shared, seed=seed).high
        for name, at in judged.items()
    }
    decidable = ground.enough and all(b.blocks >= FEWEST_BLOCKS for b in bounds.values())
    outcome: FindingOutcome = "inconclusive"
    if decidable and any(top < -bar.margin for top in tops.values()):
        outcome = "fail"
    elif decidable and all(b.low > -bar.margin for b in bounds.values()):
        outcome = "pass"
    worst = min(bounds, key=lambda name: tops[name] if outcome == "fail" else bounds[name].low)
    found = bounds[worst]
    return Finding(
        what=f"{bar.loss} of no group of {bar.column} worse",
        metric=f"{bar.loss} gain",
        observed=number(found.mean),
        low=number(found.low),
        high=number(tops[worst]),
        bound=-bar.margin,
        rows=found.rows,
        method=f"{found.method} over {found.blocks} blocks, upper bounds of {len(judged)} groups",
        outcome=outcome,
        note=f"worst group {worst}" + _too_small(too_small),
    )


def _group_loss(loss: GroupLoss, y: NDArray[np.int64], scores: Scores, cut: float) -> Floats:
    match loss:
        case "brier":
            return brier_rows(y, scores.clipped)
        case "miss" | "error":
            wrong = (scores.clipped >= cut) != (y == 1)
            return np.asarray(wrong, np.float64)
    assert_never(loss)


def _too_small(groups: tuple[str, ...]) -> str:
    if not groups:
        return ""
    named = ", ".join(groups[:5]) + ("" if len(groups) <= 5 else f" and {len(groups) - 5} more")
    return f"; too small to judge: {named}"
