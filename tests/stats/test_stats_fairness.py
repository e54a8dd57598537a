"""Group rates, their intervals and the four-fifths verdict."""

import numpy as np
import pytest

from mainspring.core.errors import InvalidInput
from mainspring.stats.fairness import (
    Counts,
    Cube,
    RateName,
    confusion_cube,
    each_against_rest,
    equalised_odds_difference,
    holm,
    rate,
    ratio_verdict,
)
from mainspring.stats.interval import newcombe

A, B = Counts(520, 80, 60, 240), Counts(255, 25, 50, 70)
CUBE = Cube(("a", "b"), (A, B))


@pytest.mark.parametrize(
    ("name", "a", "b", "difference"),
    [
        ("selection", (0.3556, 0.3250, 0.3874), (0.2375, 0.1984, 0.2816), (0.0644, 0.1685)),
        ("tpr", (0.8, 0.7511, 0.8413), (0.5833, 0.4939, 0.6676), (0.1192, 0.3152)),
        ("fpr", (0.1333, 0.1085, 0.1629), (0.0893, 0.0612, 0.1285), (-0.0024, 0.0848)),
        ("ppv", (0.75, None, None), (0.7368, None, None), (-0.0797, 0.1193)),
    ],
)
def test_rates_and_differences_equal_the_worked_example(
    name: RateName,
    a: tuple[float, float | None, float | None],
    b: tuple[float, float | None, float | None],
    difference: tuple[float, float],
) -> None:
    for counts, (value, low, high) in ((A, a), (B, b)):
        found = rate(counts, name)
        assert found.value == pytest.approx(value, abs=5e-5)
        if low is not None:
            ends = found.interval()
            assert (ends.low, ends.high) == pytest.approx((low, high), abs=5e-5)
    first, second = rate(A, name), rate(B, name)
    gap = newcombe(first.k, first.n, second.k, second.n)
    assert (gap.low, gap.high) == pytest.approx(difference, abs=5e-5)


def test_the_four_fifths_verdict_of_the_worked_example_is_inconclusive() -> None:
    found = ratio_verdict(CUBE)

    assert found.outcome == "inconclusive"
    assert found.ratio == pytest.approx(0.667969, abs=5e-7)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (0.548862, 0.812922), abs=5e-6
    )
    assert (found.lowest, found.highest, found.rows) == ("b", "a", 1300)
    assert equalised_odds_difference(CUBE) == pytest.approx(0.216667, abs=5e-7)


@pytest.mark.parametrize(
    ("selected", "outcome"),
    [((500, 500), "pass"), ((500, 350), "fail"), ((500, 400), "inconclusive")],
)
def test_the_verdict_follows_the_interval(selected: tuple[int, int], outcome: str) -> None:
    cube = Cube(("a", "b"), tuple(Counts(1000 - k, k, 0, 0) for k in selected))

    assert ratio_verdict(cube).outcome == outcome


def test_the_extremes_of_many_groups_fail_only_when_the_lowest_differs_from_the_rest() -> None:
    selected = (44, *[60] * 8, 82)
    cube = Cube(tuple("abcdefghij"), tuple(Counts(200 - k, k, 0, 0) for k in selected))

    many, two = (
        ratio_verdict(cube),
        ratio_verdict(Cube(("a", "j"), (cube.counts[0], cube.counts[-1]))),
    )

    assert many.interval == two.interval
    assert many.interval.high < 0.8
    assert (many.outcome, two.outcome) == ("inconclusive", "fail")


def test_small_groups_are_named_and_not_judged() -> None:
    cube = Cube(("big", "small", "thin"), (A, Counts(40, 10, 20, 20), Counts(150, 40, 3, 4)))

    found = ratio_verdict(cube, name="tpr")

    assert found.outcome == "inconclusive"
    assert found.too_small == ("small", "thin")
    assert np.isnan(found.ratio)


def test_the_cube_counts_rows_by_group_label_and_decision() -> None:
    groups = np.array(["x", "y", "x", "x", "y"])

    cube = confusion_cube(groups, [1, 1, 0, 1, 0], [1, 0, 1, 0, 0])

    assert cube == Cube(("x", "y"), (Counts(0, 1, 1, 1), Counts(1, 0, 1, 0)))
    assert sum(cube.counts, Counts(0, 0, 0, 0)).rows == 5


def test_holm_keeps_the_order_and_the_bound() -> None:
    adjusted = holm([0.01, 0.04, 0.03, 0.9])

    assert adjusted == pytest.approx((0.04, 0.09, 0.09, 0.9))
    assert holm([]) == ()


def test_ten_equal_groups_fail_by_chance_in_at_most_a_twentieth() -> None:
    """the point rule is the control, it fires on nine of ten equal cubes."""
    rng = np.random.default_rng(9)
    worlds, failed, found_any, pointed = 400, 0, 0, 0
    for _ in range(worlds):
        k = rng.binomial(200, 0.3, 10)
        cube = Cube(tuple("abcdefghij"), tuple(Counts(200 - int(x), int(x), 0, 0) for x in k))
        failed += ratio_verdict(cube).outcome == "fail"
        found_any += any(t.p < 0.05 for t in each_against_rest(cube, "selection"))
        pointed += k.min() / k.max() < 0.8

    allowed = 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5
    assert failed / worlds <= allowed
    assert found_any / worlds <= allowed
    assert pointed / worlds > 0.5


def test_a_harmed_group_among_ten_is_found() -> None:
    rng = np.random.default_rng(10)
    hits = 0
    for _ in range(50):
        k = rng.binomial(1000, [0.3] * 9 + [0.2])
        cube = Cube(tuple("abcdefghij"), tuple(Counts(1000 - int(x), int(x), 0, 0) for x in k))
        found = ratio_verdict(cube)
        hits += found.outcome == "fail" and found.lowest == "j"

    assert hits >= 40


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected one of selection"):
        rate(A, "luck")  # type: ignore[arg-type]
