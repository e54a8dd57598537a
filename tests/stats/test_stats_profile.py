"""Profiles: cutting, counting, merging."""

import json
from collections.abc import Sequence
from random import Random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import InvalidInput
from mainspring.stats.categories import (
    CategoryProfile,
    merge_categories,
    profile_categories,
    reference_categories,
)
from mainspring.stats.profile import (
    Edges,
    NumericProfile,
    merge,
    profile,
    reference_edges,
)

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -999.0, 1.5])
columns = st.lists(numbers, min_size=1, max_size=120)


def test_bins_are_right_closed_and_a_heavy_value_is_an_atom() -> None:
    values = [0.0] * 50 + list(np.linspace(1, 50, 50) + 0.5)

    edges = reference_edges(values, bins=4)
    found = profile([0.0, 0.0, -1e-300, 1e-300, 2.0], edges)

    assert edges.atoms == (0.0,)
    at = edges.cuts.index(0.0)
    assert found.count[at] == 2
    assert sum(found.count[:at]) == 1
    assert sum(found.count) == 5


@settings(deadline=None, max_examples=60)
@given(reference=columns, live=columns, bins=st.sampled_from([2, 5, 16, 64]))
def test_the_cumulated_count_at_a_cut_is_the_empirical_distribution(
    reference: list[float], live: list[float], bins: int
) -> None:
    edges = reference_edges(reference, bins)

    found = profile(live, edges)

    for cumulated, cut in zip(np.cumsum(found.count), edges.cuts, strict=False):
        assert cumulated == sum(value <= cut for value in live)


@settings(deadline=None, max_examples=60)
@given(parts=st.lists(columns, min_size=2, max_size=6), order=st.randoms(use_true_random=False))
def test_profiles_merge_in_any_order_to_the_profile_of_all_rows(
    parts: list[list[float]], order: Random
) -> None:
    edges = reference_edges(parts[0])
    whole = profile([value for part in parts for value in part], edges)
    pieces = [profile(part, edges) for part in parts]
    order.shuffle(pieces)

    left = merge(*pieces)
    right = pieces[-1]
    for piece in reversed(pieces[:-1]):
        right = merge(piece, right)

    for found in (left, right):
        assert found.count == whole.count
        assert (found.min, found.max) == (whole.min, whole.max)
        np.testing.assert_allclose(found.sum, whole.sum, rtol=1e-9, atol=1e-6)
        assert found.sum_squares == pytest.approx(whole.sum_squares, rel=1e-9)


def test_missing_nan_and_infinite_are_counted_apart_and_change_no_sum() -> None:
    edges = reference_edges(range(100))
    column = np.array([1.0, np.nan, np.inf, -np.inf, 1e200, 5.0, 7.0])

    found = profile(column, edges, missing=np.array([False] * 6 + [True]))

    assert (found.n_missing, found.n_nan, found.n_inf) == (1, 1, 3)
    assert (found.present, found.rows) == (2, 7)
    assert sum(found.sum) == 6
    assert found.absent_share == pytest.approx(5 / 7)


def test_mean_and_sd_come_from_the_sums() -> None:
    values = np.random.default_rng(0).normal(3, 2, 1000)

    found = profile(values, reference_edges(values))

    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std())


def test_profiles_with_other_edges_are_refused() -> None:
    a = profile([1.0], reference_edges(range(10)))
    b = profile([1.0], reference_edges(range(20)))

    with pytest.raises(InvalidInput, match="expected the same"):
        merge(a, b)


def test_a_column_without_values_has_a_profile_without_values() -> None:
    edges = reference_edges([np.nan])

    found = profile([np.nan, np.nan], edges)

    assert edges == Edges(())
    assert (found.count, found.min, found.n_nan) == ((0,), None, 2)
    assert np.isnan(found.mean)


@settings(deadline=None, max_examples=30)
@given(columns)
def test_a_profile_survives_json_to_the_last_bit(values: list[float]) -> None:
    found = profile([*values, float("inf")], reference_edges(values))

    again = msgspec.json.decode(msgspec.json.encode(found), type=NumericProfile)

    assert again == found
    assert again.edges.digest == found.edges.digest
    assert "NaN" not in json.dumps(msgspec.to_builtins(found))


def test_rare_categories_are_the_references_and_new_ones_are_named() -> None:
    reference = reference_categories(["a"] * 60 + ["b"] * 30 + ["c"] * 2 + ["d"])

    found = profile_categories(["a", "c", "d", "x", "x", "y", None, float("nan"), "a"], reference)

    assert (reference.named, reference.rare) == (("a", "b"), ("c", "d"))
    assert found.counts == (2, 0)
    assert (found.rare, found.new, found.missing) == (2, 3, 2)
    assert found.named_new == (("x", 2), ("y", 1))
    assert found.histogram == (2, 0, 2, 3)


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.lists(st.sampled_from([*"abcdefgh", None]), max_size=40), min_size=2),
    order=st.randoms(use_true_random=False),
)
def test_category_profiles_merge_in_any_order(
    parts: list[Sequence[str | None]], order: Random
) -> None:
    categories = reference_categories(["a"] * 9 + ["b"] * 7 + ["c"] * 2)
    whole = profile_categories([value for part in parts for value in part], categories)
    pieces = [profile_categories(part, categories) for part in parts]
    order.shuffle(pieces)

    found = merge_categories(*pieces)

    assert found == whole
    encoded = msgspec.json.encode(found)
    assert msgspec.json.decode(encoded, type=CategoryProfile) == found


def test_named_new_categories_are_bounded_and_all_are_counted() -> None:
    categories = reference_categories(["a"] * 10)

    found = profile_categories([f"n{i}" for i in range(500)], categories)

    assert found.new == 500
    assert len(found.named_new) == 20


def test_good_turing_predicts_the_unseen_share_of_a_long_tail() -> None:
    rng = np.random.default_rng(4)
    seen, later = rng.zipf(1.6, 5000), rng.zipf(1.6, 20_000)

    reference = reference_categories(seen.tolist())
    unseen = np.mean(~np.isin(later, seen))

    assert reference.expected_new_share == pytest.approx(unseen, abs=0.01)
    assert not reference.identifier_like
    assert reference_categories(range(100)).identifier_like
    assert reference_categories(range(100)).rare == ()


def test_different_categories_are_refused() -> None:
    a = profile_categories(["a"], reference_categories(["a"] * 9))
    b = profile_categories(["a"], reference_categories(["b"] * 9))

    with pytest.raises(InvalidInput, match="expected the same"):
        merge_categories(a, b)
