"""Calibration and performance before labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from mainspring.core.errors import InvalidInput
from mainspring.stats.auc import auc
from mainspring.stats.calibration import (
    CalibrationMap,
    bootstrap_maps,
    brier_parts,
    calibration_line,
    fit_calibration,
    isotonic,
    platt,
    spiegelhalter_z,
    squared_calibration_error,
)
from mainspring.stats.estimation import (
    bounded_expected_log_loss_rows,
    estimate,
    expected_auc,
    expected_brier_rows,
    expected_confusion,
    expected_log_loss_rows,
)
from mainspring.stats.loss import bounded_log_loss_rows, brier, log_loss

P = (0.1, 0.1, 0.1, 0.4, 0.4, 0.8, 0.8, 0.8)
LABELS = (0, 0, 1, 0, 1, 1, 1, 0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 4))
def test_isotonic_equals_scikit_learn_with_ties(seed: int, rows: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    score = np.round(rng.random(rows), digits)
    y = (rng.random(rows) < score).astype(int)
    oracle = IsotonicRegression(out_of_bounds="clip", y_min=1e-4, y_max=1 - 1e-4)

    found = isotonic(y, score)

    oracle.fit(score, y)
    grid = np.linspace(-0.1, 1.1, 200)
    np.testing.assert_allclose(found.apply(grid), oracle.predict(grid), atol=1e-9)
    assert np.all(np.diff(found.values) >= 0)
    assert np.all(np.diff(found.knots) > 0)


def test_a_calibrated_miscalibration_has_a_smaller_loss() -> None:
    rng = np.random.default_rng(0)
    truth = rng.beta(2, 5, 20_000)
    y, score = rng.random(20_000) < truth, truth**2

    fitted = fit_calibration(y[:10_000], score[:10_000])

    after = log_loss(y[10_000:], fitted.apply(score[10_000:]))
    assert fitted.method == "isotonic"
    assert after < log_loss(y[10_000:], score[10_000:]) - 0.05
    assert after == pytest.approx(log_loss(y[10_000:], truth[10_000:]), abs=0.005)


def test_few_labels_take_the_line_and_a_falling_line_the_base_rate() -> None:
    rng = np.random.default_rng(1)
    score = rng.random(400)
    y = rng.random(400) < score

    rising, falling = fit_calibration(y, score), platt(~y, score)

    assert rising.method == "platt"
    assert np.all(np.diff(rising.values) > 0)
    assert np.max(np.abs(rising.apply([0.2, 0.5, 0.8]) - (0.2, 0.5, 0.8))) < 0.1
    assert falling.values == pytest.approx([np.mean(~y)])
    assert platt([1, 0], [0.3, 0.3]).apply([0.9]) == pytest.approx([0.5])


def test_slope_and_intercept_equal_a_logistic_regression() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.05, 0.95, 3000)
    y = (rng.random(3000) < p**2).astype(int)

    found = calibration_line(y, p)

    oracle = LogisticRegression(C=np.inf, tol=1e-10)
    oracle.fit(np.log(p / (1 - p))[:, None], y)
    assert found.converged
    assert found.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert found.intercept == pytest.approx(oracle.intercept_[0], rel=1e-4)


def test_blocks_widen_the_error_of_the_slope_only_when_rows_repeat() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.95, 1500)
    y = (rng.random(1500) < p).astype(int)
    alone = calibration_line(y, p)

    each = calibration_line(y, p, np.arange(1500))
    doubled = calibration_line(np.tile(y, 4), np.tile(p, 4), np.tile(np.arange(1500), 4))

    assert each.slope_se == pytest.approx(alone.slope_se, rel=0.1)
    assert doubled.slope_se == pytest.approx(each.slope_se, rel=1e-6)


@pytest.mark.parametrize(
    ("y", "p"), [([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]), ([0, 1], [0.5, 0.5]), ([1, 1], [0.2, 0.4])]
)
def test_a_line_that_does_not_exist_says_so(y: list[int], p: list[float]) -> None:
    assert not calibration_line(y, p).converged


def test_brier_parts_and_spiegelhalter_equal_the_worked_example() -> None:
    parts = brier_parts(LABELS, P)

    assert parts.reliability == pytest.approx(0.0295833, abs=5e-8)
    assert parts.resolution == pytest.approx(0.0208333, abs=5e-8)
    assert parts.uncertainty == pytest.approx(0.25)
    total = parts.reliability - parts.resolution + parts.uncertainty
    assert brier(LABELS, P) == pytest.approx(total) == pytest.approx(0.25875)
    assert spiegelhalter_z(LABELS, P) == pytest.approx(1.390759, abs=5e-7)
    assert spiegelhalter_z([0, 1], [0.5, 0.5]) == 0.0


def test_the_debiased_error_of_a_perfect_model_is_nothing_and_of_a_bad_one_something() -> None:
    rng = np.random.default_rng(4)
    perfect, plain = [], []
    for _ in range(200):
        p = rng.random(1000)
        y = rng.random(1000) < p
        perfect.append(squared_calibration_error(y, p))
        parts = np.array_split(np.argsort(p), 15)
        plain.append(np.mean([abs(p[at].mean() - y[at].mean()) for at in parts]))

    spoiled = squared_calibration_error(y, p**2)

    # The usual form sees .03 where there is nothing.
    assert np.mean(plain) > 0.025
    assert abs(np.mean(perfect)) < 3 * np.std(perfect) / 200**0.5 + 1e-4
    assert spoiled > 0.01


def test_expected_performance_equals_the_worked_example() -> None:
    c = np.array([0.9, 0.8, 0.6, 0.3, 0.1])

    found = expected_confusion(c, c >= 0.5)

    assert (found.tp, found.fp, found.fn, found.tn) == pytest.approx((2.3, 0.7, 0.4, 1.6))
    assert found.accuracy == pytest.approx(0.78)
    assert found.precision == pytest.approx(0.766667, abs=5e-7)
    assert found.recall == pytest.approx(0.851852, abs=5e-7)
    assert found.f1 == pytest.approx(0.807018, abs=5e-7)
    assert expected_brier_rows(c, c).mean() == pytest.approx(0.158)
    assert expected_log_loss_rows(c, c).mean() == pytest.approx(0.486889, abs=5e-7)
    assert expected_auc(c, c) == pytest.approx(0.838164, abs=5e-7)


def test_the_label_part_of_the_accuracy_band_equals_the_worked_example() -> None:
    c = (0.9, 0.8, 0.6, 0.3, 0.1)
    same = CalibrationMap((0.0, 1.0), (0.0, 1.0), 5, "isotonic")

    found = estimate("accuracy", c, same, [same, same])

    assert (found.high - found.value) / 1.96 == pytest.approx(0.177764, abs=5e-7)


def test_expectations_with_known_labels_are_the_metrics_themselves() -> None:
    rng = np.random.default_rng(5)
    s = np.round(rng.uniform(0.02, 0.98, 300), 2)
    y = (rng.random(300) < s).astype(float)

    assert expected_log_loss_rows(y, s).mean() == pytest.approx(log_loss(y, s))
    assert expected_brier_rows(y, s).mean() == pytest.approx(brier(y, s))
    assert expected_auc(y, s) == pytest.approx(auc(y, s))
    np.testing.assert_allclose(bounded_expected_log_loss_rows(y, s), bounded_log_loss_rows(y, s))


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "brier", "auc"])
@pytest.mark.parametrize(("effect", "covered"), [(1.0, True), (0.0, False)])
def test_bands_cover_a_covariate_shift_and_not_a_changed_relation(
    metric: str, effect: float, covered: bool
) -> None:
    rng = np.random.default_rng(6)
    inside, worlds = 0, 60
    for seed in range(worlds):
        reference, y = _world(rng, 2000, shift=0.0, effect=1.0)
        window, truth = _world(rng, 1000, shift=0.5, effect=effect)
        curves = bootstrap_maps(y, reference, draws=12, seed=seed)
        found = estimate(metric, window, fit_calibration(y, reference), curves)
        inside += found.low <= _actual(metric, truth, window) <= found.high

    assert (inside / worlds >= 0.85) if covered else (inside / worlds < 0.3)


def test_an_estimate_without_rows_curves_or_a_known_metric_is_refused() -> None:
    same = CalibrationMap((0.0, 1.0), (0.0, 1.0), 5, "isotonic")

    with pytest.raises(InvalidInput, match="at least 2"):
        estimate("auc", [0.5], same, [same])
    with pytest.raises(InvalidInput, match="recall"):
        estimate("recall", [0.5], same, [same, same])
    with pytest.raises(InvalidInput, match="one class"):
        expected_auc([1.0, 1.0], [0.2, 0.4])
    with pytest.raises(InvalidInput, match="probabilities"):
        isotonic([1, 0], [0.2, 1.4])


def _world(
    rng: np.random.Generator, rows: int, *, shift: float, effect: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    x = rng.normal(shift, 1, rows)
    y = rng.random(rows) < 1 / (1 + np.exp(-(effect * 1.5 * x - 0.5)))
    return 1 / (1 + np.exp(-(1.5 * x - 0.5) * 0.7)), y


def _actual(metric: str, y: NDArray[np.bool_], s: NDArray[np.float64]) -> float:
    match metric:
        case "accuracy":
            return float(np.mean((s >= 0.5) == y))
        case "log_loss":
            return log_loss(y, s)
        case "brier":
            return brier(y, s)
        case _:
            return auc(y, s)
