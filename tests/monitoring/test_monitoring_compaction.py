"""Every whole record moves exactly once, whatever dies in between."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from tests.monitoring.monitoring_bench import START, Bench, open_bench
from tests.monitoring.monitoring_log import EVENT_US, block, write

from mainspring.core.errors import Corrupt, NotFound
from mainspring.core.home import Home
from mainspring.core.ids import Id
from mainspring.formats.segment import SegmentWriter
from mainspring.monitoring.labels import Label
from mainspring.monitoring.tables import PREDICTION, SEGMENT_RANGE
from mainspring.monitoring.times import instant
from mainspring.store.database import Database
from mainspring.store.tables import DeltaTables


def segment(bench: Bench, number: int) -> SegmentWriter:
    folder = bench.monitoring.home.segments
    return SegmentWriter(folder, worker=f"w{number}", segment=Id(f"{number:032x}"))


def rows_of(bench: Bench) -> list[tuple[str, int]]:
    with bench.monitoring.database.read() as connection:
        query = select(PREDICTION.c.prediction, PREDICTION.c.row).order_by(PREDICTION.c.number)
        return [(row[0], row[1]) for row in connection.execute(query)]


def delta_rows(bench: Bench, endpoint: str = "delay") -> list[tuple[str, int]]:
    frame = bench.monitoring.served(endpoint)
    return [] if frame is None else frame.select("prediction", "row").collect().rows()


def test_a_live_segment_is_read_again_and_again_and_each_record_moves_once(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a", "b"]), block(2, ["c"])])
    bench.monitoring.compact()
    write(writer, [block(3, ["d"])])
    report = bench.monitoring.compact()

    assert (report.ranges, report.rows) == (1, 1)
    assert bench.monitoring.compact().ranges == 0
    expected = [(f"{n:032x}", i) for n, i in [(1, 0), (1, 1), (2, 0), (3, 0)]]
    assert rows_of(bench) == expected
    assert sorted(delta_rows(bench)) == expected


def test_a_torn_record_is_left_until_it_is_whole(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a"]), block(2, ["b"])])
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole[:-5])

    assert bench.monitoring.compact().rows == 1
    writer.path.write_bytes(whole)
    assert bench.monitoring.compact().rows == 1
    assert len(rows_of(bench)) == 2


def test_what_was_used_comes_back_for_one_prediction(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(5, ["a", "b"], rollout=True, candidate_failed=[1])])
    bench.monitoring.compact()

    first = bench.monitoring.prediction(f"{5:032x}")
    second = bench.monitoring.prediction(f"{5:032x}:1")

    assert (first.version, first.role, first.score, first.fallback) == ("2", "canary", 0.75, False)
    assert (second.version, second.role, second.score, second.fallback) == ("1", "live", 0.25, True)
    assert second.outputs == {"1": 0.25, "2": None}
    assert first.features["wind"] == 5.0
    assert first.features["origin"] == "JFK"
    assert first.feature_times == {"weather": instant(EVENT_US)}
    assert first.feature_arrivals == {"weather": None}
    assert first.routes == 7


def test_a_prediction_nobody_made_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound, match="never answered here"):
        bench.monitoring.prediction("0" * 32)


def test_both_arms_are_told_apart_whoever_answered(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(
        writer,
        [
            block(1, ["a", "b"], rollout=True),
            block(2, ["c", "d"], rollout=True, candidate_failed=[0, 1]),
        ],
    )
    bench.monitoring.compact()

    frame = bench.monitoring.outcomes("delay", START, START + timedelta(days=1))

    assert frame["live_version"].to_list() == ["1"] * 4
    assert frame["candidate_version"].to_list() == ["2"] * 4
    assert frame["live_score"].to_list() == [0.25] * 4
    assert frame["candidate_score"].to_list() == [0.75, 0.75, None, None]


def test_rows_of_one_arm_and_of_two_share_a_table(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a"])])
    bench.monitoring.compact()
    write(writer, [block(2, ["b", "c"], rollout=True, candidate_failed=[1]), block(3, ["d"])])
    bench.monitoring.compact()

    served = bench.monitoring.served("delay")
    assert served is not None
    outputs = served.sort("prediction", "row").collect()["outputs"].to_list()
    found = [[(arm["version"], arm["value"], arm["failed"]) for arm in row] for row in outputs]
    live = ("1", 0.25, False)
    assert found == [[live], [live, ("2", 0.75, False)], [live, ("2", None, True)], [live]]


def test_endpoints_and_signatures_that_differ_have_tables_of_their_own(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(
        writer,
        [block(1, ["a"]), block(2, ["b"], feature="visib"), block(3, ["c"], endpoint="price")],
    )
    bench.monitoring.compact()

    served = bench.monitoring.served("delay")
    assert served is not None
    frame = served.sort("prediction").collect()
    assert frame["f_wind"].to_list() == [1.0, None]
    assert frame["f_visib"].to_list() == [None, 2.0]
    assert len(delta_rows(bench, "price")) == 1


def test_another_projects_records_are_left_to_it(bench: Bench, tmp_path: Path) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a"], missing=2), block(2, ["b"], project="other", missing=3)])
    tables = DeltaTables(Home(tmp_path).tables("other"))
    other = replace(bench.monitoring, project="other", tables=tables)
    bench.monitoring.compact()
    other.compact()

    assert bench.monitoring.counts("delay").left_out == 2
    assert other.counts("delay").left_out == 3
    assert [bench.monitoring.counts("delay").predictions, other.counts("delay").predictions] == [
        1,
        1,
    ]


def test_shadow_records_answer_nobody_and_are_kept(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a", "b"]), block(1, [], kind="shadow")])
    bench.monitoring.compact()

    names = [path.name for path in bench.monitoring.home.tables("default").iterdir()]
    shadow = next(name for name in names if name.startswith("shadows."))
    kept = bench.monitoring.tables.read(shadow).sort("row").collect()
    assert kept.select("row", "version", "value").rows() == [(0, "3", 0.5), (1, "3", 0.5)]
    assert len(rows_of(bench)) == 2


def test_a_request_answered_by_two_workers_counts_once_and_joins_labels_of_either(
    bench: Bench,
) -> None:
    write(segment(bench, 1), [block(1, ["a"], request="r1")])
    again = block(2, ["a"], request="r1")
    again.event_times_us[:] = block(1, ["a"]).event_times_us
    write(segment(bench, 2), [again])
    label = Label(arrival=START + timedelta(hours=1), prediction=f"{2:032x}", value=1.0)
    bench.monitoring.label("delay", [label], token="t:1")

    bench.monitoring.advance("delay", START + timedelta(days=1))

    counts = bench.monitoring.counts("delay")
    assert (counts.predictions, counts.repeats, counts.labelled, counts.early) == (1, 1, 1, 0)
    assert bench.monitoring.prediction(f"{1:032x}").value == 1.0
    assert bench.monitoring.prediction(f"{2:032x}").value == 1.0
    assert bench.monitoring.prediction(f"{2:032x}").repeat


def test_an_id_reused_for_another_request_loses_nothing(bench: Bench) -> None:
    write(segment(bench, 1), [block(1, ["a"], request="r1"), block(2, ["b"], request="r1")])

    assert bench.monitoring.compact().repeats == 0


class Died(Exception):
    """Stands for the end of the process: nothing after it runs."""


@dataclass
class Fuse:
    """Burns through at the n-th step."""

    left: int

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Died


class DyingTables(DeltaTables):
    """Dies just before or just after an append."""

    fuse: Fuse

    def append(self, *args: Any, **kwargs: Any) -> int:
        self.fuse.step()
        version = super().append(*args, **kwargs)
        self.fuse.step()
        return version


@dataclass
class DyingDatabase:
    """Dies just before or just after a write is durable, or inside it."""

    inner: Database
    fuse: Fuse

    def write(self, work: Callable[[Connection], Any]) -> Any:
        def dying(connection: Connection) -> Any:
            result = work(connection)
            self.fuse.step()
            return result

        self.fuse.step()
        result = self.inner.write(dying)
        self.fuse.step()
        return result

    def read(self) -> Any:
        return self.inner.read()


@pytest.mark.parametrize("at", range(1, 19))
def test_death_at_any_step_leaves_every_record_exactly_once(bench: Bench, at: int) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a", "b"], missing=4), block(2, ["c"], feature="visib")])
    write(segment(bench, 2), [block(3, ["d"], request="r")])
    fuse = Fuse(at)
    tables = DyingTables(bench.monitoring.home.tables("default"))
    tables.fuse = fuse
    dying: Any = DyingDatabase(bench.monitoring.database, fuse)
    with pytest.raises(Died):
        replace(bench.monitoring, tables=tables, database=dying).compact()
    # The worker went on while nobody compacted.
    write(writer, [block(4, ["e"])])

    bench.reopened().monitoring.compact()

    expected = [(f"{n:032x}", i) for n, i in [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]]
    assert sorted(rows_of(bench)) == expected
    assert sorted(delta_rows(bench)) == expected
    assert bench.monitoring.counts("delay").left_out == 4


def test_planned_bytes_that_are_gone_are_named(bench: Bench) -> None:
    writer = segment(bench, 1)
    write(writer, [block(1, ["a"])])
    tables = DyingTables(bench.monitoring.home.tables("default"))
    tables.fuse = Fuse(1)
    with pytest.raises(Died):
        replace(bench.monitoring, tables=tables).compact()
    writer.path.write_bytes(writer.path.read_bytes()[:-3])

    with pytest.raises(Corrupt, match="restore the file"):
        bench.monitoring.compact()


_CHILD = """
import sys
from pathlib import Path
from tests.monitoring.monitoring_bench import open_bench
from tests.monitoring.monitoring_log import block, write
from mainspring.core.ids import Id
from mainspring.formats.segment import SegmentWriter

life = int(sys.argv[2])
with open_bench(Path(sys.argv[1])) as bench:
    writer = SegmentWriter(bench.monitoring.home.segments, worker="w", segment=Id(f"{life:032x}"))
    for number in range(life * 1000, life * 1000 + 1000):
        write(writer, [block(number, ["a", "b"])])
        print(number, flush=True)
        bench.monitoring.compact()
"""


@pytest.mark.slow
def test_killed_processes_leave_every_answered_record_exactly_once(tmp_path: Path) -> None:
    answered: list[int] = []
    for life in range(1, 6):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path), str(life)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert child.stdout is not None
        answered += [int(child.stdout.readline()) for _ in range(1 + life)]
        time.sleep(0.007 * life)
        child.send_signal(signal.SIGKILL)
        answered += [int(line) for line in child.stdout.read().split("\n")[:-1]]
        child.wait()
        child.stdout.close()

    with open_bench(tmp_path) as bench:
        bench.monitoring.compact()
        found, kept = rows_of(bench), delta_rows(bench)
        with bench.monitoring.database.read() as connection:
            ranges = connection.execute(select(SEGMENT_RANGE)).all()

    assert len(answered) > 10
    assert len(found) == len(set(found))
    assert {(f"{n:032x}", i) for n in answered for i in (0, 1)} <= set(found)
    assert sorted(kept) == sorted(found)
    assert {row.state for row in ranges} == {"done"}
