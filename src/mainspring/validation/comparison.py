"""The candidate against champion and kept versions on the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mainspring.validation.measure import Measured, improvement, measure
from mainspring.validation.slice import Scores, Slice
from mainspring.validation.spec import ALPHA, Gate, Metric
from mainspring.validation.verdict import Finding, FindingOutcome, number

FEWEST_BLOCKS = 10
"""Below this no interval over blocks deserves its name."""
SAME = 1e-6
"""A gain smaller than this is rounding: a copy of the champion never counts as better."""
AUC_MARGIN = 0.005
RELATIVE_LOSS_MARGIN = 0.01


@dataclass(frozen=True, slots=True)
class Ground:
    """What every comparison of one verdict stands on."""

    gate: Gate
    rows: Slice
    seed: int

    @property
    def enough(self) -> bool:
        """True when statistical findings may decide."""
        return self.rows.rows >= self.gate.min_rows and self.rows.block_count >= FEWEST_BLOCKS

    def measurable(self, metric: Metric) -> bool:
        """True when the metric exists on these rows; an area needs both classes."""
        both = 0 < self.rows.positives < self.rows.rows
        return both if metric == "auc" else self.rows.rows > 0

    def outcome(self, low: float, high: float, bound: float) -> FindingOutcome:
        """Conclude "at or above the bound" from an interval, never from too few rows."""
        if self.enough and low >= bound:
            return "pass"
        return "fail" if self.enough and high < bound else "inconclusive"


def size_finding(ground: Ground) -> Finding:
    """Say whether the slice can bear a conclusion."""
    rows, blocks = ground.rows.rows, ground.rows.block_count
    return Finding(
        what="labelled rows of the slice",
        metric="rows",
        observed=float(rows),
        bound=float(ground.gate.min_rows),
        rows=rows,
        outcome="pass" if ground.enough else "inconclusive",
        note=f"in {blocks} blocks, expected at least {FEWEST_BLOCKS}",
    )


def against(ground: Ground, candidate: Scores, other: Scores, *, role: str) -> Finding:
    """Find whether the candidate is worse than one version by more than the margin."""
    better = ground.gate.better
    what = f"{candidate.version} not worse than {role} {other.version}"
    if not ground.measurable(better.metric):
        return unmeasurable(ground, what, better.metric)
    found = improvement(better.metric, ground.rows, candidate, other, seed=ground.seed)
    outcome = ground.outcome(found.low, found.high, -better.margin)
    return difference_finding(what, better.metric, found, bound=-better.margin, outcome=outcome)


def better_than_champion(ground: Ground, candidate: Scores, champion: Scores) -> Finding:
    """Find whether the point estimate is better than the champion's."""
    metric = ground.gate.better.metric
    what = f"{candidate.version} better than champion {champion.version}"
    if not ground.measurable(metric):
        return unmeasurable(ground, what, metric)
    found = improvement(metric, ground.rows, candidate, champion, seed=ground.seed)
    gained = found.value > SAME
    outcome: FindingOutcome = "pass" if gained else "fail"
    finding = difference_finding(
        what, metric, found, bound=0.0, outcome=outcome if ground.enough else "inconclusive"
    )
    return finding if gained else _noting(finding, "not better")


def secondary(ground: Ground, candidate: Scores, champion: Scores) -> list[Finding]:
    """Report the other metrics; each refuses only harm shown beyond its own margin."""
    findings = []
    metrics: tuple[Metric, ...] = ("auc", "log_loss", "brier")
    for metric in metrics:
        if metric == ground.gate.better.metric or not ground.measurable(metric):
            continue
        margin = AUC_MARGIN
        if metric != "auc":
            level = measure(metric, ground.rows, champion, seed=ground.seed).value
            margin = RELATIVE_LOSS_MARGIN * level
        found = improvement(metric, ground.rows, candidate, champion, seed=ground.seed)
        harmed = ground.enough and found.high < -margin
        findings.append(
            difference_finding(
                f"{candidate.version} against champion {champion.version}, secondary",
                metric,
                found,
                bound=-margin,
                outcome="fail" if harmed else "noted",
            )
        )
    return findings


def kept_against_champion(
    ground: Ground, champion: Scores, kept: Sequence[Scores]
) -> tuple[str | None, list[Finding]]:
    """Look for a kept version that beats the champion by its interval.

    The error is shared among the kept versions, because the best of several looks better than it
    is. Of those that beat the champion the one with the largest gain is named.
    """
    metric = ground.gate.better.metric
    if not ground.measurable(metric):
        return None, []
    best: tuple[float, str] | None = None
    findings = []
    for version in kept:
        found = improvement(
            metric, ground.rows, version, champion, seed=ground.seed, alpha=ALPHA / len(kept)
        )
        beats = ground.enough and found.low > 0 and found.value > SAME
        if beats and (best is None or (found.value, version.version) > best):
            best = (found.value, version.version)
        finding = difference_finding(
            f"kept {version.version} against champion {champion.version}",
            metric,
            found,
            bound=0.0,
            outcome="noted",
        )
        findings.append(_noting(finding, "grounds to restore it") if beats else finding)
    return (best[1] if best else None), findings


def best_kept(ground: Ground, kept: Sequence[Scores]) -> str | None:
    """Choose the kept version to restore in place of a champion that cannot answer."""
    metric = ground.gate.better.metric
    if not ground.enough or not ground.measurable(metric) or not kept:
        return None
    sign = 1 if metric == "auc" else -1
    values = {
        version.version: sign * measure(metric, ground.rows, version, seed=ground.seed).value
        for version in kept
    }
    return max(values, key=lambda version: (values[version], version))


def difference_finding(
    what: str, metric: str, found: Measured, *, bound: float, outcome: FindingOutcome
) -> Finding:
    """Word a measured difference."""
    return Finding(
        what=what,
        metric=f"{metric} gain",
        observed=number(found.value),
        low=number(found.low),
        high=number(found.high),
        bound=bound,
        rows=found.rows,
        method=found.method,
        outcome=outcome,
    )


def unmeasurable(ground: Ground, what: str, metric: str) -> Finding:
    """Word a metric that does not exist on this slice."""
    return Finding(
        what=what,
        metric=metric,
        rows=ground.rows.rows,
        outcome="inconclusive",
        note=f"{ground.rows.positives} positives in {ground.rows.rows} rows give no {metric}; "
        "wait for more labels",
    )


def _noting(finding: Finding, note: str) -> Finding:
    return msgspec.structs.replace(finding, note=note)
