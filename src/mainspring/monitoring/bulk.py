"""One statement for many rows, handed to the driver as it takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, Update
from sqlalchemy.sql.compiler import SQLCompiler


def write_rows(
    connection: Connection, statement: Insert | Update, columns: Mapping[str, Sequence[Any]]
) -> None:
    """Execute a statement once per row of these columns, which are named as its parameters.

    SQLAlchemy works the parameters out anew for every row of an ordinary call, which costs more
    than SQLite's own part of the work. Values must be what the driver takes: no numpy numbers.
    """
    names = list(columns) if isinstance(statement, Insert) else None
    compiled = statement.compile(dialect=connection.dialect, column_keys=names)
    assert isinstance(compiled, SQLCompiler)
    assert compiled.positiontup is not None
    rows = list(zip(*(columns[name] for name in compiled.positiontup), strict=True))
    if rows:
        connection.exec_driver_sql(str(compiled), rows)
