"""The request log: what was acknowledged is read back, whatever happened to the worker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import InvalidInput, NotFound
from mainspring.core.ids import Id
from mainspring.formats.segment import (
    ArmOutput,
    Block,
    SegmentWriter,
    ViewUse,
    read_blocks,
    segments,
)

SEGMENT = Id("0" * 32)


def block(number: int, rows: int = 2) -> Block:
    return Block(
        prediction=Id(f"{number:032x}"),
        request=None,
        at_us=1,
        project="default",
        endpoint="delay",
        routes=3,
        rollout=None,
        keys=[f"k{i}" for i in range(rows)],
        event_times_us=[5] * rows,
        float_names=["distance", "wind"],
        floats=np.arange(2.0 * rows).tobytes(),
        strings={"origin": ["JFK"] * rows},
        views={"weather": ViewUse([4] * rows, [-1] * rows)},
        chosen=["2"] * rows,
        arms=["live"] * rows,
        versions=["1"] * rows,
        propensity=[0.5] * rows,
        outputs={"1": ArmOutput(np.full(rows, 0.25).tobytes(), [], None, 7)},
        queue_us=1,
        features_us=2,
        compute_us=3,
        missing_before=0,
        sampled_before=0,
    )


def written(folder: Path, count: int) -> tuple[Path, list[int]]:
    writer = SegmentWriter(folder, worker="w", segment=SEGMENT)
    starts = [writer.append(block(i)) for i in range(count)]
    writer.close()
    return writer.path, [*starts, writer.path.stat().st_size]


def test_blocks_come_back_whole_and_by_column(tmp_path: Path) -> None:
    path, ends = written(tmp_path, 3)

    blocks, end, torn = read_blocks(path)

    assert blocks == [block(0), block(1), block(2)]
    assert (end, torn) == (ends[-1], False)
    columns = blocks[0].columns
    assert list(columns["distance"]) == [0.0, 1.0]
    assert list(columns["wind"]) == [2.0, 3.0]
    assert columns["origin"] == ["JFK", "JFK"]
    assert blocks[0].fallback == [True, True]
    assert [(s.worker, s.segment) for s in segments(tmp_path)] == [("w", SEGMENT)]


def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    path, ends = written(tmp_path, 3)

    blocks, end, _ = read_blocks(path, ends[1])

    assert [b.prediction for b in blocks] == [block(1).prediction, block(2).prediction]
    assert end == ends[-1]


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(0, 400))
def test_a_segment_cut_anywhere_gives_its_whole_blocks_and_says_it_is_torn(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path, ends = written(tmp_path_factory.mktemp("cut"), 3)
    size = max(0, ends[-1] - cut)
    os.truncate(path, size)

    blocks, end, torn = read_blocks(path)

    assert end == max(e for e in ends if e <= size)
    assert len(blocks) == ends.index(end)
    assert torn is (end < size)


@settings(deadline=None, max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_hides_its_block_and_never_yields_another(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    path, ends = written(tmp_path_factory.mktemp("flip"), 3)
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at] ^= 1 << bit
    path.write_bytes(content)

    blocks, _, torn = read_blocks(path)

    hit = max(i for i, start in enumerate(ends[:-1]) if start <= at)
    assert blocks == [block(i) for i in range(hit)]
    assert torn


def test_a_start_behind_the_end_and_a_missing_segment_are_refused(tmp_path: Path) -> None:
    path, ends = written(tmp_path, 1)

    with pytest.raises(InvalidInput, match=f"ends at {ends[-1]}"):
        read_blocks(path, ends[-1] + 1)
    with pytest.raises(NotFound, match="no such file"):
        read_blocks(tmp_path / "none")


WORKER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.formats.test_formats_segment import SEGMENT, SegmentWriter, block
writer = SegmentWriter(Path(sys.argv[1]), worker="w", segment=SEGMENT)
number = 0
while True:
    writer.append(block(number, rows=1 + number % 50))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


@pytest.mark.parametrize("after", [1, 40, 333])
def test_every_acknowledged_block_survives_kill_9(tmp_path: Path, after: int) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path), str(Path(__file__).parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        acknowledged = [int(worker.stdout.readline()) for _ in range(after)]
        worker.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in worker.stdout.read().split("\n")[:-1]]

    blocks, _, _ = read_blocks(segments(tmp_path)[0].path)

    assert len(blocks) in (len(acknowledged), len(acknowledged) + 1)
    assert blocks == [block(i, rows=1 + i % 50) for i in range(len(blocks))]


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.formats.test_formats_segment import SEGMENT, SegmentWriter, block
writer = SegmentWriter(Path(sys.argv[1]), worker="w", segment=SEGMENT)
size = 0
for number in range(2):
    size = writer.append(block(number))
resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 2 + size, resource.RLIM_INFINITY))
refused = 0
for number in range(2, 6):
    try:
        writer.append(block(number))
    except OSError:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.append(block(9))
print(refused)
"""


def test_a_disk_that_fills_within_a_block_hides_no_later_block(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parents[2])]
    refused = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    blocks, _, torn = read_blocks(segments(tmp_path)[0].path)

    assert refused >= 3
    assert not torn
    assert [b.prediction for b in blocks[:2]] == [block(0).prediction, block(1).prediction]
    assert blocks[-1] == block(9)
    assert len(blocks) == 2 + (4 - refused) + 1
