"""The verdict: what was found, by which method, and what follows."""

from math import isfinite
from typing import Literal

import msgspec

Outcome = Literal["pass", "fail", "inconclusive"]
FindingOutcome = Literal["pass", "fail", "inconclusive", "noted"]


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that was looked at. Numbers that do not exist or are infinite are None.

    Attributes:
        what: In words, naming the versions, group or case.
        metric: What `observed` measures; differences are positive when the first is better.
        observed: Point value.
        low: Lower end of the 90 % interval (95 % for the ratio of groups).
        high: Its upper end.
        bound: What it was held against.
        rows: Rows it rests on.
        method: How the interval was made.
        outcome: "noted" informs and does not decide.
        note: What a reader must know besides.
    """

    what: str
    metric: str
    outcome: FindingOutcome
    rows: int
    observed: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    method: str = ""
    note: str = ""

    @property
    def sentence(self) -> str:
        """The finding for people."""
        parts = [f"{self.what}: {self.metric}"]
        if self.observed is not None:
            parts.append(f"{self.observed:.4g}")
        if self.low is not None and self.high is not None:
            parts.append(f"[{self.low:.4g}, {self.high:.4g}]")
        if self.bound is not None:
            parts.append(f"against {self.bound:.4g}")
        parts.append(f"on {self.rows} rows")
        text = " ".join(parts) + (f", {self.method}" if self.method else "")
        return f"{text}; {self.note}" if self.note else text


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the gate concluded of a candidate.

    Attributes:
        outcome: Inconclusive neither promotes nor refuses: it waits until its deadline or asks.
        reason: The finding that decided, in one sentence.
        findings: Everything looked at, in order.
        candidate: The version judged.
        champion: The version it was to replace, None for the first.
        compared: Versions whose scores were compared with the candidate's.
        better_version: A kept version that beats the champion by its interval: grounds to restore.
        planning_sd: Measured sd of one row's paired difference, for the next hold-back.
        margin_supported: Smallest margin this slice could have decided with 80 % power.
        rows: Labelled rows of the slice.
        blocks: Blocks of the slice.
        start: Event time of its first row.
        end: Event time of its last row.
    """

    outcome: Outcome
    reason: str
    findings: tuple[Finding, ...]
    candidate: str
    champion: str | None
    compared: tuple[str, ...]
    better_version: str | None
    planning_sd: float | None
    margin_supported: float | None
    rows: int
    blocks: int
    start: str
    end: str


def number(value: float) -> float | None:
    """Give None for what JSON cannot hold: NaN and the infinities."""
    return float(value) if isfinite(value) else None


def overall(findings: tuple[Finding, ...]) -> tuple[Outcome, str]:
    """Combine findings: any fail fails, then any inconclusive waits; the reason is the first."""
    outcomes: tuple[Outcome, ...] = ("fail", "inconclusive")
    for outcome in outcomes:
        deciding = [finding for finding in findings if finding.outcome == outcome]
        if deciding:
            return outcome, deciding[0].sentence
    return "pass", f"all {sum(f.outcome == 'pass' for f in findings)} findings pass"
