"""Distances from histograms: the worked example, SciPy, and the printed bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance as spatial

from mainspring.core.errors import InvalidInput
from mainspring.stats import distance
from mainspring.stats.distance import Floats
from mainspring.stats.interval import Interval
from mainspring.stats.profile import profile, reference_edges

A, B = (250, 250, 250, 250), (60, 90, 110, 140)


def test_the_worked_example_of_the_methods_holds_to_the_digits_shown() -> None:
    chi, g = distance.chi_square(A, B), distance.g_test(A, B)

    assert chi.statistic == pytest.approx(24.58937, abs=5e-6)
    assert chi.p == pytest.approx(1.88144e-5, rel=1e-5)
    assert g.statistic == pytest.approx(25.18213, abs=5e-6)
    assert g.p == pytest.approx(1.41441e-5, rel=1e-5)
    assert distance.psi(A, B, smoothing=0) == pytest.approx(0.0897466, abs=1e-7)
    assert distance.kl(A, B) == pytest.approx(0.0436456, abs=1e-7)
    assert distance.kl(B, A) == pytest.approx(0.0461009, abs=1e-7)
    assert distance.js_distance(A, B) == pytest.approx(0.1054978, abs=1e-7)
    assert distance.js_distance(A, B, base=2) == pytest.approx(0.1267158, abs=1e-7)
    assert distance.hellinger(A, B) == pytest.approx(0.1057062, abs=1e-7)
    assert distance.tvd(A, B) == pytest.approx(0.125)
    assert distance.l_infinity(A, B) == pytest.approx(0.1)
    assert distance.ks_of_counts(A, B) == pytest.approx(0.125)
    assert distance.ks_p(0.125, 1000, 400) == pytest.approx(0.000265, abs=5e-7)


def test_permutation_p_reaches_its_floor_on_the_worked_example() -> None:
    p = distance.permutation_p(A, B, distance.ks_of_counts, draws=9999, seed=0)

    assert p == pytest.approx(0.0001)


def test_permutation_p_is_uniform_enough_without_drift() -> None:
    rng = np.random.default_rng(1)

    found = []
    for seed in range(200):
        a, b = rng.multinomial(300, [0.25] * 4), rng.multinomial(100, [0.25] * 4)
        found.append(distance.permutation_p(a, b, distance.tvd, draws=99, seed=seed))

    # 200 draws at .05: three standard errors above.
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=20))
def test_count_distances_equal_scipy(pairs: list[tuple[int, int]]) -> None:
    a, b = [x + 1 for x, _ in pairs], [y for _, y in pairs]
    b[0] += 1
    p, q = np.array(a) / sum(a), np.array(b) / sum(b)

    table = np.array([a, b])
    chi = stats.chi2_contingency(table, correction=False)
    g = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")

    assert distance.chi_square(a, b).statistic == pytest.approx(chi.statistic, abs=1e-9)
    assert distance.chi_square(a, b).p == pytest.approx(chi.pvalue, abs=1e-9)
    assert distance.g_test(a, b).statistic == pytest.approx(g.statistic, abs=1e-8)
    assert distance.kl(a, b) == pytest.approx(stats.entropy(q, p), abs=1e-12)
    assert distance.js_distance(a, b) == pytest.approx(spatial.jensenshannon(p, q), abs=1e-7)


def test_the_null_mean_of_the_index_is_as_printed() -> None:
    rng = np.random.default_rng(0)
    shares = [0.05] * 20

    found, theory = [], 0.0
    for _ in range(1500):
        a, b = rng.multinomial(10_000, shares), rng.multinomial(200, shares)
        found.append(distance.psi(a, b))
        theory = distance.null_psi(a, b)

    assert theory == pytest.approx(0.0969, abs=5e-5)
    assert np.mean(found) == pytest.approx(0.0923, abs=0.003)
    assert distance.excess_psi([500, 500], [510, 490]) == 0.0


def test_an_empty_bin_stays_finite_and_bins_empty_on_both_sides_do_not_count() -> None:
    assert np.isfinite(distance.psi([50, 50, 0], [90, 0, 10]))
    assert distance.psi([50, 0, 50], [40, 0, 60]) == distance.psi([50, 50], [40, 60])
    assert distance.chi_square([50, 0, 50], [40, 0, 60]).df == 1
    assert distance.kl([50, 0], [40, 10]) == float("inf")


@pytest.mark.parametrize(
    ("bins", "low", "high", "estimate", "upper"),
    [
        (16, 0.0499, 0.1124, 0.11759, 0.526),
        (64, 0.05285, 0.06845, 0.11759, 0.192),
        (256, 0.05335, 0.05725, 0.11760, 0.129),
    ],
)
def test_binning_bounds_equal_the_methods_table(
    bins: int, low: float, high: float, estimate: float, upper: float
) -> None:
    rng = np.random.default_rng(7)
    reference, window = rng.normal(0, 1, 20_000), rng.normal(0.1, 1.1, 5_000)
    edges = reference_edges(reference, bins)
    a, b = profile(reference, edges), profile(window, edges)

    ks, w1 = distance.ks(a, b), distance.wasserstein(a, b)

    assert ks.low == pytest.approx(low, abs=1e-9)
    assert ks.high == pytest.approx(high, abs=1e-9)
    assert w1.low == pytest.approx(estimate, abs=2e-4)
    assert w1.high == pytest.approx(upper, abs=2e-3)
    assert w1.low == pytest.approx(stats.wasserstein_distance(reference, window), rel=1e-3)


def bounds(reference: Floats, window: Floats, bins: int) -> tuple[Interval, Interval]:
    edges = reference_edges(reference, bins)
    a, b = profile(reference, edges), profile(window, edges)
    return distance.ks(a, b), distance.wasserstein(a, b)


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from(["normal", "lognormal", "zeros", "integers", "far"]),
    bins=st.sampled_from([2, 8, 64]),
)
def test_the_exact_distances_always_lie_within_the_bounds(seed: int, shape: str, bins: int) -> None:
    rng = np.random.default_rng(seed)
    reference, window = rng.normal(0, 1, 300), rng.normal(rng.normal(), 1 + rng.random(), 80)
    match shape:
        case "lognormal":
            reference, window = np.exp(reference), np.exp(window)
        case "zeros":
            reference, window = np.maximum(reference, 0), np.maximum(window, 0)
        case "integers":
            reference, window = np.round(reference * 3), np.round(window * 3)
        case "far":
            reference, window = reference + 1.7e9, window + 1.7e9

    ks, w1 = bounds(reference, window, bins)

    exact_ks = stats.ks_2samp(reference, window, method="asymp").statistic
    exact_w1 = stats.wasserstein_distance(reference, window)
    slack = 1e-9 if shape != "far" else 1e-5
    assert ks.low <= exact_ks + 1e-12
    assert exact_ks <= ks.high + 1e-12
    assert w1.low <= exact_w1 + slack
    assert exact_w1 <= w1.high + slack


def test_the_wasserstein_estimate_is_mostly_within_a_percent() -> None:
    rng = np.random.default_rng(11)
    close = []
    for _ in range(100):
        reference, window = rng.normal(0, 1, 5000), rng.normal(0.2, 1.1, 2000)
        low = bounds(reference, window, 64)[1].low
        close.append(abs(low / stats.wasserstein_distance(reference, window) - 1) < 0.01)

    assert np.mean(close) >= 0.95


def test_atoms_leave_no_doubt_in_the_ks_distance() -> None:
    found, _ = bounds(np.repeat([1.0, 2.0, 3.0], 100), np.repeat([1.0, 3.0], 40), 64)

    assert found.low == found.high == pytest.approx(1 / 6)


def test_mean_shift_counts_reference_deviations() -> None:
    values = np.random.default_rng(2).normal(5, 2, 10_000)
    edges = reference_edges(values)

    shift = distance.mean_shift(profile(values, edges), profile(values + 1, edges))

    assert shift == pytest.approx(1 / values.std())


def test_coarsening_keeps_all_rows_and_merges_neighbours_only() -> None:
    a, b = np.arange(1, 65), np.arange(64, 0, -1)

    coarse_a, coarse_b = distance.coarsen(a, b, distance.bins_used(100))

    assert coarse_a.size == 5
    assert (coarse_a.sum(), coarse_b.sum()) == (a.sum(), b.sum())
    assert set(np.cumsum(coarse_a)) <= set(np.cumsum(a))
    assert distance.bins_used(10) == 2
    assert distance.bins_used(10**6) == 64


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2, 3]), ([0, 0], [1, 2]), ([1, 2], [0, 0])])
def test_histograms_that_do_not_compare_are_refused(a: list[int], b: list[int]) -> None:
    with pytest.raises(InvalidInput, match="histograms"):
        distance.psi(a, b)
