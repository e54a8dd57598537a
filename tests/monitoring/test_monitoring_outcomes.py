"""The join of labels against a brute-force model: any order, repeats, corrections, early ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from mainspring.core.clock import SystemClock
from mainspring.monitoring import labels as labelling
from mainspring.monitoring import outcomes
from mainspring.monitoring.labels import Label
from mainspring.monitoring.outcomes import Span
from mainspring.monitoring.state import NEVER_US
from mainspring.monitoring.tables import LABEL, METADATA, OUTCOME, PREDICTION
from mainspring.monitoring.times import instant, span
from mainspring.store.database import Database

HOUR = span(timedelta(hours=1))
WAIT = 4 * HOUR
KEYS = ("a", "b")


@dataclass(frozen=True)
class Predicted:
    """One row that was answered at `at`, of a flight of hour `event`."""

    name: str
    key: str
    event: int
    at: int


@dataclass(frozen=True)
class Said:
    """One label message: `target` is a prediction's place, or None for key and event."""

    target: int | None
    key: str
    event: int
    value: float | None
    arrival: int
    received: int


predictions = st.lists(
    st.tuples(st.sampled_from(KEYS), st.integers(0, 2), st.integers(0, 20)), min_size=1, max_size=6
).map(
    lambda rows: [
        Predicted(f"{place:032x}", key, event, at) for place, (key, event, at) in enumerate(rows)
    ]
)
messages = st.lists(
    st.builds(
        Said,
        target=st.none() | st.integers(0, 5),
        key=st.sampled_from(KEYS),
        event=st.integers(0, 2),
        value=st.sampled_from([None, 0.0, 1.0]),
        arrival=st.integers(0, 20),
        received=st.integers(0, 20),
    ),
    max_size=12,
)


def model(
    rows: Sequence[Predicted], said: Sequence[Said], until: int
) -> dict[int, tuple[Any, ...]]:
    """Say what must hold, the slow way: per prediction value, labels, corrections, due value."""
    joined: dict[int, list[tuple[int, int, int, float | None]]] = {}
    for number, label in enumerate(said):
        if label.arrival > until:
            continue
        if label.target is not None:
            target = label.target if label.target < len(rows) else None
        else:
            same = [
                (row.at, place)
                for place, row in enumerate(rows)
                if (row.key, row.event) == (label.key, label.event)
            ]
            before = [one for one in same if one[0] <= label.received]
            target = (max(before) if before else min(same))[1] if same else None
        if target is not None:
            entry = (label.arrival, label.received, number, label.value)
            joined.setdefault(target, []).append(entry)
    found = {}
    for target, entries in joined.items():
        entries.sort(key=lambda entry: entry[:3])
        values = [entry[3] for entry in entries]
        eligible = max(entries[0][0] * HOUR, rows[target].event * HOUR + WAIT)
        due = [entry[3] for entry in entries if entry[0] * HOUR <= eligible][-1]
        changes = sum(one != other for one, other in pairwise(values))
        found[target] = (values[-1], len(entries), changes, eligible, due)
    return found


def run(rows: Sequence[Predicted], said: Sequence[Said], steps: Sequence[int]) -> Any:
    """Take everything in and advance over `steps`; rows and labels come before the first step
    that concerns them, as a source that keeps its promise sends them."""
    with (
        TemporaryDirectory() as folder,
        Database.open(Path(folder) / "m.db", clock=SystemClock()) as database,
    ):
        database.write(METADATA.create_all)
        stored = [_stored(place, row) for place, row in enumerate(rows)]
        database.write(lambda connection: connection.execute(insert(PREDICTION), stored))
        gained, before, sent = 0, NEVER_US, set[int]()
        for step in steps:
            for number, label in enumerate(said):
                if number not in sent and label.arrival <= step:
                    sent.add(number)
            # Numbers follow the order of sending; the model breaks ties by place in the list.
            _send(database, said, sorted(sent))
            where = Span("default", "delay", before, step * HOUR, WAIT)
            gained += database.write(partial(outcomes.join, span=where)).labelled
            before = step * HOUR
        with database.read() as connection:
            return (
                {
                    row.number - 1: (
                        row.value, row.labels, row.corrections, row.eligible_us, row.due_value
                    )
                    for row in connection.execute(select(OUTCOME))
                },
                gained,
                len(connection.execute(select(LABEL)).all()),
            )  # fmt: skip


def _stored(place: int, row: Predicted) -> dict[str, Any]:
    return {
        "number": place + 1, "project": "default", "endpoint": "delay", "prediction": row.name,
        "row": 0, "request": None, "repeat_of": None, "key": row.key,
        "event_time_us": row.event * HOUR, "at_us": row.at * HOUR, "version": "1",
        "role": "live", "rollout": None, "score": 0.5, "live_version": "1", "live_score": 0.5,
        "candidate_version": None, "candidate_score": None, "fallback": 0,
    }  # fmt: skip


def _send(database: Database, said: Sequence[Said], numbers: Sequence[int]) -> None:
    for number in numbers:
        label = said[number]
        by_id = label.target is not None
        name = f"{label.target:032x}" if by_id else None
        message = Label(
            arrival=instant(label.arrival * HOUR),
            prediction=name,
            key=None if by_id else label.key,
            event_time=None if by_id else instant(label.event * HOUR),
            value=label.value,
            void=label.value is None,
        )
        batch = labelling.checked_batch(
            "default", "delay", [message], token=f"t:{number}", received_us=label.received * HOUR
        )
        database.write(partial(labelling.store, batch=batch))


@settings(deadline=None, max_examples=60)
@given(predictions, messages)
def test_outcomes_are_those_of_the_brute_force_model(
    rows: list[Predicted], said: list[Said]
) -> None:
    found, gained, kept = run(rows, said, [30])

    assert found == model(rows, said, 30)
    assert gained == sum(value[0] is not None for value in found.values())
    assert kept == len(said)


@settings(deadline=None, max_examples=40)
@given(predictions, messages, st.sets(st.integers(5, 29), max_size=4))
def test_outcomes_do_not_depend_on_how_often_the_watermark_moves(
    rows: list[Predicted], said: list[Said], cuts: set[int]
) -> None:
    # Messages that share arrival and receipt are told apart by the order of sending, so send all
    # of one arrival together and in order, as one source does.
    ordered = sorted(said, key=lambda label: (label.arrival, label.received))
    often, gained, _ = run(rows, ordered, [*sorted(cuts), 30])
    once, gained_once, _ = run(rows, ordered, [30])

    assert often == once
    assert gained == gained_once


def test_a_label_that_comes_after_the_watermark_passed_it_counts_from_then_on() -> None:
    rows = [Predicted(f"{0:032x}", "a", 0, 0)]

    with (
        TemporaryDirectory() as folder,
        Database.open(Path(folder) / "m.db", clock=SystemClock()) as database,
    ):
        database.write(METADATA.create_all)
        stored = [_stored(0, rows[0])]
        database.write(lambda connection: connection.execute(insert(PREDICTION), stored))
        database.write(
            lambda c: outcomes.join(c, Span("default", "delay", NEVER_US, 10 * HOUR, WAIT))
        )
        _send(database, [Said(0, "a", 0, 1.0, 5, 11)], [0])
        database.write(
            lambda c: outcomes.join(c, Span("default", "delay", 10 * HOUR, 12 * HOUR, WAIT))
        )
        with database.read() as connection:
            row = connection.execute(select(OUTCOME)).one()

    assert (row.value, row.eligible_us) == (1.0, 10 * HOUR + 1)
