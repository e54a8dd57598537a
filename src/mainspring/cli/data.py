"""Commands of datasets."""

from pathlib import Path

from cyclopts import App

from mainspring.cli.printing import print_answer, print_rows
from mainspring.cli.session import DEFAULTS, Common, opened

data = App(name="data", help="Commit and look at versioned datasets.")


@data.command
def commit(
    dataset: str, file: Path, /, *, token: str | None = None, common: Common = DEFAULTS
) -> None:
    """Check the rows of a file and make the good ones a new version of a dataset.

    Args:
        dataset: Name of a declared dataset.
        file: CSV, Parquet or newline-delimited JSON.
        token: `writer:number`, so that a repeat has no second effect; default: the file's digest.
        common: Options of every command.
    """
    with opened(common) as client:
        print_answer(client.commit_file(dataset, file, token=token), as_json=common.json)


@data.command
def log(dataset: str, /, *, common: Common = DEFAULTS) -> None:
    """List a dataset's versions.

    Args:
        dataset: Name of a declared dataset.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.versions(dataset)
    columns = ["version", "rows", "rows_total", "quarantined", "token", "digest"]
    print_rows(answer.versions, columns, as_json=common.json, empty=f"{dataset}: no version yet")


@data.command
def show(
    dataset: str, /, *, version: int | None = None, rows: int = 10, common: Common = DEFAULTS
) -> None:
    """Show the newest rows of a version.

    Args:
        dataset: Name of a declared dataset.
        version: Number of the version; default: the newest.
        rows: Rows at most.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.rows(dataset, version=version, limit=rows)
    print_rows(answer.rows, answer.columns, as_json=common.json, empty=f"{dataset}: no rows")


@data.command
def quarantine(
    dataset: str, /, *, version: int | None = None, rows: int = 50, common: Common = DEFAULTS
) -> None:
    """Show the rows that were refused, each with its reason.

    Args:
        dataset: Name of a declared dataset.
        version: Only those of this version.
        rows: Rows at most.
        common: Options of every command.
    """
    with opened(common) as client:
        answer = client.quarantined(dataset, version=version, limit=rows)
    print_rows(
        answer.rows, answer.columns, as_json=common.json, empty=f"{dataset}: nothing is quarantined"
    )
