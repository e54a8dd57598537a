"""Source files of a project: which code counts as the project's, its trees, what it imports."""

import ast
import functools
import importlib.metadata
import linecache
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import NamedTuple

from mainspring.core.errors import NotReproducible

Versions = Callable[[str], dict[str, str]]
"""Gives distribution -> version for an importable top-level name; empty when none is installed."""


@functools.cache
def _distributions_by_module() -> dict[str, list[str]]:
    return {
        name: sorted(set(of)) for name, of in importlib.metadata.packages_distributions().items()
    }


def installed_versions(module: str) -> dict[str, str]:
    """Look up the installed distributions that provide a top-level module."""
    return {
        name: importlib.metadata.version(name)
        for name in _distributions_by_module().get(module, ())
    }


_PACKAGE = Path(__file__).resolve().parents[1]
_SITE = {"site-packages", "dist-packages"}


class Imported(NamedTuple):
    """What a name bound by an import statement stands for."""

    module: str
    attribute: str | None

    def names(self) -> tuple[str, ...]:
        """Give the modules that it may load: what is imported from one may be one itself."""
        return (
            (self.module, f"{self.module}.{self.attribute}") if self.attribute else (self.module,)
        )


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was loaded."""

    file: str
    tree: ast.Module
    code: CodeType
    imported: dict[str, Imported]
    """Names bound by imports outside functions."""
    modules: frozenset[str]
    """Absolute names of all modules that imports anywhere in the file may load."""


class Sources:
    """Reads the project's files, each once.

    Code counts as the project's when it lies in the folder of the project file, or anywhere else
    that no installed distribution vouches for: a version number says nothing of such files.
    """

    def __init__(self, root: Path | None, *, versions: Versions = installed_versions) -> None:
        self._root = root.resolve() if root else None
        self._versions = versions
        self._read: dict[str, Source] = {}

    def in_project(self, file: str | None) -> bool:
        """Tell whether a file's code is hashed (rather than its distribution's version)."""
        if file is None:
            return False
        return not _is_installed(file, self._root)

    def read(self, file: str) -> Source:
        """Give the file's tree and code, from the text it was loaded from.

        Raises:
            NotReproducible: There is no text, or it is not Python.
        """
        if file not in self._read:
            text = "".join(linecache.getlines(file))
            if not text:
                raise NotReproducible(
                    f"source of {Path(file).name}: found none to read, expected the text of the "
                    "code; put it into a file of the project"
                )
            self._read[file] = _parse(file, text)
        return self._read[file]

    def module_file(self, module: str, *, near: str) -> str | None:
        """Find the project file of an absolute module name, by folder or among loaded modules."""
        relative = Path(*module.split("."))
        for folder in filter(None, (self._root, Path(near).parent)):
            for candidate in (folder / relative / "__init__.py", folder / f"{relative}.py"):
                if candidate.is_file():
                    return str(candidate)
        loaded = getattr(sys.modules.get(module), "__file__", None)
        return loaded if loaded and loaded.endswith(".py") and self.in_project(loaded) else None

    def distributions(self, files: Iterable[str], named: Iterable[str] = ()) -> dict[str, str]:
        """Give name -> version of every distribution that files import, or that code was named of.

        The standard library and the project's own modules are left out.
        """
        tops = _tops(named)
        for file in files:
            imported = self.read(file).modules
            ours = {name for name in imported if self.module_file(name, near=file)}
            tops |= _tops(imported) - _tops(ours)
        found: dict[str, str] = {}
        for top in sorted(tops - sys.stdlib_module_names - {"", "__main__", "builtins"}):
            found |= self._versions(top) or {top: "absent"}
        return dict(sorted(found.items()))


def _tops(modules: Iterable[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@functools.cache
def _installed_roots() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    roots = (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return tuple(Path(root).resolve() for root in roots)


@functools.cache
def _is_installed(file: str, root: Path | None) -> bool:
    path = Path(file)
    if file.startswith("<") or not path.exists():
        return file.startswith("<frozen")
    path = path.resolve()
    if root is not None and path.is_relative_to(root):
        ours = path.is_relative_to(_PACKAGE) and not root.is_relative_to(_PACKAGE)
        return ours or bool(_SITE & set(path.relative_to(root).parts))
    if path.is_relative_to(_PACKAGE) or _SITE & set(path.parts):
        return True
    return any(path.is_relative_to(installed) for installed in _installed_roots())


def _parse(file: str, text: str) -> Source:
    try:
        tree = ast.parse(text)
        code = compile(text, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise NotReproducible(
            f"source of {Path(file).name}: not readable as Python ({error}); correct the file"
        ) from error
    module = _module_of(file)
    every = {
        name for imported in imports(tree, package=module).values() for name in imported.names()
    }
    outside = imports(tree, package=module, deep=False)
    return Source(file, tree, code, outside, frozenset(every))


def _module_of(file: str) -> str:
    """Name the package that relative imports of a file start from."""
    for name, module in list(sys.modules.items()):
        # Not getattr: a lazy module would load what it was asked for.
        if vars(module).get("__file__") == file:
            return vars(module).get("__package__") or name.rpartition(".")[0]
    return ""


def imports(tree: ast.AST, *, package: str, deep: bool = True) -> dict[str, Imported]:
    """List what import statements bind, relative names made absolute; shallow skips functions."""
    found: dict[str, Imported] = {}
    for node in ast.walk(tree) if deep else _outside_functions(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                key = bound if not deep else f"{bound} {alias.name}"
                found[key] = Imported(alias.name if alias.asname or deep else bound, None)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            for alias in node.names:
                key = alias.asname or alias.name
                found[key if not deep else f"{key} {module}"] = Imported(module, alias.name)
    return found


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _outside_functions(child)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    kept = parts[: len(parts) - (node.level - 1)]
    return ".".join(filter(None, (*kept, node.module)))


def holds(code: CodeType, wanted: CodeType) -> bool:
    """Tell whether a code object is, or contains, an equal of another."""
    return code == wanted or any(
        holds(constant, wanted) for constant in code.co_consts if isinstance(constant, CodeType)
    )
