"""The feature vectors of one request, and the check of what the caller sent."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput, SchemaMismatch
from mainspring.formats.model import Column

_TEXT = frozenset({str})
_FITTING = {"int": frozenset({int, bool}), "bool": frozenset({bool})}


@dataclass(frozen=True, slots=True)
class Rows:
    """What a caller asks predictions for. Columns that the endpoint does not take are ignored."""

    keys: Sequence[str]
    event_times_us: Sequence[int]
    """Microseconds of UTC since 1970."""
    columns: Mapping[str, Sequence[Any]]
    """Missing numbers as None or NaN, missing strings as None or ''."""
    keys_given: bool = True
    """False: the caller gave no keys, they were made up here and differ in a repeat."""
    times_given: bool = True
    """False: the caller gave no event times, they are the present."""


class Vectors:
    """Columns of one request: numbers as one float64 table, strings as lists.

    What a graph takes is made from it once, however many arms score.
    """

    __slots__ = (
        "_matrices",
        "_narrow",
        "_objects",
        "_wide",
        "count",
        "float_names",
        "floats",
        "strings",
    )

    def __init__(
        self,
        count: int,
        float_names: list[str],
        floats: NDArray[np.float64],
        strings: dict[str, list[str]],
    ) -> None:
        self.count = count
        self.float_names = float_names
        self.floats = floats
        """Shape (columns, rows)."""
        self.strings = strings
        self._wide: dict[str, NDArray[np.float64]] | None = None
        self._narrow: dict[str, NDArray[np.float32]] | None = None
        self._objects: dict[str, NDArray[Any]] = {}
        self._matrices: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def part(self, begin: int, end: int) -> "Vectors":
        """Give some of the rows."""
        strings = {name: texts[begin:end] for name, texts in self.strings.items()}
        return Vectors(end - begin, self.float_names, self.floats[:, begin:end], strings)

    def matrix(self, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Give columns of numbers as a float32 matrix, a row per row."""
        if (matrix := self._matrices.get(names)) is None:
            table = self.floats
            if list(names) != self.float_names:
                table = table[[self.float_names.index(name) for name in names]]
            with np.errstate(over="ignore"):
                matrix = table.T.astype(np.float32, order="C")
            self._matrices[names] = matrix
        return matrix

    def wide(self) -> dict[str, NDArray[np.float64]]:
        """Give the columns of numbers."""
        if self._wide is None:
            self._wide = dict(zip(self.float_names, self.floats, strict=True))
        return self._wide

    def narrow(self) -> dict[str, NDArray[np.float32]]:
        """Give the columns of numbers as float32."""
        if self._narrow is None:
            with np.errstate(over="ignore"):
                narrow = self.floats.astype(np.float32, order="C")
            self._narrow = dict(zip(self.float_names, narrow, strict=True))
        return self._narrow

    def objects(self, name: str) -> NDArray[Any]:
        """Give a column of strings."""
        if (objects := self._objects.get(name)) is None:
            self._objects[name] = objects = np.array(self.strings[name], object)
        return objects


def checked(rows: Rows, request: Sequence[Column], *, subject: str) -> Vectors:
    """Read the request's columns; the whole request is refused if one value is wrong.

    Raises:
        InvalidInput: There is no row, or keys, times and columns differ in length.
        SchemaMismatch: A column is missing or a value has another type; both are named.
    """
    return read(_count(rows, subject), rows.columns, request, subject=subject)


def read(
    count: int, columns: Mapping[str, Sequence[Any]], request: Sequence[Column], *, subject: str
) -> Vectors:
    """Read columns that must have `count` values each; raises as `checked` does."""
    numbers: list[tuple[Column, Sequence[Any]]] = []
    strings: dict[str, list[str]] = {}
    for column in request:
        values = columns.get(column.name)
        if values is None:
            expected = ", ".join(c.name for c in request)
            raise SchemaMismatch(
                f"{subject}: column {column.name!r} is missing; send one value per row for each "
                f"of {expected}"
            )
        if len(values) != count:
            raise InvalidInput(
                f"{subject}: column {column.name!r} has {len(values)} values for {count} rows; "
                "send one per row"
            )
        if column.type == "str":
            strings[column.name] = _strings(values, column, subject)
        else:
            numbers.append((column, values))
    floats = _table(numbers, subject).reshape(len(numbers), count)
    _check_numbers(floats, numbers, subject)
    return Vectors(count, [column.name for column, _ in numbers], floats, strings)


def _count(rows: Rows, subject: str) -> int:
    count = len(rows.keys)
    if count == 0:
        raise InvalidInput(f"{subject}: no row; send at least one")
    if len(rows.event_times_us) != count:
        raise InvalidInput(
            f"{subject}: found {count} keys and {len(rows.event_times_us)} event times; send one "
            "of each per row"
        )
    for i, (key, at) in enumerate(zip(rows.keys, rows.event_times_us, strict=True)):
        if type(key) is not str or type(at) is not int:
            raise InvalidInput(
                f"{subject}: row {i} has the key {key!r} and the event time {at!r}; expected a "
                "string and whole microseconds since 1970"
            )
    return count


def _table(numbers: Sequence[tuple[Column, Sequence[Any]]], subject: str) -> NDArray[np.float64]:
    try:
        # Refuses strings, as numpy would not; None takes the slow way below.
        flat = array("d", [value for _, values in numbers for value in values])
    except (TypeError, OverflowError):
        each = (_floats(values, column, subject) for column, values in numbers)
        flat = array("d", [number for column in each for number in column])
    return np.frombuffer(flat, np.float64)


def _floats(values: Sequence[Any], column: Column, subject: str) -> list[float]:
    numbers = []
    for i, value in enumerate(values):
        try:
            numbers.append(float("nan") if value is None else array("d", (value,))[0])
        except (TypeError, OverflowError) as error:
            raise _wrong(subject, column, i, value) from error
    return numbers


def _strings(values: Sequence[Any], column: Column, subject: str) -> list[str]:
    if _TEXT.issuperset(map(type, values)):
        return list(values)
    strings = ["" if value is None else value for value in values]
    for i, value in enumerate(strings):
        if type(value) is not str:
            raise _wrong(subject, column, i, value)
    return strings


def _check_numbers(
    floats: NDArray[np.float64], numbers: Sequence[tuple[Column, Sequence[Any]]], subject: str
) -> None:
    infinite = np.isinf(floats)
    if infinite.any():
        c, i = (int(x) for x in np.argwhere(infinite)[0])
        raise _wrong(subject, numbers[c][0], i, float(floats[c, i]))
    for c, (column, values) in enumerate(numbers):
        # Of the column's own type all along: nothing to look at in the values.
        if column.type == "float" or _FITTING[column.type].issuperset(map(type, values)):
            continue
        row = floats[c]
        whole = (row == 0) | (row == 1) if column.type == "bool" else row == np.floor(row)
        wrong = ~(whole | np.isnan(row))
        if wrong.any():
            i = int(np.argmax(wrong))
            raise _wrong(subject, column, i, float(row[i]))


def _wrong(subject: str, column: Column, row: int, value: Any) -> SchemaMismatch:
    expected = {
        "float": "a finite number or null",
        "int": "a whole number or null",
        "bool": "true, false or null",
        "str": "a string or null",
    }[column.type]
    return SchemaMismatch(
        f"{subject}: column {column.name!r}, row {row}: found {value!r}, expected {expected}; "
        "correct the row, nothing was scored"
    )
