"""Bodies of the protocols that send rows: TF Serving, KServe V1 and MLflow's scoring.

All come down to named columns of values. What protocol a body is of is told by its one field.
"""

import base64
import binascii
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from mainspring.core.errors import InvalidInput, SchemaMismatch
from mainspring.formats.model import Column
from mainspring.serving.asking import EVENT_TIME, KEY
from mainspring.serving.tensors import MOST_ELEMENTS

Form = Literal["instances", "inputs", "dataframe_split", "dataframe_records", "csv"]
FORMS: tuple[Form, ...] = ("instances", "inputs", "dataframe_split", "dataframe_records")
_SIDE = frozenset({"signature_name", "params"})
_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


@dataclass(frozen=True, slots=True)
class RowsSent:
    """What a body holds."""

    form: Form
    columns: dict[str, list[Any]]
    """Among them, where they were sent, `__key__` and `__event_time__`."""
    rows: int


def read_json(body: bytes, request: Sequence[Column], forms: Sequence[Form]) -> RowsSent:
    """Read a JSON body in one of some forms.

    Raises:
        InvalidInput: It is no such JSON, rows differ in length, or there are too many.
        SchemaMismatch: A column is unknown.
    """
    try:
        found = _decoded(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"body: no JSON ({error}); {_expected(forms)}") from error
    there = [form for form in FORMS if isinstance(found, dict) and form in found]
    if len(there) != 1 or there[0] not in forms:
        raise InvalidInput(f"body: found {', '.join(there) or 'none of these'}; {_expected(forms)}")
    form = there[0]
    if found.get("params"):
        raise InvalidInput("params: endpoints take none; send what a row needs as its columns")
    if stray := found.keys() - {form} - _SIDE:
        raise InvalidInput(f"body: unknown field {min(stray)[:60]!r} beside {form!r}")
    return _counted(form, _READERS[form](found[form], _names(request)))


def read_csv(body: bytes, request: Sequence[Column]) -> RowsSent:
    """Read CSV with a header; an empty field is a missing value."""
    types: dict[str, str] = {column.name: column.type for column in request}
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"body: no CSV in UTF-8 ({error}); expected a header and rows"
        ) from error
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise InvalidInput("body: expected a header of column names and at least one row")
    columns = _table(lines[0], lines[1:])
    for name, values in columns.items():
        columns[name] = [_parsed(text, types.get(name, "str"), name) for text in values]
    return _counted("csv", columns)


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        # Of the standard library, because pandas writes a missing number as a bare NaN.
        return json.loads(body)


def _counted(form: Form, columns: dict[str, list[Any]]) -> RowsSent:
    if not columns:
        raise InvalidInput(f"{form}: no rows; send at least one")
    counts = {name: len(values) for name, values in columns.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise InvalidInput(
            f"{form}: columns differ in length ("
            f"{', '.join(f'{name} {count}' for name, count in counts.items())})"
        )
    if not 0 < rows * len(columns) <= MOST_ELEMENTS:
        raise InvalidInput(
            f"{form}: found {rows * len(columns)} values, expected 1 to {MOST_ELEMENTS} in one "
            "request"
        )
    return RowsSent(form, columns, rows)


def _instances(sent: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Row by row: mappings, lists in the columns' order, or plain values of the one column."""
    if not isinstance(sent, list):
        raise InvalidInput("instances: expected a list of rows")
    if sent and isinstance(sent[0], dict) and not _is_bytes(sent[0]):
        return _records(sent, names)
    if sent and not isinstance(sent[0], list):
        sent = [[one] for one in sent]
    return _table(names, sent)


def _inputs(sent: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Column by column; a list is rows, or the values of the one column."""
    if isinstance(sent, list):
        return _instances(sent, names)
    if not isinstance(sent, dict):
        raise InvalidInput("inputs: expected columns by name, each a list of values")
    _check_known(sent, names)
    # A column may come as a tensor of shape (rows, 1), or as the value of the one row.
    return {name: [_cell(one) for one in _listed(column)] for name, column in sent.items()}


def _split(sent: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    if not isinstance(sent, dict) or not isinstance(sent.get("data"), list):
        raise InvalidInput("dataframe_split: expected columns and data, a list of rows")
    columns = sent.get("columns", list(names))
    if not isinstance(columns, list) or not all(isinstance(one, str) for one in columns):
        raise InvalidInput("dataframe_split: expected columns to be a list of names")
    _check_known(columns, names)
    return _table(columns, sent["data"])


def _records(sent: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    if not isinstance(sent, list) or not all(isinstance(row, dict) for row in sent):
        raise InvalidInput("rows: expected a list of mappings by column name")
    wanted = dict.fromkeys(name for row in sent for name in row)
    _check_known(wanted, names)
    # A name that one row leaves out is missing there.
    return {name: [_cell(row.get(name)) for row in sent] for name in wanted}


def _table(names: Sequence[str], rows: Sequence[Any]) -> dict[str, list[Any]]:
    if len(set(names)) < len(names):
        raise InvalidInput("columns: a name is there twice")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            found = f"{len(row)} values" if isinstance(row, list) else type(row).__name__
            raise InvalidInput(f"row {i}: found {found}, expected {len(names)}: {', '.join(names)}")
    if not rows:
        return {}
    return {name: [_cell(row[i]) for row in rows] for i, name in enumerate(names)}


def _listed(column: Any) -> list[Any]:
    values = column if isinstance(column, list) else [column]
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in values]


def _cell(value: Any) -> Any:
    if not _is_bytes(value):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, TypeError, ValueError) as error:
        raise InvalidInput(f"b64: expected text in UTF-8, encoded ({error})") from error


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _parsed(text: str, kind: str, name: str) -> Any:
    if kind == "str":
        return text
    if text == "":
        return None
    try:
        if kind == "bool":
            lower = text.strip().lower()
            return lower in _TRUE if lower in _TRUE | _FALSE else float("x")
        return int(text) if kind == "int" else float(text)
    except ValueError as error:
        raise SchemaMismatch(f"column {name!r}: found {text[:40]!r}, expected {kind}") from error


def _names(request: Sequence[Column]) -> list[str]:
    return [column.name for column in request]


def _check_known(sent: Mapping[str, Any] | Sequence[str], names: Sequence[str]) -> None:
    for name in sent:
        if name not in names and name not in (KEY, EVENT_TIME):
            raise SchemaMismatch(
                f"unknown column {name[:60]!r}; expected {', '.join(names)}; {KEY} and "
                f"{EVENT_TIME} (both optional)"
            )


def _expected(forms: Sequence[Form]) -> str:
    return f"expected a JSON object with one of {', '.join(forms)}"


_READERS = {
    "instances": _instances,
    "inputs": _inputs,
    "dataframe_split": _split,
    "dataframe_records": _records,
}
