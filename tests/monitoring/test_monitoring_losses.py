"""The loss alarm: opens on a shift of concept, sleeps through one of the base rate, and ends."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.monitoring.monitoring_bench import START, Bench, Floats, open_bench, times

from mainspring.core.errors import AlreadyExists, NotFound, Refused
from mainspring.core.ids import Digest, Id
from mainspring.monitoring.labels import Label
from mainspring.monitoring.losses import Signal
from mainspring.monitoring.spec import Loss
from mainspring.monitoring.tables import DERIVED
from mainspring.monitoring.times import instant
from mainspring.stats.auc import auc

A_DAY = 250
LOSS = Loss("log_loss", every="7d", tolerance=0.01)


def scores(rows: int, seed: int = 5) -> tuple[Floats, Floats]:
    """Probabilities of a calibrated model, and uniform draws to make labels from."""
    rng = np.random.default_rng(seed)
    return 1 / (1 + np.exp(-rng.normal(-1.2, 1.1, rows))), rng.random(rows)


def odds(p: Floats, shift: float) -> Floats:
    return 1 / (1 + np.exp(-(np.log(p / (1 - p)) + shift)))


def run(
    bench: Bench, p: Floats, y: NDArray[np.bool_], days: int, *, every: int = 1
) -> list[Signal | None]:
    """Predict and label everything, advance day by day; gives what the monitor said each time."""
    at = times(len(p), a_day=A_DAY)
    bench.watch(LOSS)
    bench.predict(at, p)
    bench.label(at, y.astype(np.float64), np.full(len(p), 3.0))
    said: list[Signal | None] = []
    for day in range(every, days + 1, every):
        bench.monitoring.advance("delay", START + timedelta(days=day))
        said.append(next(iter(bench.monitoring.state("delay").signals), None))
    return said


def test_a_shift_of_concept_fires_and_says_by_how_much(bench: Bench) -> None:
    p, draw = scores(A_DAY * 60)
    day = np.arange(len(p)) // A_DAY
    y = draw < np.where(day < 21, p, odds(p, 1.2))

    said = run(bench, p, y, 60)

    assert not any(one.firing for one in said[:21] if one)
    last = said[-1]
    assert last is not None
    assert last.firing
    assert not last.quiet
    assert "where it expected" in last.message
    assert last.since_us is not None
    assert START + timedelta(days=21) < instant(last.since_us) < START + timedelta(days=40)


def test_a_new_base_rate_that_the_model_expects_does_not_fire(bench: Bench) -> None:
    p, draw = scores(A_DAY * 60)
    day = np.arange(len(p)) // A_DAY
    # Later rows are riskier and the model says so: its loss rises, and so does what it expects.
    p = np.where(day < 21, p, odds(p, 1.2))

    said = run(bench, p, draw < p, 60)

    assert not any(one.firing for one in said if one)
    late = bench.monitoring.readings("delay", metric="positive_share")
    assert late[0].value is not None
    assert late[-1].value is not None
    assert late[-1].value > late[0].value + 0.15


def test_an_alarm_ends_after_three_quiet_windows_and_another_may_follow(bench: Bench) -> None:
    p, draw = scores(A_DAY * 110)
    day = np.arange(len(p)) // A_DAY
    wrong = ((day >= 21) & (day < 45)) | (day >= 85)
    y = draw < np.where(wrong, odds(p, 1.2), p)

    firing = [bool(one and one.firing) for one in run(bench, p, y, 110)]

    changes = [place for place in range(1, 110) if firing[place] != firing[place - 1]]
    assert len(changes) == 3
    # Windows start at 1970-01-01, a Thursday: the third whole one after day 45 ends on day 66-73.
    assert 65 < changes[1] < 75
    assert changes[2] > 84


def test_what_it_says_does_not_depend_on_how_often_the_watermark_moved(tmp_path: Path) -> None:
    p, draw = scores(A_DAY * 110)
    day = np.arange(len(p)) // A_DAY
    wrong = ((day >= 21) & (day < 45)) | (day >= 85)
    y = draw < np.where(wrong, odds(p, 1.2), p)
    found = []
    for every in (5, 110):
        with open_bench(tmp_path / str(every)) as bench:
            found.append(
                (run(bench, p, y, 110, every=every)[-1], bench.monitoring.readings("delay"))
            )

    assert found[0] == found[1]
    assert found[0][0] is not None
    assert found[0][0].firing


def test_the_state_starts_anew_with_another_live_version(bench: Bench) -> None:
    p, draw = scores(A_DAY * 60)
    run(bench, p, draw < odds(p, 1.2), 50)
    assert bench.monitoring.state("delay").signals[0].firing

    bench.watch(LOSS, live="2")

    assert bench.monitoring.state("delay").signals == ()
    bench.monitoring.advance("delay", START + timedelta(days=55))
    assert not bench.monitoring.state("delay").signals[0].firing


def test_without_labels_nothing_is_claimed(bench: Bench) -> None:
    p, _ = scores(A_DAY * 10)
    bench.watch(LOSS)
    bench.predict(times(len(p), a_day=A_DAY), p)

    bench.monitoring.advance("delay", START + timedelta(days=40))

    said = bench.monitoring.state("delay").signals[0]
    assert (said.firing, said.quiet, said.threshold) == (False, False, None)


def test_readings_hold_every_labelled_prediction_of_their_window_once(bench: Bench) -> None:
    p, draw = scores(A_DAY * 20)
    y = draw < p
    run(bench, p, y, 20)

    found = bench.monitoring.readings("delay", metric="auc")

    frame = bench.monitoring.outcomes("delay", found[1].start, found[1].end)
    assert frame.height == found[1].rows == A_DAY * 7
    assert found[1].value == auc(frame["value"].to_numpy(), frame["score"].to_numpy())


def test_a_late_correction_restates_the_window_it_belongs_to(bench: Bench) -> None:
    p, draw = scores(A_DAY * 20)
    y = draw < p
    run(bench, p, y, 20)
    before = bench.monitoring.readings("delay", metric="positive_share")
    at = times(len(p), a_day=A_DAY)
    window = [place for place in range(len(p)) if before[1].start <= at[place] < before[1].end]
    late = [
        Label(
            arrival=START + timedelta(days=20, hours=1),
            prediction=f"{place:032x}",
            value=float(not y[place]),
        )
        for place in window
    ]
    bench.monitoring.label("delay", late, token="late:0")

    bench.monitoring.advance("delay", START + timedelta(days=21))

    after = bench.monitoring.readings("delay", metric="positive_share")
    assert after[1].value == pytest.approx(1 - (before[1].value or 0))
    assert after[0] == before[0]
    assert after[1].rows == before[1].rows
    assert bench.monitoring.counts("delay").corrected == len(window)


def signal(monitor: str = "loss") -> Signal:
    return Signal(monitor, "1", True, False, "worse", 1e6, 1e5, 0, DIGEST)


DIGEST = Digest("d" * 64)


def test_an_alarm_has_a_beginning_and_an_end_on_the_record(bench: Bench) -> None:
    opened, deadline = START, START + timedelta(days=14)
    bench.monitoring.open_alarm("delay", signal(), opened=opened, deadline=deadline, actor="loop")
    (alarm,) = bench.monitoring.alarms("delay", only_open=True)
    assert not alarm.standing(opened)
    assert alarm.standing(deadline)

    with pytest.raises(AlreadyExists, match="end it first"):
        bench.monitoring.open_alarm(
            "delay", signal(), opened=opened, deadline=deadline, actor="loop"
        )
    bench.monitoring.end_alarm(alarm.alarm, "quiet", at=deadline, actor="loop")
    with pytest.raises(Refused, match="ended before"):
        bench.monitoring.end_alarm(alarm.alarm, "quiet", at=deadline, actor="loop")
    with pytest.raises(NotFound):
        bench.monitoring.end_alarm(Id("0" * 32), "quiet", at=deadline, actor="loop")

    before = bench.monitoring.alarms()
    assert [(one.cause, one.ended) for one in before] == [("quiet", deadline)]
    bench.monitoring.ledger.rebuild()
    assert bench.monitoring.alarms() == before
    assert [table.name for table in DERIVED.tables] == ["alarm"]


def test_a_purge_leaves_the_digest_and_the_count_of_what_is_gone(bench: Bench) -> None:
    p, draw = scores(100)
    run(bench, p, draw < p, 1)

    fact = bench.monitoring.purge("delay", START + timedelta(hours=12), actor="ann")

    assert fact is not None
    assert getattr(fact.event, "rows", 0) == 100
    assert bench.monitoring.counts("delay").predictions == 0
    assert bench.monitoring.counts("delay").labels == 0
    assert bench.monitoring.purge("delay", START + timedelta(hours=12), actor="ann") is None
