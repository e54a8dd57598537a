"""`@step`: an ordinary function that a run can keep the results of."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, TypeVar, overload

from mainspring.core.errors import InvalidDeclaration, InvalidInput
from mainspring.core.ids import Digest, checked_name
from mainspring.pipelines.context import RunContext
from mainspring.pipelines.graph import tracing

P = ParamSpec("P")
R = TypeVar("R")

SINGLE_OUTPUT = "result"

Identity = Callable[[RunContext, Mapping[str, Any]], Digest]
"""Gives the identity of a built-in step's outside inputs from the run and its arguments."""


class Step(Generic[P, R]):
    """A step: outside a pipeline a plain call, inside a pipeline's body a node of its graph."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        outputs: Sequence[str] | None = None,
        cache: bool = True,
        identity: Identity | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.cache = cache
        self.identity = identity
        self.several = outputs is not None
        try:
            self.name = checked_name(name or function.__name__, what="step")
            self.outputs = tuple(
                checked_name(output, what="step output") for output in outputs or (SINGLE_OUTPUT,)
            )
        except InvalidInput as error:
            raise InvalidDeclaration(str(error)) from error
        if len(set(self.outputs)) != len(self.outputs):
            raise InvalidDeclaration(f"step {self.name!r}: output names repeat: {self.outputs}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = tracing()
        if trace is None:
            return self.function(*args, **kwargs)
        added: R = trace.add(self, self._bound(trace.pipeline, args, kwargs))
        return added

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def _bound(
        self, pipeline: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Name every argument, defaults too, so that the way of calling does not matter."""
        signature = inspect.signature(self.function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidDeclaration(
                f"pipeline {pipeline!r}: call of step {self.name!r}: {error}; "
                f"expected {self.name}{signature}"
            ) from error
        bound.apply_defaults()
        return dict(bound.arguments)

    def invoke(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run the function on named arguments and give its values by output name."""
        bound = inspect.signature(self.function).bind_partial()
        bound.arguments.update(arguments)
        value: Any = self.function(*bound.args, **bound.kwargs)
        if not self.several:
            return {SINGLE_OUTPUT: value}
        if not isinstance(value, tuple) or len(value) != len(self.outputs):
            found = f"{len(value)} values" if isinstance(value, tuple) else type(value).__name__
            raise InvalidInput(
                f"step {self.name!r}: found {found}, expected a tuple of "
                f"{len(self.outputs)} values for outputs {list(self.outputs)}: return these"
            )
        return dict(zip(self.outputs, value, strict=True))


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, name: str | None = None, outputs: Sequence[str] | None = None, cache: bool = True
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    outputs: Sequence[str] | None = None,
    cache: bool = True,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step; works bare and with options.

    Args:
        function: The function; takes and returns data frames, numbers, texts, bytes, models.
        name: Name in logs and graphs, the function's own by default.
        outputs: Names of several outputs: the function returns a tuple of as many values.
        cache: False runs the step every time, for steps that act on the outside.

    >>> @step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4)
    8
    """
    if function is not None:
        return Step(function)
    return functools.partial(_made, name=name, outputs=outputs, cache=cache)


def _made(
    function: Callable[P, R], *, name: str | None, outputs: Sequence[str] | None, cache: bool
) -> Step[P, R]:
    return Step(function, name=name, outputs=outputs, cache=cache)
