"""Statements that run many times: compiled once, without work per row in Python.

Core looks at every value of every row, and at every statement anew; where values are already what
the driver takes, that is most of the time that a thousand points cost.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.sql.compiler import SQLCompiler


class _Compiled:
    """A statement with named parameters; compiled once for each dialect."""

    def __init__(self, statement: Executable, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._texts: dict[str, str | None] = {}

    def _text(self, connection: Connection) -> str | None:
        """Give it as the driver takes it with values in order; none where it does not."""
        dialect = connection.dialect
        if dialect.name not in self._texts:
            compiled = self._statement.compile(  # type: ignore[attr-defined]
                dialect=dialect, column_keys=list(self._names)
            )
            assert isinstance(compiled, SQLCompiler)
            in_order = compiled.positional and tuple(compiled.positiontup or ()) == self._names
            self._texts[dialect.name] = compiled.string if in_order else None
        return self._texts[dialect.name]

    def _named(self, row: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self._names, row, strict=True))


class BulkStatement(_Compiled):
    """A statement that is run for many rows at once.

    Args:
        statement: An insert, or an update with bound parameters.
        names: Of the parameters, in the order in which rows give them.
    """

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it for rows whose values the driver takes as they are; none is fine."""
        if not rows:
            return
        text = self._text(connection)
        if text is None:
            connection.execute(self._statement, [self._named(row) for row in rows])
            return
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(text, rows)
        finally:
            cursor.close()


class QuickQuery(_Compiled):
    """A query that is asked again and again.

    Args:
        statement: A select with bound parameters.
        names: Of the parameters, in the order in which values are given.
    """

    def rows(self, connection: Connection, *values: Any) -> list[Sequence[Any]]:
        """Give all rows, with values as the driver gives them: SQLite's truth is 0 or 1."""
        text = self._text(connection)
        if text is None:
            return list(connection.execute(self._statement, self._named(values)))
        cursor = connection.connection.cursor()
        try:
            cursor.execute(text, values)
            return list(cursor.fetchall())
        finally:
            cursor.close()
