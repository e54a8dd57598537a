"""The gate: declarations, rows and scores in, a verdict out."""

from collections.abc import Mapping, Sequence

from mainspring.core.errors import InvalidInput
from mainspring.stats.paired import supported_margin
from mainspring.validation.bars import (
    calibration_findings,
    case_findings,
    fairness_finding,
    floor_findings,
)
from mainspring.validation.comparison import (
    Ground,
    against,
    best_kept,
    better_than_champion,
    kept_against_champion,
    secondary,
    size_finding,
)
from mainspring.validation.measure import Measured, improvement, row_sd
from mainspring.validation.slice import Scores, Slice
from mainspring.validation.spec import ALPHA, POWER, Gate
from mainspring.validation.verdict import Finding, Verdict, number, overall


def judge(
    gate: Gate,
    rows: Slice,
    candidate: Scores,
    champion: Scores | None,
    kept: Sequence[Scores],
    case_answers: Mapping[str, float],
    *,
    seed: int,
) -> Verdict:
    """Judge a candidate on rows that none of the compared versions was trained on.

    It passes when it clears every bar, is worse than neither the champion nor any kept version by
    more than the margin, and is better than the champion in point estimate. The order of rows
    and of kept versions does not matter; equal input and seed give an equal verdict.

    Args:
        gate: What must be shown.
        rows: The held-back slice.
        candidate: Its answers there. Any that is not a probability fails the verdict.
        champion: The live version's answers, None for the first version.
        kept: Earlier versions' answers; the champion or candidate among them is left out.
        case_answers: The candidate's answer to each case, by its name.
        seed: Of the block bootstrap.

    Raises:
        InvalidInput: Scores and slice differ in length, or a fairness column is missing.
    """
    ground = Ground(gate, rows, seed)
    earlier = _earlier(candidate, champion, kept)
    _same_length(rows, [candidate, *([champion] if champion else []), *earlier])
    sound_champion = champion if champion is not None and not champion.unusable else None
    sound_kept = [version for version in earlier if not version.unusable]

    findings = [size_finding(ground), _soundness(candidate), *_broken(champion, earlier)]
    compared: list[str] = []
    primary: Measured | None = None
    if not candidate.unusable:
        if sound_champion is not None:
            findings += _versus_champion(ground, candidate, sound_champion)
            compared.append(sound_champion.version)
            primary = _primary(ground, candidate, sound_champion)
        for version in sound_kept:
            findings.append(against(ground, candidate, version, role="kept"))
            compared.append(version.version)
        findings += _bars(ground, candidate, sound_champion)
    findings += case_findings(gate.cases, case_answers)
    better_version = None
    if sound_champion is not None:
        better_version, noted = kept_against_champion(ground, sound_champion, sound_kept)
        findings += noted
    elif champion is not None:
        better_version = best_kept(ground, sound_kept)
    outcome, reason = overall(tuple(findings))
    return Verdict(
        outcome=outcome,
        reason=reason,
        findings=tuple(findings),
        candidate=candidate.version,
        champion=champion.version if champion else None,
        compared=tuple(compared),
        better_version=better_version,
        planning_sd=_planning_sd(primary),
        margin_supported=_margin(primary),
        rows=rows.rows,
        blocks=rows.block_count,
        start=rows.start,
        end=rows.end,
    )


def _versus_champion(ground: Ground, candidate: Scores, champion: Scores) -> list[Finding]:
    return [
        against(ground, candidate, champion, role="champion"),
        better_than_champion(ground, candidate, champion),
        *secondary(ground, candidate, champion),
    ]


def _bars(ground: Ground, candidate: Scores, champion: Scores | None) -> list[Finding]:
    findings = floor_findings(ground, candidate)
    findings += [fairness_finding(ground, bar, candidate, champion) for bar in ground.gate.fairness]
    if ground.gate.calibration is not None:
        findings += calibration_findings(ground, ground.gate.calibration, candidate)
    return findings


def _soundness(candidate: Scores) -> Finding:
    bad = candidate.unusable
    return Finding(
        what=f"answers of {candidate.version}",
        metric="answers that are no probability",
        observed=float(bad),
        bound=0.0,
        rows=int(candidate.probability.size),
        method="count",
        outcome="fail" if bad else "pass",
    )


def _broken(champion: Scores | None, kept: Sequence[Scores]) -> list[Finding]:
    """Name versions that cannot be compared: what cannot answer protects nobody's place."""
    findings = []
    for version in [*([champion] if champion else []), *kept]:
        if version.unusable:
            is_champion = version is champion
            findings.append(
                Finding(
                    what=f"answers of {'champion' if is_champion else 'kept'} {version.version}",
                    metric="answers that are no probability",
                    observed=float(version.unusable),
                    bound=0.0,
                    rows=int(version.probability.size),
                    method="count",
                    outcome="noted",
                    note="not compared: a version that answers every row is better",
                )
            )
    return findings


def _earlier(candidate: Scores, champion: Scores | None, kept: Sequence[Scores]) -> list[Scores]:
    skip = {candidate.version, champion.version if champion else candidate.version}
    unique = {version.version: version for version in kept if version.version not in skip}
    return [unique[name] for name in sorted(unique)]


def _same_length(rows: Slice, versions: Sequence[Scores]) -> None:
    for version in versions:
        if version.probability.shape != (rows.rows,):
            raise InvalidInput(
                f"scores of {version.version}: found shape {version.probability.shape}, expected "
                f"one per row of the slice ({rows.rows}); score the same rows"
            )


def _primary(ground: Ground, candidate: Scores, champion: Scores) -> Measured | None:
    metric = ground.gate.better.metric
    if not ground.measurable(metric):
        return None
    return improvement(metric, ground.rows, candidate, champion, seed=ground.seed)


def _planning_sd(primary: Measured | None) -> float | None:
    # A copy of the champion has sd 0 and says nothing of the next candidate.
    return number(row_sd(primary)) if primary is not None and primary.se > 0 else None


def _margin(primary: Measured | None) -> float | None:
    if primary is None:
        return None
    return number(supported_margin(primary.se, alpha=ALPHA, power=POWER))
