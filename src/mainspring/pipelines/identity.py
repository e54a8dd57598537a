"""The identity of a step (C7): same key means same code, values and libraries."""

import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import NotReproducible
from mainspring.core.ids import Digest, digest_of
from mainspring.pipelines.encoding import Encoding, leaf
from mainspring.pipelines.graph import Output
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.sources import Source, Sources, holds, imports
from mainspring.pipelines.step import Step
from mainspring.pipelines.syntax import Definition, by_code, by_qualname, dump, names_of

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class StepCode:
    """What a step's key takes from its code."""

    digest: Digest
    distributions: Mapping[str, str]


def step_code(step: Step[..., Any], sources: Sources) -> StepCode:
    """Digest a step's code with everything of the project it names, and list its libraries.

    Raises:
        NotReproducible: It names a value without a canonical encoding, or unreadable source.
    """
    walk = _Walk(sources, step.name)
    encoding = ["step", list(step.outputs), walk.value(step.function, f"function {step.name!r}")]
    return StepCode(digest_of([encoding, walk.definitions]), walk.libraries())


def step_key(
    step: Step[..., Any],
    arguments: Mapping[str, Any],
    *,
    inputs: Callable[[Output], Digest],
    sources: Sources,
    outside: Digest | None = None,
) -> Digest:
    """Compute the key of one call of a step.

    Args:
        step: The step.
        arguments: By parameter name, with `Output` where another node's value goes.
        inputs: Digest of an output that was computed before.
        sources: The project's files.
        outside: Identity of what a built-in step reads from outside the graph.
    """
    code = step_code(step, sources)
    walk = _Walk(sources, step.name, inputs)
    values = {name: walk.value(value, f"argument {name!r}") for name, value in arguments.items()}
    libraries = {**walk.libraries(), **code.distributions}
    return digest_of([code.digest, values, walk.definitions, libraries, outside])


class _Walk:
    """Encodes values, and the project's code they lead to, each definition once.

    Definitions are numbered in the order of discovery, so no name, line or path enters the key
    but those in the code itself.
    """

    def __init__(
        self, sources: Sources, step: str, inputs: Callable[[Output], Digest] | None = None
    ) -> None:
        self._sources = sources
        self._step = step
        self._inputs = inputs
        self._numbers: dict[object, int] = {}
        self._open: set[int] = set()
        self.definitions: list[Any] = []
        self._files: set[str] = set()
        self._named: set[str] = set()

    def libraries(self) -> dict[str, str]:
        """Give name -> version of the distributions that the code met so far rests on."""
        return self._sources.distributions(self._files, self._named)

    # --- values

    def value(self, value: Any, where: str) -> Encoding:
        encoding = leaf(value) or self._code(value, where) or self._nested(value, where)
        if encoding is None:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise NotReproducible(
                f"step {self._step!r}: {where} is a {kind}, which has no canonical encoding, so a "
                "change in it would go unnoticed; expected numbers, texts, times, frames, lists, "
                "dicts, dataclasses, functions or classes: pass those as parameters and build the "
                "object inside the step"
            )
        return encoding

    def _nested(self, value: Any, where: str) -> Encoding | None:
        if id(value) in self._open:
            raise NotReproducible(
                f"step {self._step!r}: {where} contains itself, which has no canonical encoding; "
                "pass plain values as parameters"
            )
        self._open.add(id(value))
        try:
            return self._container(value, where) or self._object(value, where)
        finally:
            self._open.discard(id(value))

    def _container(self, value: Any, where: str) -> Encoding | None:
        match value:
            case Output() if self._inputs is not None:
                return ["input", self._inputs(value)]
            case _ if type(value) in (list, tuple):
                items = [self.value(v, f"{where}[{i}]") for i, v in enumerate(value)]
                return [type(value).__name__, items]
            case _ if type(value) in (set, frozenset):
                # Sets have no order: each element gets a walk and digest of its own.
                return ["set", sorted(self._apart(item, where) for item in value)]
            case dict() | types.MappingProxyType():
                pairs = [
                    [self.value(k, f"a key of {where}"), self.value(v, f"{where}[{k!r}]")]
                    for k, v in value.items()
                ]
                return ["dict", type(value).__name__, pairs]
            case functools.partial():
                parts = (value.func, value.args, value.keywords)
                return ["partial", *(self.value(part, where) for part in parts)]
            case types.MethodType():
                return [
                    "method",
                    self.value(value.__self__, f"the object of {where}"),
                    self.value(value.__func__, where),
                ]
            case _:
                return None

    def _apart(self, item: Any, where: str) -> Digest:
        walk = _Walk(self._sources, self._step, self._inputs)
        encoding = walk.value(item, f"an element of {where}")
        self._files |= walk._files
        self._named |= walk._named
        return digest_of([encoding, walk.definitions])

    def _object(self, value: Any, where: str) -> Encoding | None:
        """Encode an instance whose whole state can be seen."""
        kind = type(value)
        if isinstance(value, enum.Enum):
            return ["enum", self.value(kind, where), value.name, self.value(value.value, where)]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return ["named tuple", self.value(kind, where), self.value(list(value), where)]
        if isinstance(value, msgspec.Struct):
            names: tuple[str, ...] = value.__struct_fields__
        elif dataclasses.is_dataclass(value):
            names = tuple(field.name for field in dataclasses.fields(value))
        elif self._is_plain(kind):
            names = tuple(sorted(vars(value)))
        else:
            return None
        state = [[n, self.value(getattr(value, n, None), f"{where}.{n}")] for n in names]
        return ["object", self.value(kind, f"the class of {where}"), state]

    def _is_plain(self, kind: type) -> bool:
        """A class of the project whose instances keep all they know in their `__dict__`."""
        return kind.__dictoffset__ != 0 and all(
            base is object or (self._in_project(base) and "__slots__" not in vars(base))
            for base in kind.__mro__
        )

    # --- code

    def _code(self, value: Any, where: str) -> Encoding | None:
        match value:
            case Step() | Pipeline():
                return ["step", self.value(value.function, where)]
            case types.FunctionType():
                return self._function(value, where)
            case type():
                return self._class(value, where)
            case types.ModuleType():
                file = getattr(value, "__file__", None)
                if file and self._sources.in_project(file) and file.endswith(".py"):
                    return self._module(file)
                return self._outside(value.__name__, None)
            case types.BuiltinFunctionType() if isinstance(value.__self__, types.ModuleType | None):
                return self._outside(str(value.__module__), value.__qualname__)
            case staticmethod() | classmethod() | property():
                functions = (
                    (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
                )
                return ["descriptor", [self.value(function, where) for function in functions]]
            case _ if callable(value) and hasattr(value, "__wrapped__"):
                return ["wrapper", type(value).__qualname__, self.value(value.__wrapped__, where)]
            case _:
                return None

    def _function(self, function: types.FunctionType, where: str) -> Encoding:
        code = function.__code__
        if not self._sources.in_project(code.co_filename):
            return self._external(function, where)
        key = id(function)
        if key in self._numbers:
            return ["code", self._numbers[key]]
        number = self._numbered(key)
        source = self._source(code.co_filename)
        if not holds(source.code, code):
            raise NotReproducible(
                f"step {self._step!r}: {Path(code.co_filename).name} no longer holds "
                f"{code.co_qualname}() as it was loaded; load the project again"
            )
        defined = list(by_code(source.tree, code))
        label = f"{code.co_qualname}()"
        self.definitions[number] = [
            [dump(node) for node in defined],
            self._captured(function, label),
            self._defaults(function, label),
            self._named_by(defined, function.__globals__, source, set(code.co_freevars), label),
        ]
        return ["code", number]

    def _external(self, function: types.FunctionType, where: str) -> Encoding:
        found: Any = sys.modules.get(function.__module__)
        for part in function.__qualname__.split("."):
            found = getattr(found, part, None)
        name = self._outside(function.__module__, function.__qualname__)
        if found is function or function.__closure__ is None:
            return name
        return [*name, function.__code__.co_qualname, self._captured(function, where)]

    def _captured(self, function: types.FunctionType, label: str) -> Encoding:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        return [
            [name, self.value(_content(cell), f"{name!r} captured by {label}")]
            for name, cell in cells
            if _content(cell) is not _ABSENT
        ]

    def _defaults(self, function: types.FunctionType, label: str) -> Encoding:
        named = dict(function.__kwdefaults__ or {})
        positional = [
            self.value(v, f"default {i + 1} of {label}")
            for i, v in enumerate(function.__defaults__ or ())
        ]
        keyword = {k: self.value(v, f"default {k!r} of {label}") for k, v in named.items()}
        return [positional, keyword]

    def _class(self, kind: type, where: str) -> Encoding:
        if not self._in_project(kind):
            return self._outside(kind.__module__, kind.__qualname__)
        if kind in self._numbers:
            return ["code", self._numbers[kind]]
        number = self._numbered(kind)
        module = sys.modules[kind.__module__]
        source = self._source(str(module.__file__))
        defined = list(by_qualname(source.tree, kind.__qualname__.split(".")))
        if not defined:
            raise NotReproducible(
                f"step {self._step!r}: {where}: class {kind.__qualname__} has no definition in "
                f"{Path(source.file).name}; define it by a class statement"
            )
        methods = [m for m in vars(kind).values() if isinstance(m, types.FunctionType)]
        captured = [
            self._captured_but_class(method, kind)
            for method in methods
            if method.__code__.co_filename == source.file
        ]
        label = f"class {kind.__qualname__}"
        self.definitions[number] = [
            [dump(node) for node in defined],
            captured,
            self._named_by(defined, vars(module), source, set(), label),
        ]
        return ["code", number]

    def _captured_but_class(self, method: types.FunctionType, kind: type) -> Encoding:
        cells = zip(method.__code__.co_freevars, method.__closure__ or (), strict=True)
        return [
            [name, self.value(_content(cell), f"{name!r} captured by class {kind.__qualname__}")]
            for name, cell in cells
            if name != "__class__" and _content(cell) is not _ABSENT
        ]

    def _module(self, file: str) -> Encoding:
        """Encode a whole file, and every project file it imports: for modules used as a value."""
        if file in self._numbers:
            return ["code", self._numbers[file]]
        number = self._numbered(file)
        source = self._source(file)
        led = [self._sources.module_file(name, near=file) for name in sorted(source.modules)]
        self.definitions[number] = [
            dump(source.tree),
            [self._module(found) for found in led if found],
        ]
        return ["code", number]

    # --- names

    def _named_by(
        self,
        defined: Sequence[Definition],
        scope: Mapping[str, Any],
        source: Source,
        free: set[str],
        label: str,
    ) -> Encoding:
        chains = sorted({chain for node in defined for chain in names_of(node)})
        found: Encoding = []
        for chain in chains:
            if chain[0] in scope and chain[0] not in free:
                found.append([".".join(chain), self._resolved(chain, scope, source, label)])
        for node in defined:
            package = scope.get("__package__") or ""
            for bound in imports(node, package=package).values():
                for name in bound.names():
                    file = self._sources.module_file(name, near=source.file)
                    if file:
                        found.append([name, self._module(file)])
        return found

    def _resolved(
        self, chain: tuple[str, ...], scope: Mapping[str, Any], source: Source, label: str
    ) -> Encoding:
        value = scope[chain[0]]
        where = f"{chain[0]!r} (named by {label} in {Path(source.file).name})"
        imported = source.imported.get(chain[0])
        if imported and not self._sources.module_file(imported.module, near=source.file):
            origin: Any = sys.modules.get(imported.module)
            name = imported.attribute
            if origin is not None and value is (getattr(origin, name, None) if name else origin):
                return self._outside(imported.module, name)
        for i, attribute in enumerate(chain[1:], start=1):
            file = getattr(value, "__file__", None)
            if not isinstance(value, types.ModuleType) or not self._sources.in_project(file):
                break
            if not hasattr(value, attribute):
                return ["absent", attribute]
            value = getattr(value, attribute)
            where = f"{'.'.join(chain[: i + 1])!r} (named by {label})"
        return self.value(value, where)

    # --- bookkeeping

    def _outside(self, module: str, name: str | None) -> Encoding:
        """Name code of a library: its distribution's version stands for what it does."""
        self._named.add(module)
        return ["external", module, name]

    def _numbered(self, key: object) -> int:
        self._numbers[key] = len(self.definitions)
        self.definitions.append(None)
        return self._numbers[key]

    def _source(self, file: str) -> Source:
        self._files.add(file)
        return self._sources.read(file)

    def _in_project(self, kind: type) -> bool:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        return file is not None and self._sources.in_project(file)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT
