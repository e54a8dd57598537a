"""The betting guard, its fast lane and the loss detector."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput
from mainspring.stats.detector import (
    LossDetector,
    take_differences,
    take_losses,
    watch_differences,
    watch_losses,
)
from mainspring.stats.evalue import (
    FailureGuard,
    PairedBet,
    split,
    start,
    start_failures,
    update,
    update_failures,
)


def pairs(rng: np.random.Generator, harm: float, rows: int = 6000) -> NDArray[np.float64]:
    """0/1 losses that disagree on 6 % of the rows and differ by `harm` in the mean."""
    u = rng.random(rows)
    worse = u < (0.06 + harm) / 2
    return worse.astype(np.float64) - ((u < 0.06) & ~worse)


def by_hand(margin: float, differences: list[float]) -> tuple[float, float]:
    """The recursion written out, each side on its own."""
    logs = []
    for sign, bound in ((1.0, margin), (-1.0, -margin)):
        m, total = (bound + 1) / 2, 0.0
        mean, mean_count, squares = m, 1, 1 / 16
        for d in differences:
            z, s2 = (sign * d + 1) / 2, squares / mean_count
            stake = min(max((mean - m) / (s2 + (mean - m) ** 2), 0.0), 0.5 / m)
            total += np.log1p(stake * (z - m))
            mean = (mean * mean_count + z) / (mean_count + 1)
            mean_count += 1
            squares += (z - mean) ** 2
        logs.append(total)
    return logs[0], logs[1]


@settings(deadline=None, max_examples=60)
@given(
    differences=st.lists(st.floats(-1, 1), min_size=1, max_size=40),
    margin=st.floats(-0.5, 0.5),
)
def test_the_evidence_equals_the_recursion_written_out(
    differences: list[float], margin: float
) -> None:
    # Thresholds out of reach, so that all rows are taken in.
    state = update(start(margin, alpha_fail=1e-300, alpha_pass=1e-300), differences)

    assert (state.log_fail, state.log_pass) == pytest.approx(by_hand(margin, differences), abs=1e-9)
    assert state.mean == pytest.approx(np.mean(differences), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    harm=st.sampled_from([-0.05, 0.0, 0.05]),
    cuts=st.lists(st.integers(0, 800), max_size=8),
)
def test_any_batches_end_in_the_same_state(seed: int, harm: float, cuts: list[int]) -> None:
    d = pairs(np.random.default_rng(seed), harm, 800)

    state = start(0.01)
    for part in np.split(d, sorted(cuts)):
        state = update(state, part)

    whole = update(start(0.01), d)
    assert (state.n, state.outcome) == (whole.n, whole.outcome)
    assert (state.log_fail, state.log_pass) == pytest.approx((whole.log_fail, whole.log_pass))


def test_the_first_crossing_is_final() -> None:
    harmed = update(start(0.01), np.ones(50))

    after = update(harmed, -np.ones(5000))

    assert harmed.outcome == "fail"
    assert harmed.e_fail >= 20
    assert harmed.n < 50
    assert after == harmed


def test_the_guard_keeps_its_promise_under_a_look_after_every_row() -> None:
    """a tenth of its size; a z-test at every 20th row is the control."""
    rng = np.random.default_rng(30)
    worlds, failed, passed, peeked = 300, 0, 0, 0
    looks = np.arange(300, 6001, 20)
    for _ in range(worlds):
        d = pairs(rng, 0.01)
        state = update(start(0.01), d)
        failed += state.outcome == "fail"
        passed += state.outcome == "pass"
        mean = np.cumsum(d)[looks - 1] / looks
        sd = np.sqrt(np.cumsum(d**2)[looks - 1] / looks - mean**2)
        peeked += bool(np.any((mean - 0.01) / sd * np.sqrt(looks) > 1.645))

    allowed = 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5
    assert failed / worlds <= allowed
    assert passed / worlds <= allowed
    assert peeked / worlds > 0.2


def test_harm_is_found_and_harmlessness_is_shown_as_fast_as_measured() -> None:
    rng = np.random.default_rng(31)
    bad = [update(start(0.01), pairs(rng, 0.05)) for _ in range(100)]
    good = [update(start(0.01), pairs(rng, -0.01)) for _ in range(100)]

    assert {state.outcome for state in bad} == {"fail"}
    assert {state.outcome for state in good} == {"pass"}
    assert 180 <= np.median([state.n for state in bad]) <= 320
    assert 800 <= np.median([state.passed_at or 0 for state in good]) <= 1150


def test_splitting_the_error_keeps_several_guards_together_at_it() -> None:
    rng = np.random.default_rng(32)
    worlds, any_failed = 200, 0
    for _ in range(worlds):
        shared = rng.random(2000)
        guards = [np.where(shared < 0.5, pairs(rng, 0.01, 2000), 0.01) for _ in range(5)]
        any_failed += any(
            update(start(0.01, alpha_fail=split(0.05, 5)), d).outcome == "fail" for d in guards
        )

    assert any_failed / worlds <= 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5


@pytest.mark.parametrize("bad", [[1.5], [np.nan], [-2.0, 0.0]])
def test_differences_out_of_range_are_refused_and_change_nothing(bad: list[float]) -> None:
    with pytest.raises(InvalidInput, match="scaled"):
        update(start(0.01), bad)


@pytest.mark.parametrize(("margin", "alpha"), [(1.0, 0.05), (-1.0, 0.05), (0.0, 0.0), (0.0, 1.0)])
def test_a_guard_that_cannot_be_is_refused(margin: float, alpha: float) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        start(margin, alpha_fail=alpha)


def test_states_survive_json() -> None:
    bet = update(start(0.02), [0.1, -0.2, 0.3])
    guard = update_failures(start_failures(0.01), [True, False], [False, False])
    detector = take_differences(watch_differences(0.01, threshold=1e4), [0.2, -0.1])

    for state, kind in ((bet, PairedBet), (guard, FailureGuard), (detector, LossDetector)):
        assert msgspec.json.decode(msgspec.json.encode(state), type=kind) == state


def test_more_than_twenty_failures_in_a_hundred_stop_at_once_whatever_the_champion_does() -> None:
    failing, fine = np.ones(20, bool), np.zeros(80, bool)
    few = update_failures(start_failures(0.01), failing, failing)
    many = update_failures(few, [True], [True])
    next_hundred = update_failures(update_failures(few, fine, fine), [True], [True])

    assert (few.recent_failures, few.outcome) == (20, "inconclusive")
    assert (many.seen, many.outcome) == (21, "fail")
    assert (next_hundred.recent_failures, next_hundred.outcome) == (1, "inconclusive")


def test_a_challenger_that_begins_to_fail_after_its_pass_fails_all_the_same() -> None:
    good = np.zeros(4000, bool)
    passed = update_failures(start_failures(0.01), good, good)
    third = np.arange(300) % 3 == 0

    later = update_failures(passed, third, np.zeros(300, bool))

    assert passed.outcome == "pass"
    assert later.outcome == "fail"
    assert later.seen < 4100


def test_a_loss_guard_that_has_passed_still_fails_when_harm_begins() -> None:
    passed = update(start(0.01), np.full(2000, -0.02))

    later = update(passed, np.full(4000, 0.2))

    assert passed.outcome == "pass"
    assert later.outcome == "fail"
    assert later.passed_at == passed.passed_at


def test_a_failure_guard_ends_the_same_however_requests_are_cut() -> None:
    rng = np.random.default_rng(8)
    failed = np.concatenate([np.zeros(350, bool), rng.random(400) < 0.3])
    other = rng.random(750) < 0.002

    whole = update_failures(start_failures(0.01), failed, other)
    parts = start_failures(0.01)
    for start_row in range(0, 750, 7):
        rows = slice(start_row, start_row + 7)
        parts = update_failures(parts, failed[rows], other[rows])

    assert parts == whole
    assert whole.outcome == "fail"


def test_failures_of_the_challenger_alone_are_found_within_the_first_hundred() -> None:
    rng = np.random.default_rng(33)

    found = update_failures(start_failures(0.01), rng.random(300) < 0.3, np.zeros(300, bool))
    quiet = update_failures(start_failures(0.01), rng.random(3000) < 0.005, np.zeros(3000, bool))

    assert found.outcome == "fail"
    assert found.bet.n < 150
    assert quiet.outcome != "fail"
    with pytest.raises(InvalidInput, match="pairs"):
        update_failures(quiet, [True], [])


def test_the_detector_keeps_its_promised_time_between_false_alarms() -> None:
    """and a control that lies above it."""
    rng = np.random.default_rng(34)

    def run(mean: float) -> list[int]:
        fresh = watch_losses(0.22, threshold=1e3)
        return [take_losses(fresh, rng.random(20_000) < mean).n for _ in range(60)]

    quiet, above = run(0.22), run(0.30)

    assert np.mean(quiet) >= 1000 - 3 * np.std(quiet) / 60**0.5
    assert np.mean(above) < 500


def test_the_detector_finds_a_risen_loss_in_the_measured_time() -> None:
    rng = np.random.default_rng(35)
    delays = []
    for _ in range(60):
        losses = np.concatenate((rng.random(2000) < 0.2, rng.random(4000) < 0.35))
        found = take_losses(watch_losses(0.22, threshold=1e5), losses)
        assert found.alarmed
        delays.append(found.n - 2000)

    assert min(delays) > 0
    assert np.median(delays) <= 200


def test_a_season_of_the_base_rate_raises_no_alarm_on_differences() -> None:
    """Losses rise with the base rate, as the model itself expects; the raw form is the control."""
    rng = np.random.default_rng(36)
    p = np.concatenate((np.full(4000, 0.15), np.full(4000, 0.33)))
    wrong = rng.random(8000) < p

    raw = take_losses(watch_losses(0.17, threshold=1e5), wrong)
    adjusted = take_differences(watch_differences(0.02, threshold=1e5), wrong - p)

    assert raw.alarmed
    assert not adjusted.alarmed


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 60))
def test_the_detector_does_not_see_batches(losses: list[float], cut: int) -> None:
    fresh = watch_losses(0.2, threshold=50)

    parts = take_losses(take_losses(fresh, losses[:cut]), losses[cut:])

    assert parts == take_losses(fresh, losses)


def test_an_alarmed_detector_stands_still_and_stays_finite() -> None:
    alarmed = take_losses(watch_losses(0.2, threshold=1e100), np.ones(100_000))

    assert alarmed.alarmed
    assert np.isfinite(alarmed.log_evidence)
    assert take_losses(alarmed, np.ones(10)) == alarmed
    assert watch_losses(0.2, threshold=10).log_evidence == float("-inf")


@pytest.mark.parametrize(
    ("accepted", "threshold", "bets"),
    [(0.0, 1e3, (0.1,)), (0.5, 1.0, (0.1,)), (0.5, 1e3, (2.0,)), (0.5, 1e3, ())],
)
def test_a_detector_that_cannot_be_is_refused(
    accepted: float, threshold: float, bets: tuple[float, ...]
) -> None:
    with pytest.raises(InvalidInput, match="expected"):
        watch_losses(accepted, threshold=threshold, bets=bets)


def test_losses_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInput, match="0 to 1"):
        take_losses(watch_losses(0.2, threshold=1e3), [1.2])
