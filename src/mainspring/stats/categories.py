"""Column profiles of categories: the reference's names, rare ones, new ones, missing ones."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Digest, digest_of

NAMED_NEW = 20
"""New categories kept by name; all are counted."""


@dataclass(frozen=True, slots=True)
class Categories:
    """The names a reference knows.

    Attributes:
        named: Categories with a count of their own, sorted.
        rare: Categories seen in the reference below max(5, 0.1 % of its rows), sorted; empty for
            a column that looks like an identifier, whose list would be as long as the data.
        singletons: Categories the reference saw once.
        rows: Present rows of the reference.
    """

    named: tuple[str, ...]
    rare: tuple[str, ...]
    singletons: int
    rows: int

    @property
    def expected_new_share(self) -> float:
        """Share of unseen categories to expect without drift (Good 1953): singletons / rows."""
        return self.singletons / self.rows if self.rows else 0.0

    @property
    def identifier_like(self) -> bool:
        """True when over a fifth of the mass is unseen: value drift means nothing then."""
        return self.expected_new_share > 0.2

    @property
    def digest(self) -> Digest:
        """Name of this list: profiles merge only when it is equal."""
        return digest_of(self)


@dataclass(frozen=True, slots=True)
class CategoryProfile:
    """What is kept of one column of categories over one window.

    Attributes:
        categories: The reference's names.
        counts: Rows per named category, in their order.
        rare: Rows of the reference's rare categories.
        new: Rows of categories the reference never saw.
        missing: Rows without a value.
        named_new: The most frequent new categories with their rows, 20 at most. Beyond 20 the
            list depends on the order of merging; the counts never do.
    """

    categories: Categories
    counts: tuple[int, ...]
    rare: int
    new: int
    missing: int
    named_new: tuple[tuple[str, int], ...]

    @property
    def present(self) -> int:
        """Rows with a value."""
        return sum(self.counts) + self.rare + self.new

    @property
    def histogram(self) -> tuple[int, ...]:
        """Named counts, then rare, then new: what the distances of counts compare."""
        return (*self.counts, self.rare, self.new)


def reference_categories(values: Iterable[Any]) -> Categories:
    """Choose the categories from reference values; None and NaN are missing.

    >>> reference_categories(["a"] * 9 + ["b"] * 2 + [None])
    Categories(named=('a',), rare=('b',), singletons=0, rows=11)
    """
    counts, _ = _counted(values)
    rows = sum(counts.values())
    floor = max(5.0, rows / 1000)
    named = tuple(sorted(name for name, count in counts.items() if count >= floor))
    rare = tuple(sorted(name for name, count in counts.items() if count < floor))
    singletons = sum(1 for count in counts.values() if count == 1)
    chosen = Categories(named, rare, singletons, rows)
    return Categories(named, (), singletons, rows) if chosen.identifier_like else chosen


def profile_categories(values: Iterable[Any], categories: Categories) -> CategoryProfile:
    """Count one column of categories; None and NaN are missing, others are taken as text."""
    counts, missing = _counted(values)
    rare = sum(counts.pop(name, 0) for name in categories.rare)
    named = tuple(counts.pop(name, 0) for name in categories.named)
    return CategoryProfile(
        categories=categories,
        counts=named,
        rare=rare,
        new=sum(counts.values()),
        missing=missing,
        named_new=_most_frequent(counts),
    )


def merge_categories(first: CategoryProfile, *others: CategoryProfile) -> CategoryProfile:
    """Add profiles up: counts are the same in any order.

    Raises:
        InvalidInput: Two were made with different categories.
    """
    return reduce(_merge_two, others, first)


def _merge_two(a: CategoryProfile, b: CategoryProfile) -> CategoryProfile:
    same_categories(a, b)
    return CategoryProfile(
        categories=a.categories,
        counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)),
        rare=a.rare + b.rare,
        new=a.new + b.new,
        missing=a.missing + b.missing,
        named_new=_most_frequent(Counter(dict(a.named_new)) + Counter(dict(b.named_new))),
    )


def same_categories(a: CategoryProfile, b: CategoryProfile) -> None:
    """Refuse two profiles that were made with different categories."""
    if a.categories != b.categories:
        raise InvalidInput(
            f"profiles: found categories {a.categories.digest[:12]} and "
            f"{b.categories.digest[:12]}, expected the same; profile both columns with the "
            "reference's categories"
        )


def _counted(values: Iterable[Any]) -> tuple[Counter[str], int]:
    raw = Counter(values)
    counts: Counter[str] = Counter()
    missing = 0
    for value, count in raw.items():
        # Only NaN differs from itself.
        if value is None or value != value:
            missing += count
        else:
            counts[str(value)] += count
    return counts, missing


def _most_frequent(counts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ordered[:NAMED_NEW])
