"""Guards of the open rollout: paired bets on the requests that both arms scored.

Failures are taken in as soon as the watermark passes their event time; losses when their outcome
is eligible (see `outcomes`), in the order of eligibility, event time and key. So the state depends
on what happened and not on how often one looked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import msgspec
import numpy as np
from sqlalchemy import Connection, Row, Select, and_, insert, select, union, update

from mainspring.core.ids import Digest, digest_of
from mainspring.monitoring import scoring
from mainspring.monitoring.spec import Errors, Guard, NotWorse
from mainspring.monitoring.tables import GUARD_STATE, OUTCOME, PREDICTION
from mainspring.monitoring.watch import GuardedRollout
from mainspring.stats import evalue
from mainspring.stats.evalue import FailureGuard, Outcome, PairedBet

FAST_ALPHA = 0.01
"""Part of alpha_fail that failures may spend: their lane stops at evidence 100."""


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What one guard says; `mean` and `bound` are in the guard's own unit."""

    guard: str
    outcome: Outcome
    rows: int
    left_out: int
    """Labelled requests on which an arm had no score: they are the failure guard's matter."""
    mean: float
    bound: float
    e_fail: float
    fails_at: float
    e_pass: float
    passes_at: float
    progress: float
    """Log evidence for a pass as a share of what a pass asks for, 0 to 1."""


@dataclass(frozen=True, slots=True)
class RolloutVerdict:
    """What all guards say together: fail if any fails, pass when all pass."""

    rollout: str
    outcome: Outcome
    progress: float
    reason: str
    guards: tuple[GuardVerdict, ...]
    digest: Digest


@dataclass(frozen=True, slots=True)
class _Stored:
    position_us: int
    seen: int
    left_out: int
    state: PairedBet | FailureGuard
    is_new: bool


def update_guards(
    connection: Connection, project: str, endpoint: str, rollout: GuardedRollout, until_us: int
) -> None:
    """Take in everything up to the watermark, inside the advancing transaction."""
    for place, guard in enumerate(rollout.guards):
        name = f"{place}:{guard.name}"
        before = _load(connection, project, rollout, guard, name)
        match guard:
            case Errors():
                after = _take_failures(connection, project, rollout, before, until_us)
            case NotWorse():
                pairs = _pairs(project, endpoint, rollout, before.position_us, until_us)
                after = _take_losses(connection.execute(pairs).all(), guard, before, until_us)
            case _:
                assert_never(guard)
        _save(connection, project, endpoint, rollout, name, after)


def verdict(connection: Connection, project: str, rollout: GuardedRollout) -> RolloutVerdict:
    """Read what the guards say by the last advance."""
    verdicts = []
    for place, guard in enumerate(rollout.guards):
        stored = _load(connection, project, rollout, guard, f"{place}:{guard.name}")
        verdicts.append(_verdict(guard, stored))
    outcomes = {one.outcome for one in verdicts}
    outcome: Outcome = "inconclusive"
    if "fail" in outcomes:
        outcome = "fail"
    elif outcomes == {"pass"}:
        outcome = "pass"
    return RolloutVerdict(
        rollout=rollout.rollout,
        outcome=outcome,
        progress=min((one.progress for one in verdicts), default=0.0),
        reason=_reason(outcome, verdicts),
        guards=tuple(verdicts),
        digest=digest_of([rollout.rollout, verdicts]),
    )


def _take_failures(
    connection: Connection, project: str, rollout: GuardedRollout, before: _Stored, until_us: int
) -> _Stored:
    table = PREDICTION.c
    asked = select(
        table.event_time_us, table.key, table.number, table.candidate_score, table.live_score
    ).where(_both_asked(project, rollout), table.event_time_us <= until_us)
    # A prediction compacted late counts although the watermark has passed its time. Two searches
    # by index: SQLite would answer an `or` by reading the whole rollout again every time.
    fresh = union(
        asked.where(table.event_time_us > before.position_us),
        asked.where(table.number > before.seen),
    )
    rows = connection.execute(fresh.order_by("event_time_us", "key", "number")).all()
    assert isinstance(before.state, FailureGuard)
    state = evalue.update_failures(
        before.state,
        [row.candidate_score is None for row in rows],
        [row.live_score is None for row in rows],
    )
    seen = max((row.number for row in rows), default=before.seen)
    return _Stored(until_us, max(seen, before.seen), 0, state, before.is_new)


def _take_losses(
    rows: Sequence[Row[Any]], guard: NotWorse, before: _Stored, until_us: int
) -> _Stored:
    pairs = [row for row in rows if row.candidate_score is not None and row.live_score is not None]
    assert isinstance(before.state, PairedBet)
    state = evalue.update(before.state, _differences(guard, pairs))
    left_out = before.left_out + len(rows) - len(pairs)
    return _Stored(until_us, 0, left_out, state, before.is_new)


def _differences(guard: NotWorse, pairs: list[Row[Any]]) -> scoring.Floats:
    y = np.array([row.due_value for row in pairs], np.float64)
    candidate = np.array([row.candidate_score for row in pairs], np.float64)
    live = np.array([row.live_score for row in pairs], np.float64)
    return scoring.realised(guard.metric, y, candidate) - scoring.realised(guard.metric, y, live)


def _pairs(
    project: str, endpoint: str, rollout: GuardedRollout, after_us: int, until_us: int
) -> Select[Any]:
    return (
        select(OUTCOME.c.due_value, PREDICTION.c.candidate_score, PREDICTION.c.live_score)
        .join(PREDICTION, PREDICTION.c.number == OUTCOME.c.number)
        .where(
            _both_asked(project, rollout),
            OUTCOME.c.project == project,
            OUTCOME.c.endpoint == endpoint,
            OUTCOME.c.due_value.is_not(None),
            OUTCOME.c.eligible_us > after_us,
            OUTCOME.c.eligible_us <= until_us,
        )
        .order_by(
            OUTCOME.c.eligible_us,
            PREDICTION.c.event_time_us,
            PREDICTION.c.key,
            PREDICTION.c.number,
        )
    )


def _both_asked(project: str, rollout: GuardedRollout) -> Any:
    return and_(
        PREDICTION.c.project == project,
        PREDICTION.c.rollout == rollout.rollout,
        PREDICTION.c.repeat_of.is_(None),
        PREDICTION.c.candidate_version == rollout.candidate,
        PREDICTION.c.live_version == rollout.live,
    )


def _start(rollout: GuardedRollout, guard: Guard) -> PairedBet | FailureGuard:
    """Split alpha_fail: failures share the fast lane's part, losses the rest."""
    fast = sum(isinstance(one, Errors) for one in rollout.guards)
    lane = min(FAST_ALPHA, rollout.alpha_fail / 2) if fast else 0.0
    match guard:
        case Errors():
            return evalue.start_failures(guard.share, alpha_fail=evalue.split(lane, fast))
        case NotWorse():
            slow = len(rollout.guards) - fast
            return evalue.start(
                guard.margin / scoring.unit(guard.metric),
                alpha_fail=evalue.split(rollout.alpha_fail - lane, slow),
                alpha_pass=rollout.alpha_pass,
            )
        case _:
            assert_never(guard)


def _verdict(guard: Guard, stored: _Stored) -> GuardVerdict:
    state = stored.state
    bet, rows = (state.bet, state.seen) if isinstance(state, FailureGuard) else (state, state.n)
    unit = scoring.unit(guard.metric) if isinstance(guard, NotWorse) else 1.0
    progress = min(1.0, max(0.0, bet.log_pass / -np.log(bet.alpha_pass)))
    return GuardVerdict(
        guard=guard.name,
        outcome=state.outcome,
        rows=rows,
        left_out=stored.left_out,
        mean=bet.mean * unit,
        bound=bet.margin * unit,
        e_fail=bet.e_fail,
        fails_at=1 / bet.alpha_fail,
        e_pass=bet.e_pass,
        passes_at=1 / bet.alpha_pass,
        progress=1.0 if state.outcome == "pass" else float(progress),
    )


def _reason(outcome: Outcome, verdicts: list[GuardVerdict]) -> str:
    """Say in one sentence which guards failed, that all passed, or how each one stands."""
    match outcome:
        case _ if not verdicts:
            return "the rollout has no guards"
        case "fail":
            failed = [_says(one) for one in verdicts if one.outcome == "fail"]
            return f"guard {' and guard '.join(failed)}"
        case "pass":
            return f"all guards pass: {', '.join(_says(one) for one in verdicts)}"
        case "inconclusive":
            return f"guards are inconclusive: {', '.join(_says(one) for one in verdicts)}"
        case _:
            assert_never(outcome)


def _says(one: GuardVerdict) -> str:
    difference = f"candidate - live {one.mean:+.5f} against {one.bound:g} on {one.rows} requests"
    match one.outcome:
        case "fail":
            return (
                f"{one.guard} fails: {difference} (evidence to fail {one.e_fail:.3g} of "
                f"{one.fails_at:.4g}, to pass {one.e_pass:.3g} of {one.passes_at:.4g})"
            )
        case "pass":
            return f"{one.guard} {one.mean:+.5f} against {one.bound:g} on {one.rows} requests"
        case "inconclusive":
            return f"{one.guard} {one.mean:+.5f}"
        case _:
            assert_never(one.outcome)


def _load(
    connection: Connection, project: str, rollout: GuardedRollout, guard: Guard, name: str
) -> _Stored:
    row = connection.execute(
        select(GUARD_STATE).where(
            GUARD_STATE.c.project == project,
            GUARD_STATE.c.rollout == rollout.rollout,
            GUARD_STATE.c.guard == name,
        )
    ).first()
    if row is None:
        return _Stored(-(2**62), 0, 0, _start(rollout, guard), True)
    state: PairedBet | FailureGuard
    if isinstance(guard, Errors):
        state = msgspec.json.decode(row.state, type=FailureGuard)
    else:
        state = msgspec.json.decode(row.state, type=PairedBet)
    return _Stored(row.position_us, row.seen, row.left_out, state, False)


def _save(
    connection: Connection,
    project: str,
    endpoint: str,
    rollout: GuardedRollout,
    name: str,
    after: _Stored,
) -> None:
    values = {
        "position_us": after.position_us,
        "seen": after.seen,
        "left_out": after.left_out,
        "state": msgspec.json.encode(after.state).decode(),
    }
    if after.is_new:
        names = {"project": project, "rollout": rollout.rollout, "guard": name}
        connection.execute(insert(GUARD_STATE).values(endpoint=endpoint, **names, **values))
        return
    connection.execute(
        update(GUARD_STATE)
        .where(
            GUARD_STATE.c.project == project,
            GUARD_STATE.c.rollout == rollout.rollout,
            GUARD_STATE.c.guard == name,
        )
        .values(**values)
    )
