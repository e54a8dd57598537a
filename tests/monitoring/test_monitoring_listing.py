"""Outcomes in pages: each prediction once, in order, with the label that holds."""

from datetime import timedelta

import numpy as np
import pytest
from tests.monitoring.monitoring_bench import START, Bench, times

from mainspring.monitoring.labels import Label
from mainspring.monitoring.listing import Outcome

ROWS = 10


def all_pages(bench: Bench, limit: int) -> list[Outcome]:
    found: list[Outcome] = []
    after = None
    while True:
        page = bench.monitoring.outcome_page(
            "delay", START, START + timedelta(days=1), after=after, limit=limit
        )
        assert len(page.outcomes) <= limit
        found += page.outcomes
        after = page.next
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 5, 10, 11])
def test_pages_join_to_the_range_each_prediction_once(bench: Bench, limit: int) -> None:
    # Two at each instant, so that a page may end between equal event times.
    at = [instant for instant in times(ROWS // 2, a_day=24) for _ in range(2)]
    bench.predict(at, np.full(ROWS, 0.25))

    found = all_pages(bench, limit)

    assert [one.prediction for one in found] == [f"{place:032x}" for place in range(ROWS)]
    assert [one.event_time for one in found] == at


def test_an_outcome_names_the_label_that_holds(bench: Bench) -> None:
    at = times(3, a_day=24)
    bench.predict(at, np.array([0.25, 0.5, 0.75]))
    named = [f"{place:032x}" for place in range(3)]
    hour = timedelta(hours=1)
    labels = [
        Label(prediction=named[0], value=0.0, arrival=at[0] + hour),
        Label(prediction=named[0], value=1.0, arrival=at[0] + 2 * hour),
        Label(prediction=named[1], void=True, arrival=at[1] + hour),
    ]
    bench.monitoring.label("delay", labels, token="t")
    bench.monitoring.advance("delay", START + timedelta(days=1))

    found = all_pages(bench, 2)
    (one,) = bench.monitoring.outcomes_of("delay", named[0], limit=10).outcomes

    assert [(o.value, o.void, o.corrections) for o in found] == [
        (1.0, False, 1),
        (None, True, 0),
        (None, False, 0),
    ]
    assert one == found[0]
    assert (one.label_arrival, one.score, one.key) == (at[0] + 2 * hour, 0.25, "k0")
    assert bench.monitoring.outcomes_of("delay", f"{named[0]}:1", limit=10).outcomes == ()
