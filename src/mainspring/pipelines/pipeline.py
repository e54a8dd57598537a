"""`@pipeline`: a function whose body calls steps and so lays out their graph."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from mainspring.core.clock import Instant, utc
from mainspring.core.errors import InvalidDeclaration, InvalidInput
from mainspring.core.ids import checked_name
from mainspring.pipelines.graph import Graph, traced, tracing

P = ParamSpec("P")
R = TypeVar("R")

UNTIL = "until"
"""The parameter that a run fills with the end of its training rows."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a pipeline as declared."""

    name: str
    type: Any
    default: Any
    required: bool


class Pipeline(Generic[P, R]):
    """A pipeline: called, it runs its steps as plain functions; traced, it gives their graph."""

    def __init__(self, function: Callable[P, R], *, name: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        try:
            self.name = checked_name(name or function.__name__, what="pipeline")
        except InvalidInput as error:
            raise InvalidDeclaration(str(error)) from error

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def parameters(self) -> tuple[Parameter, ...]:
        """Give the declared parameters in order."""
        hints = typing.get_type_hints(self.function)
        empty = inspect.Parameter.empty
        return tuple(
            Parameter(
                name,
                hints.get(name, Any),
                None if p.default is empty else p.default,
                p.default is empty,
            )
            for name, p in inspect.signature(self.function).parameters.items()
        )

    def bind(self, given: Mapping[str, Any], *, until: Instant | None = None) -> dict[str, Any]:
        """Complete and type the parameters of one run.

        Args:
            given: Values by name; times may be RFC 3339 texts.
            until: Fills a parameter of this name, unless given.

        Raises:
            InvalidInput: A parameter is unknown, missing or of the wrong type.
        """
        declared = {parameter.name: parameter for parameter in self.parameters()}
        for name in given:
            if name not in declared:
                raise InvalidInput(
                    f"pipeline {self.name!r}: unknown parameter {name!r}; "
                    f"expected {', '.join(declared) or 'none'}"
                )
        values = dict(given)
        if until is not None and UNTIL in declared:
            values.setdefault(UNTIL, until)
        return {name: self._value(p, values) for name, p in declared.items()}

    def _value(self, parameter: Parameter, values: Mapping[str, Any]) -> Any:
        if parameter.name not in values:
            if parameter.required:
                raise InvalidInput(
                    f"pipeline {self.name!r}: parameter {parameter.name!r} has no value and no "
                    "default; give it when the run starts"
                )
            return parameter.default
        try:
            value = msgspec.convert(values[parameter.name], parameter.type)
            return utc(value) if isinstance(value, datetime) else value
        except (msgspec.ValidationError, ValueError) as error:
            raise InvalidInput(
                f"pipeline {self.name!r}: parameter {parameter.name!r}: {error}; "
                f"found {values[parameter.name]!r}"
            ) from error

    def trace(self, parameters: Mapping[str, Any]) -> Graph:
        """Lay out the graph for typed parameters; runs no step.

        Raises:
            InvalidDeclaration: The body uses a step's value, or calls a step wrongly.
        """
        if tracing() is not None:
            raise InvalidDeclaration(f"pipeline {self.name!r}: it is being laid out already")
        function: Callable[..., Any] = self.function
        with traced(self.name) as trace:
            result = function(**parameters)
        return trace.graph(result)


@overload
def pipeline(function: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(*, name: str | None = None) -> Callable[[Callable[P, R]], Pipeline[P, R]]: ...
def pipeline(
    function: Callable[P, R] | None = None, /, *, name: str | None = None
) -> Pipeline[P, R] | Callable[[Callable[P, R]], Pipeline[P, R]]:
    """Make a function a pipeline; works bare and with a name.

    Its body runs once to lay out the graph: parameters are plain values in it, values of steps
    can only be handed on to other steps, also inside lists, tuples and dicts.
    """
    if function is not None:
        return Pipeline(function)

    def made(function: Callable[P, R]) -> Pipeline[P, R]:
        return Pipeline(function, name=name)

    return made
