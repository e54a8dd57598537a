"""The graph of a pipeline: nodes in the order they were called, which is a topological one."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from mainspring.core.errors import InvalidDeclaration

if TYPE_CHECKING:
    from mainspring.pipelines.step import Step


@dataclass(frozen=True, slots=True)
class Output:
    """A reference to what a node will give."""

    node: int
    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """One call of a step; arguments hold `Output` where another node's value goes."""

    index: int
    name: str
    step: "Step[..., Any]"
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """What a pipeline wants done, and which values it returns."""

    pipeline: str
    nodes: tuple[Node, ...]
    result: Any


class NodeValue:
    """Stands for a step's value while a pipeline is traced: it can only be handed on."""

    __slots__ = ("_output", "_subject")

    def __init__(self, output: Output, subject: str) -> None:
        self._output = output
        self._subject = subject

    def __repr__(self) -> str:
        return f"<value of {self._subject}, not computed yet>"

    def _refuse(self, use: str) -> NoReturn:
        raise InvalidDeclaration(
            f"{self._subject}: its value is used in {use} while the pipeline is laid out, where it "
            "is not computed yet; expected it to be handed to a step: move this into a step"
        )

    def __bool__(self) -> bool:
        self._refuse("a condition")

    def __iter__(self) -> Iterator[Any]:
        self._refuse("an iteration or unpacking (name several outputs with @step(outputs=[...]))")

    def __len__(self) -> int:
        self._refuse("len()")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"attribute access (.{name})")

    def __getitem__(self, key: object) -> Any:
        self._refuse(f"indexing ([{key!r}])")

    def __call__(self, *_: object, **__: object) -> Any:
        self._refuse("a call")

    def __contains__(self, _: object) -> bool:
        self._refuse("a membership test")

    def __format__(self, _: str) -> str:
        self._refuse("a formatted string")

    def __hash__(self) -> int:
        return id(self)


def _operator(symbol: str) -> Callable[[NodeValue, object], Any]:
    def refuse(value: NodeValue, _: object = None) -> NoReturn:
        value._refuse(f"arithmetic or comparison ({symbol})")

    return refuse


for _name, _symbol in {
    **{n: n for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    **{f"r{n}": n for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")},
    **{n: n for n in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert")},
    **{n: n for n in ("and", "or", "xor", "int", "float", "index", "round")},
}.items():
    setattr(NodeValue, f"__{_name}__", _operator(_symbol))


class Trace:
    """The graph in the making while a pipeline's body runs."""

    def __init__(self, pipeline: str) -> None:
        self.pipeline = pipeline
        self.nodes: list[Node] = []

    def add(self, step: "Step[..., Any]", arguments: Mapping[str, Any]) -> Any:
        """Add a node and give its value, or one value per named output."""
        index = len(self.nodes)
        repeats = sum(node.step.name == step.name for node in self.nodes)
        name = step.name if not repeats else f"{step.name}-{repeats + 1}"
        bound = {key: replaced(value, _to_output) for key, value in arguments.items()}
        self.nodes.append(Node(index, name, step, bound))
        subject = f"pipeline {self.pipeline!r}: step {name!r}"
        values = tuple(NodeValue(Output(index, output), subject) for output in step.outputs)
        return values if step.several else values[0]

    def graph(self, result: Any) -> Graph:
        """Close the trace."""
        return Graph(self.pipeline, tuple(self.nodes), replaced(result, _to_output))


_tracing: ContextVar[Trace | None] = ContextVar("mainspring_trace", default=None)


def tracing() -> Trace | None:
    """Give the trace of the pipeline whose body is running, if one is."""
    return _tracing.get()


@contextmanager
def traced(pipeline: str) -> Iterator[Trace]:
    """Make step calls add nodes within the block."""
    trace = Trace(pipeline)
    token = _tracing.set(trace)
    try:
        yield trace
    finally:
        _tracing.reset(token)


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Rebuild lists, tuples and dicts with every value inside replaced."""
    match value:
        case list():
            return [replaced(item, replace) for item in value]
        case tuple() if type(value) is tuple:
            return tuple(replaced(item, replace) for item in value)
        case dict():
            return {key: replaced(item, replace) for key, item in value.items()}
        case _:
            return replace(value)


def _to_output(value: Any) -> Any:
    return value._output if isinstance(value, NodeValue) else value
