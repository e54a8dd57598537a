"""What a user declares of a dataset: its columns that matter and the checks on its rows."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from mainspring.core.errors import InvalidDeclaration
from mainspring.core.ids import checked_name

RESERVED = ("reason", "dataset_version")
"""Columns the quarantine adds to the rows, so that a dataset may not have them itself."""

RESERVED_PREFIX = "mainspring_"
"""Columns so named are kept beside the rows and never shown."""

Scalar = str | int | float | bool


class NotNull(msgspec.Struct, frozen=True, tag="not_null", forbid_unknown_fields=True):
    """A value is there; a NaN is none."""

    column: str

    @property
    def reason(self) -> str:
        """What a row in quarantine carries when it breaks this."""
        return f"not_null({self.column})"


class Between(msgspec.Struct, frozen=True, tag="between", forbid_unknown_fields=True):
    """A number lies within bounds, both included; a missing value passes, a NaN does not."""

    column: str
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise InvalidDeclaration(f"{self.reason}: no bound; give a low or a high one")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise InvalidDeclaration(
                f"{self.reason}: found {self.low} to {self.high}, expected low <= high"
            )

    @property
    def reason(self) -> str:
        """What a row in quarantine carries when it breaks this."""
        return f"between({self.column})"


class OneOf(msgspec.Struct, frozen=True, tag="one_of", forbid_unknown_fields=True):
    """A value is one of a list; a missing value passes."""

    column: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "values", tuple(self.values))
        if not self.values:
            raise InvalidDeclaration(f"{self.reason}: no values; name at least one")

    @property
    def reason(self) -> str:
        """What a row in quarantine carries when it breaks this."""
        return f"one_of({self.column})"


class Unique(msgspec.Struct, frozen=True, tag="unique", forbid_unknown_fields=True):
    """A value occurs once in the whole dataset; the row that arrived first stays."""

    column: str

    @property
    def reason(self) -> str:
        """What a row in quarantine carries when it breaks this."""
        return f"unique({self.column})"


class RowCount(msgspec.Struct, frozen=True, tag="row_count", forbid_unknown_fields=True):
    """A commit's accepted rows, as a ratio to the last commit's, lie within bounds."""

    low: float = 0.5
    high: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise InvalidDeclaration(
                f"row_count: found {self.low} to {self.high}, expected 0 <= low <= high, "
                "as ratios to the last commit's rows"
            )


RowCheck = NotNull | Between | OneOf | Unique
Check = RowCheck | RowCount


def not_null(column: str) -> NotNull:
    """Demand a value in every row."""
    return NotNull(column)


def between(column: str, low: float | None, high: float | None) -> Between:
    """Demand a number within bounds, both included; a bound of None is open."""
    return Between(column, low, high)


def one_of(column: str, values: Iterable[Scalar]) -> OneOf:
    """Demand one of these values."""
    return OneOf(column, tuple(values))


def unique(column: str) -> Unique:
    """Demand that no value occurs twice, in all versions together."""
    return Unique(column)


def row_count(*, low: float = 0.5, high: float = 2.0) -> RowCount:
    """Demand as many rows as the last commit had, times `low` to `high`; the first passes."""
    return RowCount(low, high)


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that become known together: one table, growing by versions.

    Attributes:
        name: Also names its tables, so letters, digits, `_`, `-` only.
        key: Column that says what a row is about.
        time: Column of the event time, aware.
        arrival: Column of the time from which the row was known, aware.
        checks: On each row, but `row_count`, which is on each commit.
    """

    name: str
    key: str
    time: str
    arrival: str
    checks: tuple[Check, ...] = ()

    if TYPE_CHECKING:

        def __init__(
            self, name: str, key: str, time: str, arrival: str, checks: Iterable[Check] = ()
        ) -> None: ...

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "checks", tuple(self.checks))
        checked_name(self.name, what="dataset")
        for column in (self.key, self.time, self.arrival):
            if column in RESERVED or column.startswith(RESERVED_PREFIX):
                raise InvalidDeclaration(
                    f"dataset {self.name!r}: column name {column!r} is reserved; rename the column"
                )
        if self.time == self.key or self.arrival == self.key:
            raise InvalidDeclaration(
                f"dataset {self.name!r}: the key column {self.key!r} cannot be a time as well"
            )

    @property
    def row_checks(self) -> tuple[RowCheck, ...]:
        """The checks that speak of single rows, in their order."""
        return tuple(check for check in self.checks if not isinstance(check, RowCount))

    @property
    def count_checks(self) -> tuple[RowCount, ...]:
        """The checks that speak of a whole commit."""
        return tuple(check for check in self.checks if isinstance(check, RowCount))
