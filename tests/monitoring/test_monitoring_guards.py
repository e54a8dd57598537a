"""Rollout guards on synthetic streams: what they conclude, however often one looks."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.monitoring.monitoring_bench import START, Bench, Floats, open_bench, times

from mainspring.monitoring.guards import RolloutVerdict
from mainspring.monitoring.spec import Guard, errors, not_worse
from mainspring.monitoring.tables import GUARD_STATE

ROWS, A_DAY = 3000, 300
GUARDS = (errors(0.01), not_worse("log_loss", 0.02))


def scores(seed: int, harm: float) -> tuple[Floats, Floats, Floats]:
    """Labels, a good model's probabilities and a candidate's that lies `harm` off on the logit."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.2, ROWS)
    y = (rng.random(ROWS) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    shift = rng.normal(0, 0.15, ROWS) + harm * rng.choice([-1, 1], ROWS)
    return y, 1 / (1 + np.exp(-logit)), 1 / (1 + np.exp(-logit - shift))


def verdict(bench: Bench) -> RolloutVerdict:
    found = bench.monitoring.state("delay").rollout
    assert found is not None
    return found


def run(bench: Bench, *guards: Guard, harm: float = 0.0, failing: float = 0.0) -> RolloutVerdict:
    y, live, candidate = scores(1, harm)
    candidate[np.random.default_rng(2).random(ROWS) < failing] = np.nan
    at = times(ROWS, a_day=A_DAY)
    bench.guard(*guards)
    bench.predict(at, live, candidate)
    bench.label(at, y, np.full(ROWS, 3.0))
    for day in range(1, 13):
        bench.monitoring.advance("delay", START + timedelta(days=day))
    return verdict(bench)


def test_a_harmful_candidate_fails_by_its_losses(bench: Bench) -> None:
    found = run(bench, *GUARDS, harm=1.2)

    assert found.outcome == "fail"
    assert found.reason.startswith("guard not_worse:log_loss fails")


def test_an_equal_candidate_passes(bench: Bench) -> None:
    found = run(bench, *GUARDS)

    assert (found.outcome, found.progress) == ("pass", 1.0)
    assert found.reason.startswith("all guards pass: errors ")
    assert ", not_worse:log_loss " in found.reason


def test_a_candidate_that_fails_often_is_stopped_before_any_label(bench: Bench) -> None:
    _, live, candidate = scores(1, 0.0)
    candidate[::3] = np.nan
    bench.guard(*GUARDS)
    bench.predict(times(ROWS, a_day=A_DAY), live, candidate)

    bench.monitoring.advance("delay", START + timedelta(hours=8))

    found = verdict(bench)
    assert found.outcome == "fail"
    assert found.guards[0].rows == 37, "no more than it takes"


def test_rare_failures_within_the_share_do_not_fail_it(bench: Bench) -> None:
    assert run(bench, errors(0.05), failing=0.01).outcome == "pass"


def test_a_rollout_nobody_labelled_is_inconclusive(bench: Bench) -> None:
    _, live, candidate = scores(1, 0.0)
    bench.guard(*GUARDS)
    bench.predict(times(ROWS, a_day=A_DAY), live, candidate)

    bench.monitoring.advance("delay", START + timedelta(days=20))

    found = verdict(bench)
    assert found.outcome == "inconclusive"
    assert [(one.outcome, one.rows) for one in found.guards] == [
        ("pass", 3000),
        ("inconclusive", 0),
    ]


def test_requests_on_which_an_arm_failed_are_left_out_of_the_losses_and_counted(
    bench: Bench,
) -> None:
    y, live, candidate = scores(1, 0.0)
    candidate[:7] = np.nan
    at = times(ROWS, a_day=A_DAY)
    bench.guard(not_worse("brier", 0.5))
    bench.predict(at, live, candidate)
    bench.label(at[:10], y[:10], np.full(10, 1.0))

    bench.monitoring.advance("delay", START + timedelta(days=1))

    guard = verdict(bench).guards[0]
    assert (guard.rows, guard.left_out) == (3, 7)


def test_pairs_wait_until_their_cohort_is_complete(bench: Bench) -> None:
    y, live, candidate = scores(1, 0.0)
    at = times(ROWS, a_day=A_DAY)
    bench.guard(not_worse("log_loss", 0.02))
    bench.predict(at, live, candidate)
    bench.label(at, y, np.where(y == 1, 1.0, 10.0))

    bench.monitoring.advance("delay", START + timedelta(hours=12) - timedelta(microseconds=1))
    assert verdict(bench).guards[0].rows == 0
    bench.monitoring.advance("delay", START + timedelta(hours=13))

    # One hour of rows is older than the label wait of 12 h, whatever their outcome.
    assert verdict(bench).guards[0].rows == 13


def stream(bench: Bench, steps_h: list[int], *, restart: bool) -> list[tuple[object, ...]]:
    """Labels late, corrected and void, advanced in the given steps; gives the guards' states."""
    y, live, candidate = scores(3, 0.3)
    rng = np.random.default_rng(4)
    candidate[rng.random(ROWS) < 0.01] = np.nan
    at = times(ROWS, a_day=A_DAY)
    bench.guard(errors(0.0101), not_worse("log_loss", 0.03), not_worse("brier", 0.01))
    bench.predict(at, live, candidate)
    bench.label(at, y, rng.exponential(8, ROWS), "first:0")
    bench.label(
        at, np.where(rng.random(ROWS) < 0.1, 1 - y, y), rng.exponential(30, ROWS), "again:0"
    )
    for step in steps_h:
        bench = bench.reopened() if restart else bench
        bench.monitoring.advance("delay", START + timedelta(hours=step))
    with bench.monitoring.database.read() as connection:
        states = connection.execute(select(GUARD_STATE).order_by(GUARD_STATE.c.guard))
        return [(row.guard, row.position_us, row.seen, row.left_out, row.state) for row in states]


def test_guards_end_bit_equal_however_often_the_watermark_moved(tmp_path: Path) -> None:
    end = 24 * 14
    found = []
    for name, steps in {
        "once": [end],
        "daily": list(range(24, end + 1, 24)),
        "hourly": [*range(1, 100), *range(101, end, 7), end],
    }.items():
        with open_bench(tmp_path / name) as bench:
            found.append(stream(bench, steps, restart=name == "hourly"))

    assert found[0] == found[1] == found[2]
    assert '"n":' in str(found[0][0][4])


@pytest.mark.parametrize("harm", [0.0, 1.2])
def test_advancing_to_an_earlier_or_equal_instant_changes_nothing(
    bench: Bench, harm: float
) -> None:
    before = run(bench, *GUARDS, harm=harm)

    again = bench.monitoring.advance("delay", START + timedelta(days=3))

    assert again == START + timedelta(days=12)
    assert verdict(bench) == before
