"""Scoring the rows of one request with the arms of its route, and settling who answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mainspring.core.clock import Clock
from mainspring.formats.routes import Arm, EndpointRoute
from mainspring.formats.segment import ArmOutput
from mainspring.serving.salvage import Model, Scored, score_rows
from mainspring.serving.vectors import Vectors


@dataclass(slots=True)
class ArmScore:
    """What one arm gave, and how long it took."""

    scored: Scored
    latency_us: int
    timed_out: bool

    @property
    def values(self) -> NDArray[np.float64]:
        """Outputs per row; NaN where it was not asked or failed."""
        return self.scored.values

    def output(self) -> ArmOutput:
        """Give the form of the request log."""
        scored = self.scored
        return ArmOutput(
            scored.values.tobytes(),
            sorted(scored.failed),
            scored.error,
            self.latency_us,
            self.timed_out,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """Who answered each row; empty strings and NaN where no arm could."""

    outputs: list[float]
    versions: list[str]
    roles: list[str]
    errors: dict[int, str]


class Scorer:
    """Scores with time limits. A late arm is counted as failed; this engine cannot cut it short."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def score(
        self,
        route: EndpointRoute,
        models: Mapping[str, Model],
        vectors: Vectors,
        picked: Sequence[Arm],
        *,
        whole: bool = False,
    ) -> dict[str, ArmScore]:
        """Score: in a rollout every row with every arm, else each row with its chosen one.

        A row whose chosen arm failed is scored by the live arm too. With `whole`, a row that
        fails raises ScoringFailed: the rows of several requests are to be scored apart.
        """
        arms = route.arms
        if len(arms) > 1:
            arms = tuple(arm for arm in arms if arm.role != "shadow")
        if len(arms) == 1 or route.rollout is not None:
            return {arm.version: self.arm(route, models, arm, vectors, whole=whole) for arm in arms}
        scores: dict[str, ArmScore] = {}
        live, rescued = arms[-1], set[int]()
        for arm in arms:
            rows = {i for i, choice in enumerate(picked) if choice.version == arm.version}
            if arm is live:
                rows |= rescued
            if rows:
                index = np.array(sorted(rows))
                score = self.arm(route, models, arm, vectors, index, whole=whole)
                scores[arm.version] = score
                rescued.update(score.scored.failed)
        return scores

    def arm(
        self,
        route: EndpointRoute,
        models: Mapping[str, Model],
        arm: Arm,
        vectors: Vectors,
        rows: NDArray[np.int64] | None = None,
        *,
        whole: bool = False,
    ) -> ArmScore:
        """Score rows (all by default) with one arm."""
        started = self._clock.monotonic_s()
        scored = score_rows(
            models[arm.version],
            vectors,
            rows,
            late=lambda: self._clock.monotonic_s() - started > route.arm_timeout_s,
            whole=whole,
        )
        spent = self._clock.monotonic_s() - started
        timed_out = spent > route.arm_timeout_s
        if timed_out:
            scored.error = scored.error or f"took {spent:.3f} s, limit {route.arm_timeout_s} s"
            scored.failed = list(range(vectors.count)) if rows is None else rows.tolist()
        return ArmScore(scored, int(spent * 1e6), timed_out)


def settle(route: EndpointRoute, picked: Sequence[Arm], scores: Mapping[str, ArmScore]) -> Settled:
    """Settle who answers: the chosen arm, else the live one, else any that scored.

    Late values answer only where nothing else does: late is better than none.
    """
    if not any(score.scored.failed for score in scores.values()):
        values = {version: score.values.tolist() for version, score in scores.items()}
        outputs = [values[arm.version][i] for i, arm in enumerate(picked)]
        return Settled(outputs, [a.version for a in picked], [a.role for a in picked], {})
    fine = {version: np.isfinite(score.values) for version, score in scores.items()}
    timely = {v: ok & ~_mask(scores[v].scored.failed, len(picked)) for v, ok in fine.items()}
    settled = Settled([], [], [], {})
    for i, choice in enumerate(picked):
        order = [choice, *reversed(route.arms)]
        arm = next((a for a in order if _at(timely, a, i)), None)
        arm = arm or next((a for a in order if _at(fine, a, i)), None)
        value = float("nan") if arm is None else float(scores[arm.version].values[i])
        settled.outputs.append(value)
        settled.versions.append("" if arm is None else arm.version)
        settled.roles.append("" if arm is None else arm.role)
        if arm is None:
            settled.errors[i] = "; ".join(
                f"version {version}: {score.scored.error}" for version, score in scores.items()
            )
    return settled


def _at(mask: Mapping[str, NDArray[np.bool_]], arm: Arm, row: int) -> bool:
    return arm.version in mask and bool(mask[arm.version][row])


def _mask(rows: Sequence[int], count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, bool)
    mask[list(rows)] = True
    return mask
