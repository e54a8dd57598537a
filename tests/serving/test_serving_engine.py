"""The engine answers from the home's files, and what it answered is on the record."""

import math
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.serving.serving_world import (
    HOUR,
    ROLLOUT,
    World,
    canary,
    constant,
    failing_at,
    ill_shaped,
    live,
    passing_on,
    rows,
)

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import InvalidInput, NotFound, SchemaMismatch, Unavailable
from mainspring.formats.routes import Arm, RouteTable, ViewRef, publish
from mainspring.serving.engine import Rows

WEATHER = ViewRef("weather", "origin", 3 * 3600.0, ("wind", "visib"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class SlowClock(FrozenClock):
    """A clock on which every look takes a while."""

    step_s = 0.0

    def monotonic_s(self) -> float:
        self.advance(timedelta(seconds=self.step_s))
        return super().monotonic_s()


def test_an_answer_is_on_the_record_with_all_it_rests_on(world: World) -> None:
    world.publish(4, live(world.model(constant(0.5))))
    engine = world.engine()

    answer = engine.predict("default", "delay", rows("JFK", "LGA"), request_id="r1")

    assert answer.outputs == [0.5, 0.5]
    assert (answer.versions, answer.arms) == (["1", "1"], ["live", "live"])
    (block,) = world.blocks()
    assert block.prediction == answer.prediction
    assert (block.request, block.endpoint, block.routes) == ("r1", "delay", 4)
    assert (block.keys, block.event_times_us) == (["flight0", "flight1"], [10 * HOUR] * 2)
    assert {name: list(values) for name, values in block.columns.items()} == {
        "origin": ["JFK", "LGA"],
        "distance": [100.0, 100.0],
        "hour": [1.0, 1.0],
    }
    assert block.outputs["1"].array().tolist() == [0.5, 0.5]
    assert (block.propensity, block.missing_before) == ([1.0, 1.0], 0)


def test_features_are_those_known_at_the_event_time_and_stale_ones_are_missing(
    world: World,
) -> None:
    writer = world.online("weather", ["visib", "wind"])
    writer.write(
        ["JFK", "JFK", "LGA"],
        np.array([9 * HOUR, 11 * HOUR, 2 * HOUR]),
        np.array([9 * HOUR + 5, 11 * HOUR, 2 * HOUR]),
        np.array([[1.0, 30.0], [2.0, 40.0], [3.0, 50.0]]),
    )
    model = world.model(passing_on("wind"), row={"wind": 0.5})
    world.publish(1, live(model), views=(WEATHER,))

    answer = world.engine().predict("default", "delay", rows("JFK", "LGA", "EWR"))

    assert answer.outputs[0] == 30.0
    assert set(answer.errors) == {1, 2}
    (block,) = world.blocks()
    np.testing.assert_array_equal(block.columns["wind"], [30.0, np.nan, np.nan])
    np.testing.assert_array_equal(block.columns["visib"], [1.0, np.nan, np.nan])
    assert block.views["weather"].times_us == [9 * HOUR, -1, -1]
    assert block.views["weather"].arrivals_us == [9 * HOUR + 5, -1, -1]


def test_a_value_exactly_as_old_as_the_ttl_counts(world: World) -> None:
    writer = world.online("weather", ["wind", "visib"])
    writer.write(["JFK"], np.array([7 * HOUR]), np.array([7 * HOUR]), np.array([[30.0, 1.0]]))
    model = world.model(passing_on("wind"), row={"wind": 0.5})
    world.publish(1, live(model), views=(WEATHER,))
    engine = world.engine()

    assert engine.predict("default", "delay", rows("JFK")).outputs == [30.0]
    assert engine.predict("default", "delay", rows("JFK", at=10 * HOUR + 1)).errors


def test_a_view_that_was_never_pushed_is_missing_and_a_broken_one_is_reported(
    world: World,
) -> None:
    world.publish(1, live(world.model(constant(0.5))), views=(WEATHER,))
    engine = world.engine()
    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]
    assert engine.status().problems == ()

    world.online("weather", ["wind"])

    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]
    assert "visib" in engine.status().problems[0]


def test_in_a_rollout_both_arms_score_every_row_and_each_key_keeps_its_arm(world: World) -> None:
    arms = (
        canary(world.model(constant(0.25), golden=0.25), 0.5),
        live(world.model(constant(0.5)), share=0.5),
    )
    world.publish(1, *arms, rollout=ROLLOUT)
    engine = world.engine()
    many = rows(*["JFK"] * 64)

    answer = engine.predict("default", "delay", many)
    again = engine.predict("default", "delay", many)

    assert set(answer.versions) == {"1", "2"}
    assert again.versions == answer.versions
    assert answer.outputs == [0.25 if v == "2" else 0.5 for v in answer.versions]
    block = world.blocks()[0]
    assert block.outputs["1"].array().tolist() == [0.5] * 64
    assert block.outputs["2"].array().tolist() == [0.25] * 64
    assert (block.rollout, block.propensity[0]) == (ROLLOUT, 0.5)


def test_without_a_rollout_each_row_is_scored_by_its_own_arm_only(world: World) -> None:
    world.publish(
        1,
        canary(world.model(constant(0.25), golden=0.25), 0.5),
        live(world.model(constant(0.5)), share=0.5),
    )

    answer = world.engine().predict("default", "delay", rows(*["JFK"] * 20))

    (block,) = world.blocks()
    for version in ("1", "2"):
        scored = ~np.isnan(block.outputs[version].array())
        assert scored.tolist() == [v == version for v in answer.versions]


@pytest.mark.parametrize("rollout", [ROLLOUT, None])
def test_rows_on_which_the_candidate_raises_are_answered_by_the_live_arm(
    world: World, rollout: Any
) -> None:
    world.publish(
        1,
        canary(world.model(failing_at("EWR", 0.25), golden=0.25), 1.0),
        live(world.model(constant(0.5)), share=0.0),
        rollout=rollout,
    )

    answer = world.engine().predict("default", "delay", rows("JFK", "EWR", "LGA", "EWR"))

    assert answer.outputs == [0.25, 0.5, 0.25, 0.5]
    assert answer.versions == ["2", "1", "2", "1"]
    assert answer.fallback == [False, True, False, True]
    assert answer.errors == {}
    (block,) = world.blocks()
    assert block.chosen == ["2"] * 4
    assert block.versions == answer.versions
    assert block.outputs["2"].failed == [1, 3]
    assert "out of" in (block.outputs["2"].error or "")
    assert block.outputs["1"].failed == []


def test_a_row_that_the_live_arm_fails_on_is_answered_by_a_candidate_that_scored(
    world: World,
) -> None:
    world.publish(
        1,
        canary(world.model(constant(0.25), golden=0.25), 0.0),
        live(world.model(failing_at("EWR"))),
        rollout=ROLLOUT,
    )

    answer = world.engine().predict("default", "delay", rows("JFK", "EWR"))

    assert answer.outputs == [0.5, 0.25]
    assert answer.fallback == [False, True]


def test_a_row_that_no_arm_can_score_is_an_error_and_its_neighbours_are_answered(
    world: World,
) -> None:
    world.publish(1, live(world.model(failing_at("EWR"))))

    answer = world.engine().predict("default", "delay", rows("JFK", "EWR"))

    assert answer.outputs[0] == 0.5
    assert math.isnan(answer.outputs[1])
    assert list(answer.errors) == [1]
    assert "version 1" in answer.errors[1]
    assert "/onnx" not in answer.errors[1]
    assert world.blocks()[0].outputs["1"].failed == [1]


def test_outputs_that_are_not_finite_or_ill_shaped_count_as_failed(world: World) -> None:
    nan = world.model(passing_on("distance"), golden=1.0)
    world.publish(1, canary(nan, 1.0), live(world.model(constant(0.5)), share=0.0), rollout=ROLLOUT)
    engine = world.engine()
    assert engine.predict("default", "delay", rows("JFK", distance=math.nan)).outputs == [0.5]
    wide = world.model(ill_shaped(), golden=0.0)
    world.publish(
        2, canary(wide, 1.0, "3"), live(world.model(constant(0.5)), share=0.0), rollout=ROLLOUT
    )
    engine.refresh()

    answer = engine.predict("default", "delay", rows("JFK", "LGA"))

    first, second = world.blocks()
    assert first.outputs["2"].error == "output nan is not finite"
    assert "shape (4,)" in (second.outputs["3"].error or "")
    # Alone, each row comes out well-shaped: halving saves both.
    assert answer.outputs == [0.0, 0.0]


def test_an_arm_over_its_time_is_counted_as_failed_and_the_live_arm_answers(
    tmp_path: Path,
) -> None:
    clock = SlowClock(datetime(2013, 4, 1, tzinfo=UTC))
    world = World(tmp_path, clock)
    slow = world.model(constant(0.25), golden=0.25)
    world.publish(
        1, canary(slow, 1.0), live(world.model(constant(0.5)), share=0.0), rollout=ROLLOUT
    )
    engine = world.engine()
    model = engine._shelf.served["default", "delay"].models["2"]
    fast_run = model.run

    def run(*given: Any) -> Any:
        clock.advance(timedelta(seconds=2))
        return fast_run(*given)

    model.run = run  # type: ignore[assignment, method-assign]

    answer = engine.predict("default", "delay", rows("JFK"))

    assert (answer.outputs, answer.fallback) == ([0.5], [True])
    late = world.blocks()[0].outputs["2"]
    assert (late.timed_out, late.failed, late.error) == (True, [0], "took 2.000 s, limit 1.0 s")


def test_a_late_answer_is_better_than_none(tmp_path: Path) -> None:
    clock = SlowClock(datetime(2013, 4, 1, tzinfo=UTC))
    world = World(tmp_path, clock)
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine()
    clock.step_s = 2.0

    answer = engine.predict("default", "delay", rows("JFK"))

    assert (answer.outputs, answer.errors) == ([0.5], {})
    assert world.blocks()[0].outputs["1"].timed_out


def test_a_plain_shadow_is_a_second_record_after_the_answer(world: World) -> None:
    shadow = Arm("9", world.model(constant(0.75), golden=0.75), "shadow", 0.0)
    world.publish(1, shadow, live(world.model(constant(0.5))))
    engine = world.engine()

    answer = engine.predict("default", "delay", rows("JFK", "LGA"))
    assert [block.kind for block in world.blocks()] == ["answer"]

    assert engine.score_shadows() == 1
    first, second = world.blocks()
    assert answer.outputs == [0.5, 0.5]
    assert list(first.outputs) == ["1"]
    assert (second.kind, second.prediction, second.keys) == ("shadow", answer.prediction, [])
    assert second.outputs["9"].array().tolist() == [0.75, 0.75]


def test_a_repeated_request_id_gets_its_answer_again_without_a_record(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine(remembered_requests=2)

    first = engine.predict("default", "delay", rows("JFK"), request_id="a")

    assert engine.predict("default", "delay", rows("JFK"), request_id="a") is first
    assert len(world.blocks()) == 1
    with pytest.raises(InvalidInput, match="own id"):
        engine.predict("default", "delay", rows("JFK", at=1), request_id="a")
    for other in "bc":
        engine.predict("default", "delay", rows("JFK"), request_id=other)
    assert engine.predict("default", "delay", rows("JFK"), request_id="a") != first


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("distance", None, "column 'distance' is missing"),
        ("distance", ["1.5"], r"'distance', row 0: found '1.5', expected a finite number"),
        ("distance", [math.inf], "found inf"),
        ("distance", [10**400], "'distance', row 0"),
        ("hour", [1.5], "'hour', row 0: found 1.5, expected a whole number"),
        ("origin", [3], "'origin', row 0: found 3, expected a string"),
    ],
)
def test_a_wrong_column_is_named_and_nothing_is_scored(
    world: World, column: str, value: Any, message: str
) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    columns = {**rows("JFK").columns, column: value}
    if value is None:
        del columns[column]

    with pytest.raises(SchemaMismatch, match=message):
        world.engine().predict("default", "delay", replace(rows("JFK"), columns=columns))
    assert world.blocks() == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Rows([], [], {}), "no row"),
        (Rows(["a", "b"], [1], {}), "2 keys and 1 event times"),
        (Rows([3], [1], {}), "the key 3"),  # type: ignore[list-item]
        (Rows(["a"], ["t"], {}), "event time 't'"),  # type: ignore[list-item]
        (replace(rows("JFK"), keys=["a", "b"], event_times_us=[1, 2]), "1 values for 2 rows"),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(world: World, bad: Rows, message: str) -> None:
    world.publish(1, live(world.model(constant(0.5))))

    with pytest.raises(InvalidInput, match=message):
        world.engine().predict("default", "delay", bad)


def test_missing_values_are_none_nan_or_the_empty_string(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    asked = Rows(["a"], [1], {"origin": [None], "distance": [None], "hour": [True]})

    world.engine().predict("default", "delay", asked)

    columns = world.blocks()[0].columns
    assert columns["origin"] == [""]
    assert math.isnan(columns["distance"][0])  # type: ignore[arg-type]


def test_an_unknown_endpoint_is_refused_with_the_known_ones(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))

    with pytest.raises(NotFound, match="known ones: delay"):
        world.engine().predict("default", "dealy", rows("JFK"))


def test_a_version_whose_goldens_differ_is_not_taken_and_the_old_one_keeps_serving(
    world: World,
) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine()
    world.publish(2, live(world.model(constant(0.9), golden=0.8), "2"))

    assert engine.refresh()

    answer = engine.predict("default", "delay", rows("JFK"))
    assert (answer.outputs, answer.versions) == ([0.5], ["1"])
    (status,) = engine.status().endpoints
    assert (status.routes, status.versions) == (1, ("1",))
    assert "golden row 0" in (status.problem or "")
    assert world.blocks()[0].routes == 1


def test_an_endpoint_that_never_loaded_says_why_and_others_are_served(world: World) -> None:
    broken = world.route(live(world.model(constant(0.9), golden=0.1)), endpoint="broken")
    fine = world.route(live(world.model(constant(0.5))))
    publish(world.home.routes, RouteTable(1, (broken, fine)))
    engine = world.engine()

    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]
    with pytest.raises(Unavailable, match="golden row"):
        engine.predict("default", "broken", rows("JFK"))


@pytest.mark.parametrize("name", ["model.onnx", "profile.json"])
def test_altered_bytes_are_not_loaded_and_a_repair_is_taken_up(world: World, name: str) -> None:
    clock = world.clock
    assert isinstance(clock, FrozenClock)
    manifest = world.model(constant(0.5))
    files = msgspec.json.decode(world.home.blob("default", manifest).read_bytes())["files"]
    blob = world.home.blob("default", files[name])
    whole = blob.read_bytes()
    blob.write_bytes(whole + b" ")
    world.publish(1, live(manifest))
    engine = world.engine()
    assert "found bytes of digest" in (engine.status().endpoints[0].problem or "")
    blob.write_bytes(whole)

    assert not engine.refresh()
    clock.advance(timedelta(seconds=6))
    assert engine.refresh()
    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]


def test_a_version_that_needs_a_column_nobody_gives_is_refused_by_name(world: World) -> None:
    world.publish(1, live(world.model(passing_on("humidity"), row={"humidity": 0.5})))

    assert "'humidity'" in (world.engine().status().endpoints[0].problem or "")


def test_at_most_so_many_models_are_loaded_and_unused_ones_go(world: World) -> None:
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(1, live(first))
    engine = world.engine(loaded_models=1)
    world.publish(2, canary(second, 0.5), live(first, share=0.5))
    engine.refresh()
    assert "at most 1" in (engine.status().endpoints[0].problem or "")
    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]
    world.publish(3, live(second, "2"))

    engine.refresh()

    assert engine.status().loaded_models == 1
    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.25]


def test_routes_that_vanish_or_break_leave_the_worker_serving(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine()
    world.home.routes.write_text("{")
    engine.refresh()
    assert "not readable" in engine.status().problems[0]
    world.home.routes.unlink()
    engine.refresh()

    assert "none published" in engine.status().problems[0]
    assert engine.predict("default", "delay", rows("JFK")).outputs == [0.5]


def test_rows_out_of_the_sample_are_counted_in_the_next_record(world: World) -> None:
    manifest = world.model(constant(0.5))
    world.publish(1, live(manifest), sample_share=0.0)
    engine = world.engine()
    for _ in range(3):
        engine.predict("default", "delay", rows("JFK", "LGA"))
    assert world.blocks() == []
    world.publish(2, live(manifest), sample_share=1.0)
    engine.refresh()

    engine.predict("default", "delay", rows("JFK"))
    engine.predict("default", "delay", rows("JFK"))

    assert [block.sampled_before for block in world.blocks()] == [6, 0]


def test_a_swap_under_load_fails_no_request_and_names_the_version_that_answered(
    world: World,
) -> None:
    versions = {str(v): world.model(constant(v / 100), golden=v / 100) for v in range(1, 6)}
    world.publish(1, live(versions["1"], "1"))
    engine = world.engine()
    done, wrong, asked = threading.Event(), list[object](), [0, 0, 0]

    def ask(thread: int) -> None:
        while not done.is_set():
            try:
                answer = engine.predict("default", "delay", rows("JFK", "LGA"))
            except Exception as error:
                wrong.append(error)
                return
            asked[thread] += 1
            named = [round(int(v) / 100, 4) for v in answer.versions]
            if len(set(answer.versions)) != 1 or [round(o, 4) for o in answer.outputs] != named:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2, 80):
        version = str(1 + number % 5)
        world.publish(number, live(versions[version], version))
        engine.refresh()
    done.set()
    for thread in threads:
        thread.join()
    engine.close()

    assert not wrong
    blocks = world.blocks()
    assert len(blocks) == sum(asked)
    assert len({block.prediction for block in blocks}) == len(blocks)
    assert len({block.versions[0] for block in blocks}) > 1


def test_the_memory_of_answers_is_bounded_by_rows_too(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine(remembered_rows=5)

    first = engine.predict("default", "delay", rows("JFK", "LGA"), request_id="a")
    second = engine.predict("default", "delay", rows("JFK", "LGA"), request_id="b")
    engine.predict("default", "delay", rows("JFK", "LGA"), request_id="c")

    assert engine.predict("default", "delay", rows("JFK", "LGA"), request_id="b") is second
    assert engine.predict("default", "delay", rows("JFK", "LGA"), request_id="a") is not first


def test_a_segment_ends_when_it_is_large(world: World) -> None:
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine(segment_bytes=500)

    answers = [engine.predict("default", "delay", rows("JFK")).prediction for _ in range(10)]

    assert len(list(world.home.segments.iterdir())) > 2
    assert [block.prediction for block in world.blocks()] == answers


def test_a_successor_remembers_failed_rows_and_mixed_versions(world: World) -> None:
    bad, fine = world.model(failing_at("EWR")), world.model(constant(0.25), golden=0.25)
    world.publish(1, canary(bad, 0.5), live(fine, share=0.5))
    asked = rows("EWR", "JFK", "LGA", "EWR", "BOS")
    first = world.engine().predict("default", "delay", asked, request_id="a")
    world.publish(2, live(bad))
    failed = world.engine().predict("default", "delay", asked, request_id="b")

    successor = world.engine()
    successor.recall()
    again = successor.predict("default", "delay", asked, request_id="a")
    failed_again = successor.predict("default", "delay", asked, request_id="b")

    assert again == first
    assert len(set(first.versions)) == 2
    assert any(first.fallback)
    assert repr(failed_again) == repr(failed)
    assert set(failed.errors) == {0, 3}
    assert len(world.blocks()) == 2
