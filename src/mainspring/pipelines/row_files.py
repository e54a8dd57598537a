"""Rows in files that people bring: CSV, Parquet, JSON lines, told by the ending."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from mainspring.core.errors import InvalidInput, NotFound

ENDINGS = (".csv", ".parquet", ".jsonl", ".ndjson")


def scanned(path: Path) -> pl.LazyFrame:
    """Give a file's rows, not read yet; columns have the type that all of their values have.

    Raises:
        NotFound: There is no such file.
        InvalidInput: Its ending names no kind that is read.
    """
    check_ending(path)
    if not path.is_file():
        raise NotFound(f"file {str(path)!r}: no such file")
    match path.suffix:
        case ".csv":
            return pl.scan_csv(path, infer_schema_length=None)
        case ".parquet":
            return pl.scan_parquet(path)
        case _:
            return pl.scan_ndjson(path, infer_schema_length=None)


def check_ending(path: Path) -> None:
    """Refuse a file of a kind that is neither read nor written."""
    if path.suffix not in ENDINGS:
        raise InvalidInput(f"file {path.name!r}: expected one of {', '.join(ENDINGS)}")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the library says of a file that is not whole into an error that names it."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        told = str(error).strip().partition("\n")[0][:300]
        raise InvalidInput(
            f"file {path.name!r}: cannot be read as {path.suffix} ({told})"
        ) from error
