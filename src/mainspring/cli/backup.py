"""Commands that copy a whole home and make one from a copy."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mainspring.cli.printing import print_answer
from mainspring.cli.session import DEFAULTS, Common, settings


def backup(directory: Path, /, *, common: Common = DEFAULTS) -> None:
    """Copy the home as of now into a new directory, while its platform runs or not.

    Args:
        directory: Made by this; it must not be there yet, nor lie inside the home.
        common: Options of every command.
    """
    from mainspring.api.home import back_up

    config, _, project = settings(common)
    with _progress("copied", quiet=common.json) as told:
        answer = back_up(project / config.home, directory, told=told)
    print_answer(answer, as_json=common.json)


def restore(directory: Path, /, *, common: Common = DEFAULTS) -> int:
    """Make a home from a backup, after every file has shown its digest, and audit it.

    Args:
        directory: A backup; the home must not be there yet, or be empty.
        common: Options of every command.

    Returns:
        0 when the restored record is whole, else 1.
    """
    from mainspring.api.home import restore as restored

    config, _, project = settings(common)
    with _progress("restored", quiet=common.json) as told:
        answer = restored(directory, project / config.home, config, told=told)
    print_answer(answer, as_json=common.json)
    return 0 if answer.audit.ok else 1


@contextmanager
def _progress(verb: str, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show a person how much was copied so far."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn(verb), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=None)
        yield lambda size: progress.advance(task, size)
