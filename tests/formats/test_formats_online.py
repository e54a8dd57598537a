"""The online table gives what a search over every push gives, across kills and rewrites."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mainspring.formats.online as online
from mainspring.core.errors import Corrupt, InvalidInput, NotFound, SchemaMismatch
from mainspring.formats.online import RETENTION_US, OnlineReader, OnlineWriter

HOUR = 3_600_000_000
Row = tuple[str, int, int, float]


def push(writer: OnlineWriter, rows: list[Row], **more: object) -> None:
    writer.write(
        [row[0] for row in rows],
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.int64),
        np.array([[row[3], -row[3]] for row in rows], np.float64).reshape(len(rows), 2),
        durable=False,
        **more,  # type: ignore[arg-type]
    )


def brute_force(rows: list[Row], entity: str, at: int) -> tuple[float, int, int]:
    seen = [
        (time, arrival, number, value)
        for number, (who, time, arrival, value) in enumerate(rows)
        if who == entity and time <= at and arrival <= at
    ]
    if not seen:
        return float("nan"), -1, -1
    time, arrival, _, value = max(seen)
    return value, time, arrival


rows_of_a_push = st.lists(
    st.tuples(
        st.sampled_from(["JFK", "LGA", "", "é/.."]),
        st.integers(0, 60).map(lambda h: h * HOUR),
        st.integers(0, 3).map(lambda h: h * HOUR),
        st.floats(-1e6, 1e6),
    ).map(lambda r: (r[0], r[1], r[1] + r[2], r[3])),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(
    pushes=st.lists(st.tuples(rows_of_a_push, st.sampled_from(["", "rewrite", "reopen"]))),
    asked=st.lists(
        st.tuples(st.sampled_from(["JFK", "LGA", "", "é/..", "no"]), st.integers(0, 70)),
        min_size=1,
    ),
)
def test_lookups_equal_a_search_over_all_pushes_within_the_retention(
    tmp_path_factory: pytest.TempPathFactory,
    pushes: list[tuple[list[Row], str]],
    asked: list[tuple[str, int]],
) -> None:
    folder = tmp_path_factory.mktemp("view")
    writer, reader = OnlineWriter(folder, ["a", "b"]), OnlineReader(folder)
    rows: list[Row] = []

    for new, then in pushes:
        push(writer, new)
        rows += new
        if then == "rewrite":
            writer.rewrite()
        elif then == "reopen":
            writer.close()
            writer = OnlineWriter(folder, ["a", "b"])
        newest = max((row[1] for row in rows), default=0)
        questions = [(e, h * HOUR) for e, h in asked if h * HOUR >= newest - RETENTION_US]
        values, times, arrivals = reader.lookup(
            [q[0] for q in questions], [q[1] for q in questions]
        )
        expected = [brute_force(rows, entity, at) for entity, at in questions]
        np.testing.assert_array_equal(values[:, 0], [e[0] for e in expected])
        np.testing.assert_array_equal(values[:, 1], [-e[0] for e in expected])
        assert list(times) == [e[1] for e in expected]
        assert list(arrivals) == [e[2] for e in expected]
    writer.close()


def test_an_old_value_stays_while_it_is_the_newest_of_its_entity(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0), ("JFK", HOUR, HOUR, 2.0), ("LGA", 100 * HOUR, 0, 3.0)])

    writer.rewrite()

    assert len(writer._snapshot.rows().entities) == 2
    values, times, _ = OnlineReader(tmp_path).lookup(["JFK"], [100 * HOUR])
    assert (values[0, 0], times[0]) == (2.0, HOUR)


def test_a_rewrite_keeps_ties_in_order_of_arrival_and_what_a_late_one_hides(tmp_path: Path) -> None:
    writer, reader = OnlineWriter(tmp_path, ["a", "b"]), OnlineReader(tmp_path)
    push(writer, [("JFK", 49 * HOUR, 51 * HOUR, 2.0), ("JFK", 49 * HOUR, 49 * HOUR, 1.0)])
    push(writer, [("LGA", 0, 0, 3.0), ("LGA", HOUR, 53 * HOUR, 4.0), ("EWR", 50 * HOUR, 0, 5.0)])

    writer.rewrite()

    instants = [50 * HOUR, 52 * HOUR, 50 * HOUR, 53 * HOUR]
    values, _, _ = reader.lookup(["JFK", "JFK", "LGA", "LGA"], instants)
    assert values[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_token_and_state_hold_with_their_push_over_rewrite_and_restart(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0)], token="t1", state=b"one")
    writer.rewrite()
    writer.write_state(b"two", token="t2")
    writer.close()

    again = OnlineWriter(tmp_path, ["a", "b"])

    assert (again.token, again.state) == ("t2", b"two")
    assert OnlineReader(tmp_path).lookup(["JFK"], [0])[0][0, 0] == 1.0


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_torn_push_is_ignored_by_readers_and_cut_off_by_the_next_writer(
    tmp_path: Path, cut: int
) -> None:
    writer, reader = OnlineWriter(tmp_path, ["a", "b"]), OnlineReader(tmp_path)
    push(writer, [("JFK", 0, 0, 1.0)], token="t1")
    push(writer, [("JFK", HOUR, HOUR, 2.0)], token="t2")
    writer.close()
    delta = tmp_path / "1.delta"
    os.truncate(delta, delta.stat().st_size - cut)

    assert reader.lookup(["JFK"], [HOUR])[0][0, 0] == 1.0
    again = OnlineWriter(tmp_path, ["a", "b"])
    assert again.token == "t1"
    push(again, [("JFK", HOUR, HOUR, 3.0)], token="t2")
    assert reader.lookup(["JFK"], [HOUR])[0][0, 0] == 3.0


def test_a_push_altered_in_the_middle_is_reported_not_cut_off(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0)])
    push(writer, [("JFK", HOUR, HOUR, 2.0)])
    writer.close()
    delta = tmp_path / "1.delta"
    content = bytearray(delta.read_bytes())
    content[12] ^= 1
    delta.write_bytes(content)

    with pytest.raises(Corrupt, match="altered"):
        OnlineWriter(tmp_path, ["a", "b"])
    assert delta.read_bytes() == content


def test_an_altered_snapshot_is_not_served(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0)])
    writer.rewrite()
    writer.close()
    snapshot = tmp_path / "2.snapshot"
    content = bytearray(snapshot.read_bytes())
    content[-3] ^= 1
    snapshot.write_bytes(content)

    with pytest.raises(Corrupt, match="remove the folder"):
        OnlineReader(tmp_path).lookup(["JFK"], [0])


def test_a_growing_delta_is_rewritten_and_the_old_generation_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "_SMALLEST_DELTA_BYTES", 500)
    writer = OnlineWriter(tmp_path, ["a", "b"])

    for hour in range(300):
        push(writer, [("JFK", hour * HOUR, hour * HOUR, float(hour))])

    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 3
    assert names[0] != "1.delta"
    assert len(writer._snapshot.rows().entities) < 100


def test_a_reader_never_mixes_generations_while_the_writer_switches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "_SMALLEST_DELTA_BYTES", 300)
    writer, reader = OnlineWriter(tmp_path, ["a", "b"]), OnlineReader(tmp_path)
    both = ["JFK", "LGA"]
    push(writer, [(entity, 0, 0, 0.0) for entity in both])
    done, wrong = threading.Event(), list[object]()

    def read() -> None:
        last = 0.0
        while not done.is_set():
            values = reader.lookup(both, [HOUR * 9999] * 2)[0][:, 0]
            if values[0] != values[1] or values[0] < last:
                wrong.append((last, values))
            last = values[0]

    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in readers:
        thread.start()
    for tick in range(1, 200):
        push(writer, [(entity, tick * HOUR, tick * HOUR, float(tick)) for entity in both])
    done.set()
    for thread in readers:
        thread.join()

    assert not wrong
    assert reader.lookup(both, [HOUR * 9999] * 2)[0][:, 0].tolist() == [199.0, 199.0]


def test_a_table_with_other_features_begins_anew(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0)], token="t1")
    writer.close()

    again = OnlineWriter(tmp_path, ["a"])

    assert again.token is None
    assert OnlineReader(tmp_path).lookup(["JFK"], [0])[1].tolist() == [-1]


def test_a_reader_takes_the_features_it_names_in_its_order(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])
    push(writer, [("JFK", 0, 0, 1.0)])

    assert OnlineReader(tmp_path, ["b"]).lookup(["JFK"], [0])[0].tolist() == [[-1.0]]
    with pytest.raises(SchemaMismatch, match="expected also c"):
        OnlineReader(tmp_path, ["c"]).lookup(["JFK"], [0])


def test_a_table_that_is_not_there_yet_is_named_and_then_found(tmp_path: Path) -> None:
    reader = OnlineReader(tmp_path / "weather")

    with pytest.raises(NotFound, match="'weather'"):
        reader.lookup(["JFK"], [0])
    push(OnlineWriter(tmp_path / "weather", ["a", "b"]), [("JFK", 0, 0, 1.0)])
    assert reader.features == ("a", "b")
    assert reader.lookup(["JFK"], [0])[0][0, 0] == 1.0


def test_a_push_of_uneven_lengths_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    writer = OnlineWriter(tmp_path, ["a", "b"])

    with pytest.raises(InvalidInput, match="1 entities, 2 times"):
        writer.write(["JFK"], np.zeros(2, np.int64), np.zeros(1, np.int64), np.zeros((1, 2)))
    assert (tmp_path / "1.delta").stat().st_size == 0
