"""Loading a project file: its namespace, its files' digests, and mistakes with their line."""

import linecache
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

from mainspring.core.errors import InvalidDeclaration, MainspringError, NotFound
from mainspring.core.ids import Digest, digest_bytes, digest_of
from mainspring.pipelines.sources import Sources

_MARK = "__mainspring_project__"
_loading = RLock()


@dataclass(frozen=True, slots=True)
class Project:
    """A loaded project file."""

    path: Path
    root: Path
    """The project's folder: code in it is hashed into step keys."""
    digest: Digest
    """Of the texts of the file and of every module of the project it imports."""
    values: Mapping[str, Any]
    """Its public top-level names in the order they were first bound."""

    def of(self, *types: type) -> list[Any]:
        """List the distinct top-level objects of some types, in order."""
        found = {id(v): v for v in self.values.values() if isinstance(v, types)}
        return list(found.values())


def load(path: Path) -> Project:
    """Run a project file as a module.

    Loading again sees the files as they are now, also the modules it imports from its folder.
    The folder comes first on the import path, as when Python runs a file.

    Raises:
        NotFound: There is no such file.
        InvalidDeclaration: It does not parse, or raises: the message names file and line.
    """
    path = path.resolve()
    if not path.is_file():
        raise NotFound(f"project file {path.name} does not exist; give the path of one")
    # What a load brings is told by comparing the modules before and after.
    with _loading:
        return _load(path, path.parent)


def _load(path: Path, root: Path) -> Project:
    _forget(root)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    known = set(sys.modules)
    module = ModuleType(f"project_{path.stem}_{digest_bytes(str(path).encode())[:8]}")
    module.__file__ = str(path)
    module.__package__ = ""
    sys.modules[module.__name__] = module
    try:
        text = _execute(path, root, module)
    except BaseException:
        _mark(root, known)
        raise
    files = {path.name: digest_bytes(text)}
    for name in _mark(root, known):
        file = Path(str(sys.modules[name].__file__)).resolve()
        files[str(file.relative_to(root))] = digest_bytes(file.read_bytes())
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return Project(path, root, digest_of(files), public)


def _execute(path: Path, root: Path, module: ModuleType) -> bytes:
    try:
        text = path.read_bytes()
        code = compile(text, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or error
        raise InvalidDeclaration(
            f"{path.name} line {line}: {reason}; expected Python; correct the file"
        ) from error
    linecache.checkcache(str(path))
    linecache.getlines(str(path), vars(module))
    try:
        exec(code, vars(module))
    except (Exception, SystemExit) as error:
        raise InvalidDeclaration(_mistake(error, path, root)) from error
    return text


def _mistake(error: BaseException, path: Path, root: Path) -> str:
    place = f"{path.name} line 1"
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        place = f"{Path(error.filename).name} line {error.lineno}"
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).is_relative_to(root):
                place = f"{Path(frame.filename).relative_to(root)} line {frame.lineno}"
    if isinstance(error, MainspringError):
        return f"{place}: {error}"
    return f"{place}: {type(error).__name__}: {error}; correct the file"


def _mark(root: Path, known: set[str]) -> list[str]:
    """Mark the project's modules that came with this load, and pin the text they were run from."""
    found, sources = [], Sources(root)
    for name in sorted(set(sys.modules) - known):
        file = vars(sys.modules[name]).get("__file__")
        if not file or not file.endswith(".py") or not Path(file).resolve().is_relative_to(root):
            continue
        if sources.in_project(file):
            setattr(sys.modules[name], _MARK, str(root))
            linecache.checkcache(file)
            linecache.getlines(file)
            found.append(name)
    return found


def _forget(root: Path) -> None:
    for name, module in list(sys.modules.items()):
        # Not getattr: a lazy module would load what it was asked for.
        if vars(module).get(_MARK) == str(root):
            del sys.modules[name]
