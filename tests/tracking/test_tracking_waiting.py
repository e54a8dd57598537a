"""Points that wait: whatever the order and the batches, a reader finds every one once."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from math import isnan, nan
from pathlib import Path

import pytest
from sqlalchemy import func, select

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import InvalidInput, Refused
from mainspring.core.ids import Id
from mainspring.store.database import Database
from mainspring.tracking.run import Batch, Point
from mainspring.tracking.search import Page
from mainspring.tracking.tables import METADATA, METRIC_POINT, METRIC_WAITING
from mainspring.tracking.tracking import Tracking

CLOCK = FrozenClock(datetime(2013, 1, 1, tzinfo=UTC))
RUN = Id("0" * 31 + "1")
OTHER = Id("0" * 31 + "2")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "mainspring.db", clock=CLOCK) as opened:
        opened.write(METADATA.create_all)
        yield opened


@pytest.fixture
def tracking(database: Database) -> Tracking:
    made = Tracking("default", database=database, clock=CLOCK)
    for run in (RUN, OTHER):
        made.create_run(run, name="delay_model")
    return made


def waiting(database: Database) -> int:
    with database.read() as connection:
        return int(
            connection.execute(select(func.count()).select_from(METRIC_WAITING)).scalar_one()
        )


def in_series(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(METRIC_POINT)).scalar_one())


def settled(tracking: Tracking) -> None:
    """Read something of every run, so that nothing waits."""
    tracking.reading.runs(["0"], text=None, orders=[], view="all", page=Page(0, 10))


def test_points_wait_until_their_run_is_read(tracking: Tracking, database: Database) -> None:
    settled(tracking)
    tracking.log(RUN, Batch(metrics=(Point("first", 1.0, 1, 1),)))
    tracking.get(RUN)
    tracking.log(RUN, Batch(metrics=(Point("auc", 0.5, 1, 1),)))

    tracking.found(OTHER)
    assert waiting(database) == 1

    assert tracking.found(RUN).metrics["auc"].value == 0.5
    assert waiting(database) == 0


def test_any_order_of_batches_gives_the_same_series(tracking: Tracking) -> None:
    numbers = random.Random(7)
    points = [
        Point(f"k{numbers.randrange(3)}", value, numbers.randrange(5), numbers.randrange(3))
        for value in [*range(60), nan, nan, 1, 1]
    ]
    for run in (RUN, OTHER):
        shuffled = numbers.sample(points, len(points))
        while shuffled:
            taken = numbers.randrange(1, 9)
            tracking.log(run, Batch(metrics=tuple(shuffled[:taken])))
            shuffled = shuffled[taken:]
            if numbers.random() < 0.3:
                tracking.history(run, "k0")

    for key in ("k0", "k1", "k2"):
        one, two = (tracking.history(run, key) for run in (RUN, OTHER))
        assert list(map(repr, one)) == list(map(repr, two))
        told = {(p.step, p.at_ms, repr(p.value)) for p in points if p.key == key}
        assert {(p.step, p.at_ms, repr(float(p.value))) for p in one} == {
            (step, at, repr(float(value))) for step, at, value in told
        }
        best = max(
            (p for p in points if p.key == key),
            key=lambda p: (p.step, p.at_ms, -1.0 if isnan(p.value) else p.value),
        )
        assert repr(float(tracking.get(RUN).metrics[key].value)) == repr(float(best.value))
    assert tracking.digest(RUN) == tracking.digest(OTHER)


def test_what_waits_is_there_after_a_restart(tracking: Tracking, database: Database) -> None:
    settled(tracking)
    tracking.log(RUN, Batch(metrics=(Point("first", 1.0, 1, 1),)))
    tracking.log(RUN, Batch(metrics=(Point("auc", 0.5, 1, 1),)))

    again = Tracking("default", database=database, clock=CLOCK)

    assert again.get(RUN).metrics["auc"].value == 0.5


def test_no_more_than_a_bound_waits(tracking: Tracking, database: Database) -> None:
    for batch in range(12):
        points = tuple(Point(f"m{i}", 0.5, batch, 1) for i in range(1000))
        tracking.log(RUN, Batch(metrics=points))

    assert waiting(database) <= 10
    assert in_series(database) >= 2000


def test_a_batch_that_is_refused_leaves_no_points(tracking: Tracking, database: Database) -> None:
    tracking.log(RUN, Batch(params={"depth": "6"}))
    settled(tracking)

    with pytest.raises(Refused):
        tracking.log(RUN, Batch(params={"depth": "7"}, metrics=(Point("auc", 0.5, 1, 1),)))
    for wrong in (Point("a\nb", 0.5, 1, 1), Point("a", 0.5, 1 << 63, 1), Point("", 0.5, 1, 1)):
        with pytest.raises(InvalidInput):
            tracking.log(RUN, Batch(metrics=(Point("auc", 0.5, 1, 1), wrong)))

    assert waiting(database) == 0
    assert tracking.get(RUN).metrics == {}


def test_a_work_that_reads_sees_the_points_that_wait(
    tracking: Tracking, database: Database
) -> None:
    settled(tracking)
    tracking.log(RUN, Batch(metrics=(Point("first", 1.0, 1, 1),)))
    tracking.log(RUN, Batch(metrics=(Point("auc", 0.5, 1, 1),)))

    found = database.write(lambda _: tracking.get(RUN).metrics)

    assert found["auc"].value == 0.5
