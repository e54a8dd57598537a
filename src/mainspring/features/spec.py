"""What a user declares of a feature view."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from mainspring.core.clock import duration
from mainspring.core.errors import InvalidDeclaration
from mainspring.core.ids import checked_name

Aggregate = Literal["mean", "count", "sum", "min", "max"]

_MICROSECOND = timedelta(microseconds=1)


class Named(Protocol):
    """Anything declared with a name; a dataset, here."""

    @property
    def name(self) -> str: ...


class SourceColumns(Protocol):
    """The columns of a dataset that joins need; its declaration has them."""

    @property
    def key(self) -> str: ...
    @property
    def time(self) -> str: ...
    @property
    def arrival(self) -> str: ...


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An aggregate over the events of the last stretch of time; see `mean`, `count` and others."""

    aggregate: Aggregate
    column: str | None
    window: str

    def __post_init__(self) -> None:
        _checked_duration(self.window, what=f"window of {self.aggregate}")
        if (self.column is None) != (self.aggregate == "count"):
            raise InvalidDeclaration(
                f"{self.aggregate}: found column {self.column!r}; count takes none, the others one"
            )

    @property
    def window_us(self) -> int:
        """Length in microseconds."""
        return duration(self.window) // _MICROSECOND


def mean(column: str, window: str) -> Window:
    """Average a column over the last `window`; missing when there is no value in it."""
    return Window("mean", column, window)


def total(column: str, window: str) -> Window:
    """Add a column up over the last `window`; 0 when there is no value in it."""
    return Window("sum", column, window)


def smallest(column: str, window: str) -> Window:
    """Take the least of a column over the last `window`; missing when there is no value in it."""
    return Window("min", column, window)


def largest(column: str, window: str) -> Window:
    """Take the most of a column over the last `window`; missing when there is no value in it."""
    return Window("max", column, window)


def count(window: str) -> Window:
    """Count the events of the last `window`."""
    return Window("count", None, window)


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number of a view: a column's last value, or an aggregate over a window."""

    name: str
    window: Window | None = None


class FeatureView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Numbers that describe an entity at an instant, the same in training and in serving.

    A plain view gives the last row known at that instant. A windowed view lives on a grid: its
    value is that of the last tick at or before the instant.

    Attributes:
        name: Also names its online table.
        entity: Column, in the source and in the rows, that says whom the numbers describe.
        source: The dataset.
        ttl: Age from which a value is missing, none = never.
        every: Step of the grid, counted from 1970 UTC; exactly windowed views have one.
        features: In the order of the online table.
    """

    name: str
    entity: str
    source: str
    ttl: str | None = None
    every: str | None = None
    features: tuple[Feature, ...] = ()

    if TYPE_CHECKING:
        # What a user may write is wider than what is kept; msgspec makes the real one.
        def __init__(
            self,
            name: str,
            *,
            entity: str,
            source: Named | str,
            ttl: str | None = None,
            every: str | None = None,
            features: Sequence[str] | Sequence[Feature] | Mapping[str, Window] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        source = self.source if isinstance(self.source, str) else self.source.name
        msgspec.structs.force_setattr(self, "source", source)
        msgspec.structs.force_setattr(self, "features", _features(self.features))
        checked_name(self.name, what="feature view")
        self._check()

    def _check(self) -> None:
        where = f"feature view {self.name!r}"
        for text in (self.ttl, self.every):
            if text is not None:
                _checked_duration(text, what=where)
        names = [feature.name for feature in self.features]
        if not names or len(set(names)) < len(names):
            raise InvalidDeclaration(
                f"{where}: found features {names}; name at least one, each once"
            )
        windowed = [feature.name for feature in self.features if feature.window is not None]
        if windowed and (self.every is None or len(windowed) < len(names)):
            raise InvalidDeclaration(
                f"{where}: {windowed} are over windows; give the grid's step, such as every='5m', "
                "and put plain columns into a view of their own"
            )
        if self.every is not None and not windowed:
            raise InvalidDeclaration(f"{where}: every={self.every!r} needs features over windows")

    @property
    def windowed(self) -> bool:
        """Whether it lives on a grid."""
        return self.every is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(feature.name for feature in self.features)

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns its numbers are made of, each once."""
        if not self.windowed:
            return self.names
        read = (feature.window.column for feature in self.features if feature.window)
        return tuple(dict.fromkeys(column for column in read if column is not None))

    @property
    def time_column(self) -> str:
        """Column of a join's result that holds the time of the value used."""
        return f"{self.name}__time"

    @property
    def ttl_us(self) -> int | None:
        """Age in microseconds from which a value is missing."""
        return None if self.ttl is None else duration(self.ttl) // _MICROSECOND

    @property
    def every_us(self) -> int:
        """Step of the grid in microseconds."""
        assert self.every is not None
        return duration(self.every) // _MICROSECOND

    @property
    def longest_us(self) -> int:
        """Length of the longest window in microseconds, 0 for a plain view."""
        windows = [feature.window.window_us for feature in self.features if feature.window]
        return max(windows, default=0)


def _features(
    declared: Sequence[str] | Sequence[Feature] | Mapping[str, Window],
) -> tuple[Feature, ...]:
    if isinstance(declared, Mapping):
        return tuple(Feature(name, window) for name, window in declared.items())
    return tuple(Feature(one) if isinstance(one, str) else one for one in declared)


def _checked_duration(text: str, *, what: str) -> None:
    try:
        duration(text)
    except ValueError as error:
        raise InvalidDeclaration(f"{what}: {error}") from error
