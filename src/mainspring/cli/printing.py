"""Print answers: a table for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any


def print_answer(answer: Any, *, as_json: bool) -> None:
    """Print an answer as JSON, or as its fields one a line."""
    plain = _plain(answer)
    if as_json:
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    for name, value in plain.items():
        if name != "type":
            print(f"{name:>24}  {_text(value)}")


def print_json(answer: Any, more: Mapping[str, Any]) -> None:
    """Print an answer's fields as JSON, and more fields behind them."""
    print(json.dumps({**_plain(answer), **_plain(more)}, indent=2, ensure_ascii=False))


def print_rows(rows: Sequence[Any], columns: Sequence[str], *, as_json: bool, empty: str) -> None:
    """Print rows under their columns; `empty` is said when there are none."""
    plain = [_plain(row) for row in rows]
    if as_json:
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    if not plain:
        print(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in plain:
        table.add_row(*(_text(row.get(column)) for column in columns))
    wide = None if sys.stdout.isatty() else 160
    Console(width=wide, highlight=False).print(table)


def _plain(answer: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(answer)


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.isoformat()
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{key}: {_text(one)}" for key, one in value.items()) or "-"
        case list() | tuple():
            return ", ".join(_text(one) for one in value) or "-"
        case _:
            return str(value)
