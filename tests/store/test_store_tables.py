import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from mainspring.core.errors import (
    Corrupt,
    InvalidInput,
    Misconfigured,
    NotFound,
    Refused,
    SchemaMismatch,
)
from mainspring.store.tables import DeltaTables

AT = datetime(2013, 1, 1, tzinfo=UTC)


def _rows(*values: int) -> pl.DataFrame:
    schema = pl.Schema({"x": pl.Int64(), "at": pl.Datetime("us", "UTC"), "origin": pl.String()})
    return pl.DataFrame([(value, AT, "JFK") for value in values], schema=schema, orient="row")


def _read(tables: DeltaTables, name: str, version: int | None = None) -> list[int]:
    frame = tables.read(name, version=version).collect()
    return sorted(frame["x"].to_list())


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path / "tables")


def test_a_token_lands_once_and_a_repeat_answers_its_version(
    tables: DeltaTables, tmp_path: Path
) -> None:
    versions = [tables.append("t", _rows(n), writer="w", number=n) for n in (1, 2, 5)]
    versions.append(tables.append("t", _rows(9), writer="other", number=1))

    for again in (tables, DeltaTables(tmp_path / "tables")):
        assert [again.append("t", _rows(99), writer="w", number=n) for n in (1, 2, 5)] == [0, 1, 2]
        assert again.append("t", _rows(99), writer="other", number=1) == 3
        assert (again.landed("t", "w"), again.landed("t", "nobody")) == (5, None)

    assert versions == [0, 1, 2, 3]
    assert _read(tables, "t") == [1, 2, 5, 9]


def test_a_number_that_was_passed_over_is_refused_and_not_lost_silently(
    tables: DeltaTables,
) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    tables.append("t", _rows(3), writer="w", number=3)

    with pytest.raises(Refused, match="never landed 2"):
        tables.append("t", _rows(2), writer="w", number=2)
    with pytest.raises(InvalidInput):
        tables.append("t", _rows(2), writer="w", number=-1)
    with pytest.raises(InvalidInput):
        tables.append("../t", _rows(2), writer="w", number=4)


def test_a_version_stays_readable_as_it_was(tables: DeltaTables) -> None:
    assert tables.version("t") is None
    with pytest.raises(NotFound, match="t does not exist"):
        tables.read("t")
    tables.append("t", _rows(1), writer="w", number=1)
    lazy = tables.read("t")
    tables.append("t", _rows(2), writer="w", number=2)

    assert lazy.collect()["x"].to_list() == [1]
    assert (_read(tables, "t", 0), _read(tables, "t", 1)) == ([1], [1, 2])
    assert tables.version("t") == 1
    with pytest.raises(NotFound, match="newest is 1"):
        tables.read("t", version=2)


def test_an_append_without_rows_lands_its_token(tables: DeltaTables) -> None:
    tables.append("t", _rows(), writer="w", number=1)

    assert tables.append("t", _rows(), writer="w", number=2) == 1
    assert tables.landed("t", "w") == 2
    assert tables.read("t").collect().schema == _rows().schema


def test_partitions_with_odd_names_are_written_synced_and_read(tables: DeltaTables) -> None:
    rows = _rows(1, 2).with_columns(origin=pl.Series(["a/b c%ü=", None]))

    tables.append("a:b@c.d", rows, writer="w", number=1, partition_by=["origin"])
    tables.append("a:b@c.d", rows, writer="w", number=2, partition_by=["origin"])

    read = tables.read("a:b@c.d").collect().sort("x")
    assert read["origin"].to_list() == ["a/b c%ü="] * 2 + [None] * 2


def test_hundreds_of_versions_keep_their_tokens_over_checkpoints(
    tables: DeltaTables, tmp_path: Path
) -> None:
    for number in range(120):
        assert tables.append("t", _rows(number), writer="w", number=number) == number

    fresh = DeltaTables(tmp_path / "tables")
    repeated = [fresh.append("t", _rows(999), writer="w", number=n) for n in (3, 49, 119)]
    assert repeated == [3, 49, 119]
    assert _read(fresh, "t", 60) == list(range(61))
    assert _read(fresh, "t") == list(range(120))
    log = tmp_path / "tables" / "t" / "_delta_log"
    assert len(list(log.glob("*.checkpoint.parquet"))) == 2
    assert len(list(log.glob("*.json"))) == 120


def test_writers_that_race_with_one_token_land_it_once(tmp_path: Path) -> None:
    DeltaTables(tmp_path).append("t", _rows(), writer="w", number=0)

    def write(worker: int) -> list[int]:
        own = DeltaTables(tmp_path)
        shared = [own.append("t", _rows(n), writer="w", number=n) for n in range(1, 6)]
        own.append("t", _rows(100 + worker), writer=f"own{worker}", number=1)
        return shared

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(write, range(3)))

    assert answers[0] == answers[1] == answers[2]
    assert _read(DeltaTables(tmp_path), "t") == [1, 2, 3, 4, 5, 100, 101, 102]


def test_another_writers_versions_are_seen(tables: DeltaTables, tmp_path: Path) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    DeltaTables(tmp_path / "tables").append("t", _rows(2), writer="w", number=2)

    assert tables.version("t") == 1
    assert tables.append("t", _rows(9), writer="w", number=2) == 1
    assert _read(tables, "t") == [1, 2]


def test_the_newest_numbers_follow_every_writer(tables: DeltaTables, tmp_path: Path) -> None:
    other = DeltaTables(tmp_path / "tables")
    tables.append("t", _rows(1), writer="w", number=1)
    assert (tables.landed("t", "w"), tables.landed("t", "v")) == (1, None)

    tables.append("t", _rows(2), writer="w", number=2)
    assert (tables.landed("t", "w"), other.landed("t", "w")) == (2, 2)

    other.append("t", _rows(3), writer="v", number=7)
    other.append("t", _rows(4), writer="w", number=3)
    assert (tables.landed("t", "w"), tables.landed("t", "v")) == (3, 7)


@pytest.mark.parametrize(
    "bad",
    [
        _rows(1).drop("x"),
        _rows(1).with_columns(more=1),
        _rows(1).with_columns(x=1.5),
        _rows(1).with_columns(x=pl.lit("one")),
        _rows(1).with_columns(at=datetime(2013, 1, 1)),  # noqa: DTZ001
        _rows(1).with_columns(at=pl.lit(1)),
    ],
)
def test_rows_that_do_not_fit_exactly_are_refused_and_leave_no_trace(
    tables: DeltaTables, tmp_path: Path, bad: pl.DataFrame
) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    before = sorted(path.name for path in (tmp_path / "tables").rglob("*"))

    with pytest.raises(SchemaMismatch, match=r"t"):
        tables.append("t", bad, writer="w", number=2)

    assert sorted(path.name for path in (tmp_path / "tables").rglob("*")) == before
    assert tables.append("t", _rows(2), writer="w", number=2) == 1


def test_types_that_delta_lacks_are_widened_and_order_does_not_matter(tables: DeltaTables) -> None:
    odd = pl.DataFrame(
        {
            "small": pl.Series([200], dtype=pl.UInt8),
            "count": pl.Series([2**32 - 1], dtype=pl.UInt32),
            "kind": pl.Series(["a"], dtype=pl.Categorical),
            "at": pl.Series([AT], dtype=pl.Datetime("ms", "America/New_York")),
        }
    )
    tables.append("t", odd, writer="w", number=1)
    tables.append("t", odd.select(reversed(odd.columns)), writer="w", number=2)
    missing = pl.DataFrame({"small": [1], "count": [2], "kind": [None], "at": [AT]})
    tables.append("t", missing, writer="w", number=3)

    read = tables.read("t").collect().sort("small", descending=True)
    assert read["count"].to_list() == [2**32 - 1, 2**32 - 1, 2]
    assert read["at"].to_list() == [AT] * 3
    with pytest.raises(SchemaMismatch, match="no type"):
        tables.append("new", pl.DataFrame({"x": [None]}), writer="w", number=1)
    naive = pl.DataFrame({"x": [datetime(2013, 1, 1)]})  # noqa: DTZ001
    with pytest.raises(SchemaMismatch, match="without a zone"):
        tables.append("new", naive, writer="w", number=1)


def test_a_cut_off_log_entry_is_named_and_not_written_over(
    tables: DeltaTables, tmp_path: Path
) -> None:
    for number in (1, 2):
        tables.append("t", _rows(number), writer="w", number=number)
    entry = tmp_path / "tables" / "t" / "_delta_log" / f"{1:020d}.json"
    entry.write_bytes(entry.read_bytes()[:40])

    with pytest.raises(Corrupt, match="table t"):
        DeltaTables(tmp_path / "tables").append("t", _rows(9), writer="w", number=2)
    assert len(entry.read_bytes()) == 40


def test_every_file_of_a_commit_and_its_folders_are_synced_before_it_is_answered(
    tables: DeltaTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("t", _rows(1), writer="w", number=1, partition_by=["origin"])
    before = set((tmp_path / "tables" / "t").rglob("*"))
    synced: set[Path] = set()
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    rows = _rows(1).with_columns(origin=pl.lit("EWR"))
    tables.append("t", rows, writer="w", number=2, partition_by=["origin"])

    table = tmp_path / "tables" / "t"
    new = set(table.rglob("*")) - before
    assert len(new) == 3
    assert new | {table, table / "_delta_log"} <= synced


def test_a_repeat_syncs_what_a_killed_process_left(
    tables: DeltaTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}")).suffix)
    )

    DeltaTables(tmp_path / "tables").append("t", _rows(9), writer="w", number=1)

    assert {".json", ".parquet", ""} <= set(synced)


def test_reading_and_writing_need_no_pyarrow(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
from pathlib import Path
import polars as pl
from mainspring.store.tables import DeltaTables
tables = DeltaTables(Path(sys.argv[1]))
tables.append("t", pl.DataFrame({"x": [1.5], "s": ["a"]}), writer="w", number=1)
print(tables.read("t").filter(pl.col("x") > 1).collect().rows())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert (done.stdout.strip(), done.returncode) == ("[(1.5, 'a')]", 0), done.stderr


def test_logs_are_never_cleaned_away(tables: DeltaTables, tmp_path: Path) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    log = tmp_path / "tables" / "t" / "_delta_log" / f"{0:020d}.json"
    metadata = next(json.loads(line) for line in log.read_text().splitlines() if "metaData" in line)

    assert metadata["metaData"]["configuration"]["delta.enableExpiredLogCleanup"] == "false"


def test_a_foreign_commit_without_token_does_not_disturb(
    tables: DeltaTables, tmp_path: Path
) -> None:
    tables.append("t", _rows(1), writer="w", number=1)
    write_deltalake(DeltaTable(tmp_path / "tables" / "t"), _rows(2), mode="append")

    assert tables.append("t", _rows(3), writer="w", number=2) == 2
    assert tables.append("t", _rows(3), writer="w", number=1) == 0
    assert _read(tables, "t") == [1, 2, 3]


@pytest.mark.parametrize(
    "folder", ["with space", "ünï-日本", "100% sure", "a#b?c*d", "a+b&c;d:e@f"]
)
def test_a_table_may_lie_below_a_folder_of_an_odd_name(tmp_path: Path, folder: str) -> None:
    rows = pl.DataFrame({"x": [1, 2], "part": ["a b", "é%20/#"]})
    tables = DeltaTables(tmp_path / folder)

    for name, by in (("plain", []), ("parted", ["part"])):
        tables.append(name, rows, writer="w", number=1, partition_by=by)
        tables.append(name, rows.head(1), writer="w", number=2, partition_by=by)

    again = DeltaTables(tmp_path / folder)
    for name in ("plain", "parted"):
        assert again.read(name).sort("x").collect()["x"].to_list() == [1, 1, 2]
        first = again.read(name, version=0).filter(pl.col("part") == "é%20/#")
        assert first.collect().rows() == [(2, "é%20/#")]


@pytest.mark.parametrize("folder", ["a%20b", "a[b]", "a\\b", "a=b"])
def test_a_folder_that_the_libraries_misread_is_refused_at_once(
    tmp_path: Path, folder: str
) -> None:
    with pytest.raises(Misconfigured, match="choose a home without it"):
        DeltaTables(tmp_path / folder)

    assert list(tmp_path.iterdir()) == []


def test_a_link_does_not_hide_the_name_of_such_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a%20b").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a%20b")

    with pytest.raises(Misconfigured, match="'%20'"):
        DeltaTables(tmp_path / "link")
