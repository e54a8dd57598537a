"""One statement for many rows, handed to the driver as it takes them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Update
from sqlalchemy.sql.compiler import SQLCompiler


def write_rows(
    connection: Connection, statement: Insert | Update, columns: Mapping[str, Sequence[Any]]
) -> None:
    """Execute a statement once per row of these columns, which are named as its parameters.

    SQLAlchemy works the parameters out anew for every row of an ordinary call, which costs more
    than SQLite's own part of the work. Values must be what the driver takes: no numpy numbers.
    Give a statement that lives as long as its module, because its text is kept.
    """
    names = tuple(columns) if isinstance(statement, Insert) else None
    text, order = _compiled(statement, names, connection.dialect)
    rows = list(zip(*(columns[name] for name in order), strict=True))
    if rows:
        connection.exec_driver_sql(text, rows)


@lru_cache(maxsize=64)
def _compiled(
    statement: Insert | Update, names: tuple[str, ...] | None, dialect: Dialect
) -> tuple[str, tuple[str, ...]]:
    """Give the text, and the parameters in the order of their place in it."""
    compiled = statement.compile(
        dialect=dialect, column_keys=None if names is None else list(names)
    )
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
    return str(compiled), tuple(compiled.positiontup)
