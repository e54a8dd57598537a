"""Steps and pipelines as a user writes them: plain functions, laid out when traced."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

import mainspring.core.clock as ms
from mainspring.core.errors import InvalidDeclaration, InvalidInput
from mainspring.pipelines.graph import Output
from mainspring.pipelines.pipeline import pipeline
from mainspring.pipelines.step import step

UNTIL = datetime(2013, 4, 1, tzinfo=UTC)


@step
def load(limit: int = 3) -> Any:
    return list(range(limit))


@step(name="halves", outputs=["left", "right"])
def split(rows: Any, at: int = 1) -> Any:
    return rows[:at], rows[at:]


@step
def total(*parts: Any, scale: int = 1) -> Any:
    return sum(sum(part) for part in parts) * scale


@step
def gather(parts: Any) -> Any:
    return parts


@pipeline
def small(limit: int = 3) -> Any:
    left, right = split(load(limit))
    return total(left, right, scale=2)


def test_outside_a_pipeline_steps_and_pipelines_are_plain_calls() -> None:
    assert load() == [0, 1, 2]
    assert split([1, 2, 3], at=2) == ([1, 2], [3])
    assert small(4) == 12


def test_tracing_runs_no_step_and_gives_nodes_in_order() -> None:
    graph = small.trace({"limit": 4})

    assert [node.name for node in graph.nodes] == ["load", "halves", "total"]
    assert graph.nodes[1].arguments == {"rows": Output(0, "result"), "at": 1}
    assert graph.nodes[2].arguments["parts"] == (Output(1, "left"), Output(1, "right"))
    assert graph.result == Output(2, "result")


def test_values_are_found_inside_lists_and_dicts() -> None:
    @pipeline
    def nested() -> Any:
        return {"all": gather([load(1), {"more": (load(2), 5)}])}

    graph = nested.trace({})

    assert [node.name for node in graph.nodes] == ["load", "load-2", "gather"]
    assert graph.nodes[2].arguments == {
        "parts": [Output(0, "result"), {"more": (Output(1, "result"), 5)}]
    }
    assert graph.result == {"all": Output(2, "result")}


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda v: 1 if v else 2, "a condition"),
        (lambda v: v + 1, "arithmetic or comparison"),
        (lambda v: 2 * v, "arithmetic or comparison"),
        (lambda v: v > 3, "arithmetic or comparison"),
        (lambda v: v == 3, "arithmetic or comparison"),
        (lambda v: -v, "arithmetic or comparison"),
        (lambda v: [*v], "an iteration"),
        (lambda v: len(v), "len"),
        (lambda v: v[0], "indexing"),
        (lambda v: v.height, "attribute access"),
        (lambda v: f"{v}", "a formatted string"),
        (lambda v: 3 in v, "a membership test"),
        (lambda v: v(), "a call"),
    ],
)
def test_using_a_value_before_it_is_there_is_an_error_that_says_so(
    use: Callable[[Any], Any], said: str
) -> None:
    @pipeline
    def early() -> Any:
        return use(load())

    with pytest.raises(InvalidDeclaration, match=f"pipeline 'early': step 'load'.*{said}"):
        early.trace({})


def test_a_wrong_call_of_a_step_is_found_while_tracing() -> None:
    @pipeline
    def wrong() -> Any:
        return split(load(), where=3)  # type: ignore[call-arg]

    with pytest.raises(InvalidDeclaration, match=r"step 'halves'.*'where'.*expected halves"):
        wrong.trace({})


def test_a_failed_trace_leaves_plain_calls_plain() -> None:
    @pipeline
    def wrong() -> Any:
        return load() + 1

    with pytest.raises(InvalidDeclaration):
        wrong.trace({})

    assert load(1) == [0]


def test_parameters_have_types_and_defaults_and_until_is_filled_in() -> None:
    @pipeline
    def timed(until: ms.Instant, depth: int = 6, names: list[str] | None = None) -> Any:
        return gather([until, depth, names])

    assert timed.bind({}, until=UNTIL) == {"until": UNTIL, "depth": 6, "names": None}
    assert timed.bind({"until": "2013-04-01T02:00:00+02:00"})["until"] == UNTIL
    east = timezone(timedelta(hours=2))
    assert timed.bind({"until": UNTIL.astimezone(east)})["until"].tzinfo is UTC
    assert [p.name for p in timed.parameters() if p.required] == ["until"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"depht": 3}, "unknown parameter 'depht'; expected until, depth"),
        ({"until": UNTIL, "depth": "six"}, "parameter 'depth'.*'six'"),
        ({"until": "yesterday"}, "parameter 'until'"),
        ({"until": "2013-04-01T00:00:00"}, "no time zone"),
        ({}, "parameter 'until' has no value"),
    ],
)
def test_wrong_parameters_are_named(given: dict[str, Any], said: str) -> None:
    @pipeline
    def timed(until: ms.Instant, depth: int = 6) -> Any:
        return gather([until, depth])

    with pytest.raises(InvalidInput, match=said):
        timed.bind(given)


def test_names_that_cannot_be_subjects_are_refused() -> None:
    with pytest.raises(InvalidDeclaration, match="step name 'a b'"):
        step(name="a b")(lambda: 1)
    with pytest.raises(InvalidDeclaration, match="repeat"):
        step(name="twice", outputs=["a", "a"])(lambda: (1, 2))


def test_a_step_that_gives_other_than_its_outputs_is_told() -> None:
    @step(outputs=["a", "b"])
    def wrong() -> Any:
        return 1, 2, 3

    with pytest.raises(InvalidInput, match="found 3 values, expected a tuple of 2"):
        wrong.invoke({})
