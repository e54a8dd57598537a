"""Loading libraries ahead: what one run had imported, the next process imports before its run."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mainspring.formats.wire import Loaded


def loaded(home: Path) -> Loaded:
    """Tell what this process has imported, but for the project's own files, which lie in the home.

    A project's code runs only in a run; a library's import is the same whoever does it.
    """
    names = [
        name
        for name, module in list(sys.modules.items())
        if name != "__main__"
        and getattr(module, "__spec__", None) is not None
        and not _lies_in(getattr(module, "__file__", None), home)
    ]
    folders = [path for path in sys.path if path and Path(path).is_dir()]
    return Loaded(tuple(names), tuple(folders))


def load(names: Sequence[str]) -> None:
    """Import modules by name; what does not import is left for the run to meet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            if name not in sys.modules:
                with suppress(Exception):
                    __import__(name)


def _lies_in(file: str | None, folder: Path) -> bool:
    return file is not None and Path(file).is_relative_to(folder)
