"""Many rows in one statement, without work per row in Python.

Core looks at every value of every row; where rows are already what the driver takes, that is
most of the time that a thousand points cost.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.sql.compiler import SQLCompiler


class BulkStatement:
    """A statement that is run for many rows at once; compiled once for each dialect.

    Args:
        statement: An insert, or an update with bound parameters.
        names: Of the parameters, in the order in which rows give them.
    """

    def __init__(self, statement: Executable, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._compiled: dict[str, SQLCompiler] = {}

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it for rows whose values the driver takes as they are; none is fine."""
        if not rows:
            return
        compiled = self._for(connection)
        if compiled.positional and tuple(compiled.positiontup or ()) == self._names:
            connection.exec_driver_sql(compiled.string, list(rows))
        else:
            dicts = [dict(zip(self._names, row, strict=True)) for row in rows]
            connection.execute(self._statement, dicts)

    def _for(self, connection: Connection) -> SQLCompiler:
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            compiled = self._statement.compile(  # type: ignore[attr-defined]
                dialect=dialect, column_keys=list(self._names)
            )
            assert isinstance(compiled, SQLCompiler)
            self._compiled[dialect.name] = compiled
        return self._compiled[dialect.name]
