"""Drift readings are a function of the rows of their window, wherever they were taken from."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from tests.monitoring.monitoring_bench import START, Bench, open_bench
from tests.monitoring.monitoring_log import EVENT_US, block, write

from mainspring.core.ids import Id
from mainspring.formats.segment import SegmentWriter
from mainspring.monitoring.readings import Reading
from mainspring.monitoring.recent import RecentRows
from mainspring.monitoring.spec import Drift
from mainspring.stats.profile import profile, reference_edges

DAY_US = 86_400_000_000


def readings(
    folder: Path, passes: Iterable[Iterable[int]], memory: RecentRows, *, others: int = 0
) -> list[Reading]:
    """Compact blocks pass by pass, close the day, and give what was noted of it."""
    values = [x / 7 for x in range(100)]
    with open_bench(folder) as opened:
        bench = Bench(replace(opened.monitoring, _recent=memory), opened.declared, opened.clock)
        bench.declared.reference = {"wind": profile(values, reference_edges(values))}
        bench.watch(Drift(every="1d"))
        for place, numbers in enumerate(passes):
            segment = Id(f"{place:032x}")
            writer = SegmentWriter(bench.monitoring.home.segments, worker="w", segment=segment)
            write(writer, [block(number, ["a", "b"]) for number in numbers])
            compacting = bench.reopened() if place < others else bench
            compacting.monitoring.compact()
        bench.monitoring.advance("delay", START + timedelta(days=2))
        return bench.monitoring.readings("delay")


def test_memory_and_delta_give_the_same_readings_in_whatever_order_rows_were_compacted(
    tmp_path: Path,
) -> None:
    from_memory = readings(tmp_path / "1", [range(60)], RecentRows())
    from_delta = readings(tmp_path / "2", [range(60)], RecentRows(at_most=0))
    backwards = readings(
        tmp_path / "3",
        [[n] for n in range(59, -1, -20)] + [[n for n in range(60) if n not in (59, 39, 19)][::-1]],
        RecentRows(),
    )

    assert from_memory == from_delta == backwards
    assert {one.metric for one in from_memory} == {
        "absent_share", "psi", "ks", "wasserstein", "mean_shift",
    }  # fmt: skip
    assert {one.rows for one in from_memory} == {120}


def test_rows_that_another_process_compacted_are_not_missed(tmp_path: Path) -> None:
    passes = [range(30), range(30, 60)]

    found = readings(tmp_path / "1", passes, RecentRows(), others=1)

    assert found == readings(tmp_path / "2", [range(60)], RecentRows())


def test_memory_is_bounded_and_given_back_once_its_window_is_read(tmp_path: Path) -> None:
    small, large = RecentRows(at_most=70), RecentRows()
    passes = [range(30), range(30, 60)]

    assert readings(tmp_path / "1", passes, small) == readings(tmp_path / "2", passes, large)
    assert large.window("delay", EVENT_US, EVENT_US + DAY_US) is None
