"""Tracked runs: written once, written twice, and read back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf, isnan, nan
from pathlib import Path

import pytest

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import AlreadyExists, InvalidInput, NotFound, Refused
from mainspring.core.ids import Digest, Id, digest_bytes
from mainspring.store.database import Database
from mainspring.tracking.limits import millis
from mainspring.tracking.run import Batch, Point
from mainspring.tracking.tables import METADATA
from mainspring.tracking.tracking import Tracking

START = datetime(2013, 1, 1, tzinfo=UTC)
RUN = Id("0" * 31 + "1")
OTHER = Id("0" * 31 + "2")
BLOB = digest_bytes(b"blob")


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(START)


@pytest.fixture
def database(tmp_path: Path, clock: FrozenClock) -> Iterator[Database]:
    with Database.open(tmp_path / "mainspring.db", clock=clock) as opened:
        opened.write(METADATA.create_all)
        yield opened


@pytest.fixture
def tracking(database: Database, clock: FrozenClock) -> Tracking:
    made = Tracking("default", database=database, clock=clock)
    made.create_run(RUN, name="delay_model")
    return made


def point(value: float, step: int, seconds: int = 0, key: str = "auc") -> Point:
    return Point(key, value, step, millis(START + timedelta(seconds=seconds)))


def test_a_parameter_keeps_its_first_value(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(params={"depth": "6"}))
    tracking.log(RUN, Batch(params={"depth": "6"}))

    with pytest.raises(Refused, match="key='depth' was already logged with value='6'"):
        tracking.log(RUN, Batch(params={"rounds": "5", "depth": "7"}, tags={"a": "b"}))

    assert tracking.get(RUN).params == {"depth": "6"}
    assert tracking.get(RUN).tags == {}


def test_a_tag_and_an_artifact_take_the_newest_value(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(tags={"stage": "a"}))
    tracking.log(RUN, Batch(tags={"stage": "b"}))
    tracking.log_artifact(RUN, "plots/roc.json", digest=digest_bytes(b"old"), size_bytes=3)
    tracking.log_artifact(RUN, "plots/roc.json", digest=BLOB, size_bytes=4)

    run = tracking.get(RUN)

    assert run.tags == {"stage": "b"}
    assert {path: f.digest for path, f in run.artifacts.items()} == {"plots/roc.json": BLOB}


def test_metrics_keep_order_by_step_and_all_their_numbers(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(metrics=(point(0.9, 3), point(inf, 1), point(nan, 2), point(-inf, 0))))

    values = [p.value for p in tracking.history(RUN, "auc")]

    assert values[:2] == [-inf, inf]
    assert isnan(values[2])
    assert tracking.get(RUN).metrics["auc"].value == 0.9


def test_summary_names_the_best_steps(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(metrics=(point(0.5, 1), point(0.8, 2), point(0.7, 3), point(nan, 4))))

    summary = tracking.summary(RUN, "auc")

    assert summary.max == point(0.8, 2)
    assert summary.min == point(0.5, 1)
    assert summary.last.step == 4
    assert summary.points == 4


def test_a_batch_sent_twice_is_there_once(tracking: Tracking) -> None:
    batch = Batch(metrics=(point(0.5, 1), point(0.5, 1, seconds=1), point(nan, 2), point(0.6, 1)))

    tracking.log(RUN, batch)
    tracking.log(RUN, batch)

    assert len(tracking.history(RUN, "auc")) == 4


def test_a_thousand_metrics_fit_a_batch_and_one_more_does_not(tracking: Tracking) -> None:
    points = tuple(point(float(i), i) for i in range(1001))

    tracking.log(RUN, Batch(metrics=points[:1000]))
    with pytest.raises(InvalidInput, match="found 1001 metrics"):
        tracking.log(RUN, Batch(metrics=points))

    assert len(tracking.history(RUN, "auc")) == 1000


@pytest.mark.parametrize(
    "batch",
    [
        Batch(params={"k" * 251: "v"}),
        Batch(params={"k": "v" * 6001}),
        Batch(tags={"k": "v" * 8001}),
        Batch(metrics=(point(1.0, 0, key=""),)),
        Batch(metrics=(point(1.0, 0, key="a\nb"),)),
    ],
)
def test_what_is_over_its_limit_is_refused(tracking: Tracking, batch: Batch) -> None:
    with pytest.raises(InvalidInput, match="found"):
        tracking.log(RUN, batch)


@pytest.mark.parametrize("path", ["", "/etc/x", "../x", "a/../b", "a//b", "a\\b", "./a", "a/"])
def test_an_artifact_path_never_leaves_its_run(tracking: Tracking, path: str) -> None:
    with pytest.raises(InvalidInput, match="artifact path"):
        tracking.log_artifact(RUN, path, digest=BLOB, size_bytes=1)


def test_values_at_their_limit_are_kept(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(params={"k" * 250: "v" * 6000}, tags={"k": "v" * 8000}))

    assert len(tracking.get(RUN).params["k" * 250]) == 6000


def test_creating_a_run_again_changes_nothing_but_another_name_is_refused(
    tracking: Tracking, clock: FrozenClock
) -> None:
    clock.advance(timedelta(hours=1))
    tracking.create_run(RUN, name="delay_model")

    assert tracking.get(RUN).started == START
    with pytest.raises(AlreadyExists, match="make a new id"):
        tracking.create_run(RUN, name="another")


def test_a_deleted_run_is_hidden_refuses_logs_and_comes_back_whole(tracking: Tracking) -> None:
    tracking.log(RUN, Batch(params={"depth": "6"}, metrics=(point(0.5, 1),)))
    before = tracking.get(RUN)

    tracking.delete(RUN)

    assert tracking.list() == []
    assert [row.run for row in tracking.list(deleted=True)] == [RUN]
    with pytest.raises(Refused, match="restore it"):
        tracking.log(RUN, Batch(tags={"a": "b"}))
    tracking.restore(RUN)
    assert tracking.get(RUN) == before


def test_runs_are_listed_newest_first_by_experiment(tracking: Tracking, clock: FrozenClock) -> None:
    clock.advance(timedelta(seconds=1))
    trial = tracking.experiments.create("trial")
    tracking.create_run(OTHER, name="b", experiment=trial)

    assert [row.run for row in tracking.list()] == [OTHER, RUN]
    assert [row.run for row in tracking.list(experiment=trial)] == [OTHER]


def test_an_ended_run_keeps_its_end(tracking: Tracking, clock: FrozenClock) -> None:
    tracking.end_run(RUN, "finished")
    clock.advance(timedelta(hours=1))
    tracking.end_run(RUN, "finished")

    assert tracking.get(RUN).status == "finished"
    assert tracking.get(RUN).ended == START


def test_the_digest_speaks_of_content_and_not_of_time(
    tracking: Tracking, clock: FrozenClock
) -> None:
    clock.advance(timedelta(hours=1))
    tracking.create_run(OTHER, name="again")
    for run, seconds in ((RUN, 0), (OTHER, 3600)):
        tracking.log(
            run,
            Batch(params={"a": "1"}, metrics=(point(nan, 1, seconds), point(0.5, 0, seconds))),
        )
        tracking.log_artifact(run, "m", digest=BLOB, size_bytes=4)

    assert tracking.digest(RUN) == tracking.digest(OTHER)

    seen = {tracking.digest(RUN)}
    for change in (
        Batch(params={"b": "1"}),
        Batch(tags={"b": "1"}),
        Batch(metrics=(point(0.7, 2),)),
        Batch(metrics=(point(nan, 0, key="loss"),)),
    ):
        tracking.log(RUN, change)
        seen.add(tracking.digest(RUN))
    tracking.log_artifact(RUN, "m", digest=Digest("0" * 64), size_bytes=4)
    seen.add(tracking.digest(RUN))
    assert len(seen) == 6


def test_projects_do_not_see_each_other(
    tracking: Tracking, database: Database, clock: FrozenClock
) -> None:
    stranger = Tracking("other", database=database, clock=clock)
    tracking.log(RUN, Batch(params={"a": "1"}))

    with pytest.raises(NotFound, match="in project 'other'"):
        stranger.get(RUN)
    stranger.create_run(RUN, name="theirs")
    stranger.log(RUN, Batch(params={"a": "2"}))

    assert tracking.get(RUN).params == {"a": "1"}
    assert stranger.list()[0].name == "theirs"
