"""Labels are acknowledged once, refused whole, and wait for their prediction."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.monitoring.monitoring_bench import START, Bench
from tests.monitoring.monitoring_log import EVENT_US, block, write

from mainspring.core.errors import InvalidDeclaration, InvalidInput, Refused
from mainspring.core.ids import Id
from mainspring.formats.segment import SegmentWriter
from mainspring.monitoring.labels import Label
from mainspring.monitoring.spec import Drift, Errors, Loss, NotWorse, errors, not_worse
from mainspring.stats.categories import profile_categories, reference_categories
from mainspring.stats.profile import profile, reference_edges

NAME = f"{1:032x}"
ARRIVAL = START + timedelta(hours=2)


def test_a_token_seen_before_changes_nothing(bench: Bench) -> None:
    labels = [Label(arrival=ARRIVAL, prediction=NAME, value=1.0)]
    first = bench.monitoring.label("delay", labels, token="w:1")
    again = bench.monitoring.label("delay", labels, token="w:1")

    assert (first.repeated, again.repeated) == (False, True)
    assert (again.rows, bench.monitoring.counts("delay").labels) == (1, 1)


def test_a_token_used_for_other_labels_is_refused(bench: Bench) -> None:
    bench.monitoring.label("delay", [Label(arrival=ARRIVAL, prediction=NAME, value=1.0)], token="w")

    with pytest.raises(Refused, match="use a new token"):
        bench.monitoring.label(
            "delay", [Label(arrival=ARRIVAL, prediction=NAME, value=0.0)], token="w"
        )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prediction": NAME}, "either `value`, or `void`"),
        ({"prediction": NAME, "value": 1.0, "void": True}, "either `value`, or `void`"),
        ({"value": 1.0}, "either `prediction`, or"),
        ({"value": 1.0, "key": "a"}, "either `prediction`, or"),
        ({"value": 1.0, "key": "a", "event_time": START, "prediction": NAME}, "either `pred"),
        ({"value": 1.0, "key": "a", "prediction": NAME}, "either `prediction`, or"),
        ({"value": float("nan"), "prediction": NAME}, "expected a finite number"),
        ({"value": 1.0, "prediction": "7"}, "32 hex digits"),
        ({"value": 1.0, "prediction": NAME + ":x"}, "32 hex digits"),
        ({"value": 1.0, "prediction": NAME, "arrival": datetime(2013, 1, 1)}, "no time zone"),  # noqa: DTZ001
    ],
)
def test_a_wrong_label_is_named_and_none_of_its_batch_is_taken(
    bench: Bench, wrong: dict[str, Any], says: str
) -> None:
    good = Label(arrival=ARRIVAL, prediction=NAME, value=1.0)

    with pytest.raises(InvalidInput, match=says):
        bench.monitoring.label("delay", [good, Label(**{"arrival": ARRIVAL, **wrong})], token="w:1")

    assert bench.monitoring.counts("delay").labels == 0


def test_a_label_that_came_early_is_joined_when_its_prediction_is_there(bench: Bench) -> None:
    label = Label(arrival=ARRIVAL, key="a", event_time=START + timedelta(minutes=10), value=1.0)
    bench.monitoring.label("delay", [label], token="w:1")
    bench.monitoring.advance("delay", START + timedelta(hours=3))
    assert bench.monitoring.counts("delay").early == 1

    writer = SegmentWriter(bench.monitoring.home.segments, worker="w", segment=Id("1" * 32))
    write(writer, [block(1, ["a"])])
    bench.monitoring.advance("delay", START + timedelta(hours=4))

    counts = bench.monitoring.counts("delay")
    assert (counts.early, counts.labelled) == (0, 1)
    assert bench.monitoring.state("delay").labelled == 1
    record = bench.monitoring.prediction(NAME)
    assert (record.value, record.label_arrival) == (1.0, ARRIVAL)


def test_void_ends_the_wait_and_is_no_label(bench: Bench) -> None:
    writer = SegmentWriter(bench.monitoring.home.segments, worker="w", segment=Id("1" * 32))
    write(writer, [block(1, ["a"])])
    bench.monitoring.label(
        "delay", [Label(arrival=ARRIVAL, prediction=NAME, void=True)], token="w:1"
    )

    bench.monitoring.advance("delay", START + timedelta(hours=4))

    counts = bench.monitoring.counts("delay")
    assert (counts.void, counts.labelled, counts.early) == (1, 0, 0)


def test_drift_is_noted_against_the_reference_and_never_fires(bench: Bench) -> None:
    edges = reference_edges([float(x) for x in range(100)])
    categories = reference_categories(["EWR"] * 50 + ["LGA"] * 50)
    bench.declared.reference = {
        "wind": profile([float(x) for x in range(100)], edges),
        "origin": profile_categories(["EWR"] * 50 + ["LGA"] * 50, categories),
        "gone": profile([1.0, 2.0], reference_edges([1.0, 2.0])),
    }
    bench.watch(Drift(every="1d"))
    writer = SegmentWriter(bench.monitoring.home.segments, worker="w", segment=Id("1" * 32))
    write(writer, [block(number, ["a", "b"]) for number in range(60)])
    bench.monitoring.advance("delay", START + timedelta(hours=20))
    assert bench.monitoring.readings("delay") == []

    bench.monitoring.advance("delay", START + timedelta(days=3))

    found = {(one.subject, one.metric): one for one in bench.monitoring.readings("delay")}
    assert found["origin", "new_share"].value == 1.0
    assert found["wind", "ks"].value == pytest.approx(0.4, abs=0.02)
    assert found["wind", "psi"].expected is not None
    assert found["wind", "ks"].rows == 120
    assert {subject for subject, _ in found} == {"origin", "wind"}
    assert bench.monitoring.state("delay").signals == ()
    assert int(START.timestamp() * 1_000_000) == EVENT_US


@pytest.mark.parametrize(
    "declare",
    [
        lambda: errors(0.0),
        lambda: not_worse("log_loss", 0.0),
        lambda: not_worse("auc", 0.1),  # type: ignore[arg-type]
        lambda: Loss("log_loss", every="7 days"),
        lambda: Loss(tolerance=0.0),
        lambda: Loss(labels_per_month=0),
        lambda: Drift(every=""),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(declare: Any) -> None:
    with pytest.raises(InvalidDeclaration, match="expected"):
        declare()


def test_guards_have_names() -> None:
    assert [Errors(0.01).name, NotWorse("brier", 0.01).name] == ["errors", "not_worse:brier"]
