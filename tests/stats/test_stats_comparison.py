"""AUC, losses, block means, intervals and planning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from mainspring.core.errors import InvalidInput
from mainspring.stats import interval
from mainspring.stats.auc import auc, delong, delong_difference, supported_area_margin
from mainspring.stats.loss import (
    bounded_log_loss_rows,
    brier,
    log_loss,
    log_loss_range,
)
from mainspring.stats.paired import (
    block_bootstrap,
    block_mean,
    cluster_t,
    rows_for_margin,
    supported_margin,
)

Y = (1,) * 5 + (0,) * 7
FIRST = (0.9, 0.8, 0.7, 0.6, 0.3, 0.75, 0.5, 0.4, 0.35, 0.3, 0.2, 0.1)
SECOND = (0.85, 0.7, 0.75, 0.4, 0.35, 0.8, 0.55, 0.45, 0.3, 0.25, 0.2, 0.15)


def test_delong_equals_the_worked_example() -> None:
    found = delong_difference(Y, FIRST, SECOND)

    assert found.first == pytest.approx(0.8142857, abs=5e-8)
    assert found.second == pytest.approx(0.7714286, abs=5e-8)
    assert found.se == pytest.approx(0.1033454, abs=5e-8)
    assert found.difference / found.se == pytest.approx(0.4146981, abs=5e-8)
    assert interval.normal_tail(found.difference / found.se) == pytest.approx(0.678363, abs=5e-7)
    assert delong(Y, FIRST).se ** 2 == pytest.approx(0.02)
    assert delong(Y, SECOND).se ** 2 == pytest.approx(0.0214966, abs=5e-8)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 200), st.integers(1, 6))
def test_auc_equals_scikit_learn_with_ties(seed: int, rows: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    y[:2] = 0, 1
    score = np.round(rng.random(rows), digits)

    assert auc(y, score) == pytest.approx(metrics.roc_auc_score(y, score))


def test_delong_se_covers_the_spread_of_repeated_samples() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        y = rng.random(400) < 0.3
        x = rng.normal(y * 1.0, 1)
        found.append(delong_difference(y, x + rng.normal(0, 1, 400), x))

    spread = np.std([f.difference for f in found])

    assert np.mean([f.se for f in found]) == pytest.approx(spread, rel=0.15)


def test_equal_rankings_differ_by_exactly_nothing() -> None:
    found = delong_difference(Y, FIRST, np.array(FIRST) ** 3)

    assert (found.difference, found.se) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("y", "score", "words"),
    [([1, 1], [0.1, 0.2], "both"), ([1, 0], [0.1], "scores"), ([1, 0], [np.nan, 0], "finite")],
)
def test_an_area_that_does_not_exist_is_refused(
    y: list[int], score: list[float], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        auc(y, score)


def test_losses_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(500)
    y = (rng.random(500) < p).astype(int)

    assert log_loss(y, p) == pytest.approx(metrics.log_loss(y, p))
    assert brier(y, p) == pytest.approx(metrics.brier_score_loss(y, p))


def test_bounded_losses_stay_within_0_and_1_and_keep_the_unit() -> None:
    rows = bounded_log_loss_rows([1, 1, 0], [0.0, 0.5, 0.0], clip=0.01)

    assert rows[0] == 1.0
    assert rows[1] * log_loss_range(0.01) == pytest.approx(np.log(2))
    assert 0 <= rows[2] < 0.01


def test_rows_and_margins_equal_the_methods() -> None:
    assert rows_for_margin(0.1**0.5, 0.02) == 1546
    # Unpaired: both arms' variance on as many rows in each arm.
    assert round((2 * 0.8 * 0.2) * (supported_margin(1.0) / 0.02) ** 2 - 0.5) == 4946
    for rows, margin in ((1000, 0.0236), (5000, 0.0105), (20_000, 0.0053)):
        found = supported_area_margin(0.75, rows, positive_share=0.2, correlation=0.9)
        assert found == pytest.approx(margin, abs=5e-5)


def test_the_planned_rows_support_the_margin_they_were_planned_for() -> None:
    sd, margin = 0.27, 0.005

    rows = rows_for_margin(sd, margin)

    assert supported_margin(sd / rows**0.5) <= margin
    assert supported_margin(sd / (rows - 1) ** 0.5) > margin


def test_one_row_per_block_gives_the_ordinary_t_interval() -> None:
    values = np.random.default_rng(0).normal(1, 2, 40)

    found = cluster_t(values, np.arange(40), level=0.95)

    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_bootstrap_agrees_with_the_t_form_when_blocks_are_many() -> None:
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(200), 10)
    values = rng.normal(0, 1, 2000) + rng.normal(0, 0.5, 200)[blocks]

    drawn, counted = block_bootstrap(values, blocks, seed=0), cluster_t(values, blocks)

    assert drawn.mean == counted.mean
    assert drawn.se == pytest.approx(counted.se, rel=0.06)
    assert drawn.low == pytest.approx(counted.low, abs=0.15 * counted.se)


def test_uneven_blocks_of_one_value_have_no_uncertainty() -> None:
    blocks = np.repeat(np.arange(40), np.arange(1, 41))

    found = block_bootstrap(np.full(blocks.size, 5.0), blocks, seed=0)

    assert (found.mean, found.low, found.high) == pytest.approx((5.0, 5.0, 5.0))
    assert found.se == pytest.approx(0.0, abs=1e-12)


def test_few_blocks_take_the_t_form_and_say_so() -> None:
    rng = np.random.default_rng(1)

    few = block_mean(rng.normal(size=290), np.repeat(np.arange(29), 10), seed=0)
    many = block_mean(rng.normal(size=300), np.repeat(np.arange(30), 10), seed=0)
    one = block_mean([1.0, 2.0], [7, 7], seed=0)

    assert (few.method, few.blocks) == ("cluster t", 29)
    assert (many.method, many.blocks) == ("block bootstrap", 30)
    assert (one.mean, one.low, one.high) == (1.5, -np.inf, np.inf)


def test_many_blocks_are_drawn_in_pieces_with_the_same_result_per_seed() -> None:
    values = np.random.default_rng(0).normal(size=9000)

    first = block_bootstrap(values, np.arange(9000), seed=3, draws=600)
    again = block_bootstrap(values, np.arange(9000), seed=3, draws=600)

    assert first == again
    assert first.se == pytest.approx(values.std() / 9000**0.5, rel=0.1)


def test_blocks_are_covered_where_independent_rows_are_not() -> None:
    """nominal 95 %, 60 entities of 5 to 39 rows; the iid form is the control."""
    rng = np.random.default_rng(20)
    by_block: list[bool] = []
    by_row: list[bool] = []
    for _ in range(300):
        sizes = rng.integers(5, 40, 60)
        blocks = np.repeat(np.arange(60), sizes)
        values = rng.normal(0, 0.15, 60)[blocks] + rng.normal(0, 0.3, blocks.size)
        for kept, ids in ((by_block, blocks), (by_row, np.arange(blocks.size))):
            found = cluster_t(values, ids, level=0.95)
            kept.append(found.low <= 0 <= found.high)

    assert np.mean(by_block) >= 0.90
    assert np.mean(by_row) < 0.7


def test_the_gate_rule_passes_harm_at_the_margin_in_at_most_a_twentieth() -> None:
    rng = np.random.default_rng(21)
    margin, worlds, wrong, right = 0.05, 400, 0, 0
    for _ in range(worlds):
        blocks = np.repeat(np.arange(60), 20)
        noise = rng.normal(0, 0.08, 60)[blocks] + rng.normal(0, 0.3, blocks.size)
        wrong += cluster_t(noise - margin, blocks).low > -margin
        right += cluster_t(noise, blocks).low > -margin

    assert wrong / worlds <= 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5
    assert right / worlds >= 0.75


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_a_mean_of_nothing_or_of_nan_is_refused(values: list[float]) -> None:
    with pytest.raises(InvalidInput, match="block mean"):
        cluster_t(values, range(len(values)))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (320, 900)])
def test_intervals_of_one_share_equal_scipy(k: int, n: int) -> None:
    oracle = stats.binomtest(k, n)

    wilson, exact = interval.wilson(k, n), interval.clopper_pearson(k, n)

    found = oracle.proportion_ci(method="wilson")
    assert (wilson.low, wilson.high) == pytest.approx((found.low, found.high), abs=1e-12)
    found = oracle.proportion_ci(method="exact")
    assert (exact.low, exact.high) == pytest.approx((found.low, found.high), abs=1e-9)


def test_no_failure_in_299_rows_proves_under_one_percent() -> None:
    assert interval.clopper_pearson(0, 299, level=0.9).high < 0.01
    assert interval.clopper_pearson(0, 298, level=0.9).high > 0.01


def test_the_difference_of_two_shares_equals_the_worked_example() -> None:
    found = interval.newcombe(120, 1000, 75, 400)
    z = interval.proportions_z(120, 1000, 75, 400)

    assert (-found.high, -found.low) == pytest.approx((0.026187, 0.112705), abs=5e-7)
    assert z == pytest.approx(-3.295239, abs=5e-7)
    assert interval.normal_tail(z) == pytest.approx(0.000983379, abs=5e-10)


def test_the_ratio_of_two_shares_equals_the_worked_example() -> None:
    # The figure was made with z = 1.96.
    found = interval.katz(95, 400, 320, 900, level=1 - interval.normal_tail(1.96))

    assert (found.low, found.high) == pytest.approx((0.548862, 0.812922), abs=5e-7)
    assert 0 < interval.katz(0, 50, 5, 50).low < interval.katz(0, 50, 5, 50).high < np.inf
    assert interval.proportions_z(0, 5, 0, 9) == 0.0
    with pytest.raises(InvalidInput, match="rows > 0"):
        interval.wilson(0, 0)
