"""Row checks: each kind, the order of reasons, and uniqueness."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import InvalidDeclaration, SchemaMismatch
from mainspring.data.checks import split
from mainspring.data.keys import KnownValues
from mainspring.data.schema import conform
from mainspring.data.spec import (
    Check,
    Dataset,
    between,
    not_null,
    one_of,
    row_count,
    unique,
)

START = datetime(2013, 1, 1, tzinfo=UTC)


def dataset(*checks: Check) -> Dataset:
    return Dataset("flights", key="id", time="at", arrival="known", checks=checks)


def frame(ids: list[str | None], **columns: list[object]) -> pl.DataFrame:
    times = [START + timedelta(minutes=n) for n in range(len(ids))]
    given = {"id": ids, "at": times, "known": times, **columns}
    return pl.DataFrame(given, schema_overrides={"id": pl.String})


def reasons(spec: Dataset, rows: pl.DataFrame) -> dict[object, str]:
    known = {c.column: () for c in spec.row_checks}
    _, rejected = split(spec, conform(spec, rows, None), known)
    return dict(rejected.select("id", "reason").iter_rows())


def test_each_check_names_the_rows_that_break_it() -> None:
    spec = dataset(not_null("a"), between("a", 0, 10), one_of("c", ["x", "y"]), unique("id"))
    rows = frame(
        ["ok", "null", "nan", "low", "high", "word", "ok", "edge", "silent"],
        a=[1.0, None, float("nan"), -0.1, float("inf"), 3.0, 2.0, 10.0, 0.0],
        c=["x", "x", "x", "x", "x", "z", "y", "y", None],
    )

    found = reasons(spec, rows)

    assert found == {
        "null": "not_null(a)",
        "nan": "not_null(a)",
        "low": "between(a)",
        "high": "between(a)",
        "word": "one_of(c)",
        "ok": "unique(id)",
    }


def test_a_nan_breaks_a_range_even_with_one_open_bound() -> None:
    rows = frame(["nan", "null"], a=[float("nan"), None])

    assert reasons(dataset(between("a", 0, None)), rows) == {"nan": "between(a)"}


def test_key_time_and_arrival_are_asked_without_a_declaration() -> None:
    times = [START, None, START, START]
    arrivals = [START, START, None, START]
    rows = frame([None, "t", "k", "fine"]).with_columns(
        at=pl.Series(times, dtype=pl.Datetime("us", "UTC")),
        known=pl.Series(arrivals, dtype=pl.Datetime("us", "UTC")),
    )

    found = reasons(dataset(), rows)

    assert found == {None: "not_null(id)", "t": "not_null(at)", "k": "not_null(known)"}


def test_a_row_with_several_faults_carries_the_first_declared() -> None:
    rows = frame(["two"], a=[-1], b=[-1])

    assert reasons(dataset(between("b", 0, 1), between("a", 0, 1)), rows) == {"two": "between(b)"}


def test_of_equal_values_the_first_to_arrive_stays_and_a_broken_row_takes_no_place() -> None:
    rows = frame(["same", "same", "same"], a=[1, 2, -1]).with_columns(
        known=pl.Series([START + timedelta(hours=2), START + timedelta(hours=1), START])
    )
    spec = dataset(unique("id"), between("a", 0, 9))

    accepted, rejected = split(spec, conform(spec, rows, None), {"id": ()})

    assert accepted["a"].to_list() == [2]
    assert rejected["reason"].to_list() == ["unique(id)", "between(a)"]


def test_a_check_that_cannot_apply_to_its_column_says_so() -> None:
    rows = frame(["a"])

    with pytest.raises(SchemaMismatch, match=r"between\(id\).*expected a number"):
        reasons(dataset(between("id", 0, 1)), rows)
    with pytest.raises(SchemaMismatch, match=r"one_of\(id\)"):
        reasons(dataset(one_of("id", [1, 2])), rows)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8))
def test_known_values_answer_as_a_set_does(batches: list[list[int]]) -> None:
    known, model = KnownValues(None), set[str]()
    for batch in batches:
        asked = pl.Series([f"k{n}" for n in batch], dtype=pl.String)

        assert known.taken(asked).to_list() == [value in model for value in asked]

        known = known.plus(asked)
        model |= set(asked)


def test_known_values_hold_over_more_batches_than_are_kept_apart() -> None:
    known = KnownValues(pl.Series(["first"]))
    for batch in range(150):
        known = known.plus(pl.Series([f"{batch}a", None, f"{batch}b"]))

    asked = pl.Series(["first", "0a", "75b", "149a", "149c", None, "150a"])

    assert known.taken(asked).to_list() == [True, True, True, True, False, False, False]


def _passes(row: dict[str, Any]) -> bool:
    a, n, c = row["a"], row["n"], row["c"]
    return (
        (a is None or 0 <= a <= 10)
        and n is not None
        and -3 <= n <= 9_007_199_254_740_993
        and c in (None, "x", "y")
        and row["id"] not in ("taken", None)
    )


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "id": st.uuids().map(str) | st.sampled_from(["taken", None]),
                "a": st.none() | st.sampled_from([0.0, 5.0, 10.0, 10.1, float("nan")]),
                "n": st.none() | st.sampled_from([-4, -3, 0, 2**53, 2**53 + 1, 2**53 + 2]),
                "c": st.sampled_from([None, "x", "y", "z"]),
            }
        ),
        max_size=5,
        unique_by=lambda row: row["id"] or id(row),
    ),
    st.booleans(),
)
def test_rows_are_judged_alike_whatever_stands_beside_them(
    rows: list[dict[str, Any]], large: bool
) -> None:
    spec = dataset(
        between("a", 0, 10),
        not_null("n"),
        between("n", -3, 9_007_199_254_740_993),
        one_of("c", ["x", "y"]),
        unique("id"),
    )
    filler = [{"id": f"f{n}", "a": 1.0, "n": 1, "c": "x"} for n in range(2000 if large else 0)]
    schema = {"id": pl.String, "a": pl.Float64, "n": pl.Int64, "c": pl.String}
    values = pl.DataFrame([*rows, *filler], schema=schema)
    times = pl.lit(START).cast(pl.Datetime("us", "UTC"))
    known = {"id": (KnownValues(pl.Series(["taken"])),)}

    accepted, rejected = split(spec, values.with_columns(at=times, known=times), known)

    assert accepted.drop("at", "known").to_dicts()[: len(rows)] == _like(
        [row for row in [*rows, *filler] if _passes(row)][: len(rows)]
    )
    assert rejected.height == sum(not _passes(row) for row in rows)
    assert rejected.columns == [*accepted.columns, "reason"]


def _like(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("id", "a", "n", "c")} for row in rows]


def test_a_declaration_survives_json() -> None:
    checks = (not_null("a"), between("a", None, 3), one_of("c", ["x", 1]), unique("id"))
    spec = dataset(*checks, row_count(low=0.1))

    assert msgspec.convert(msgspec.to_builtins(spec), Dataset) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: between("a", 2, 1),
        lambda: between("a", None, None),
        lambda: one_of("a", []),
        lambda: row_count(low=2, high=1),
        lambda: Dataset("d", key="reason", time="t", arrival="t"),
        lambda: Dataset("d", key="t", time="t", arrival="a"),
    ],
)
def test_a_declaration_that_cannot_hold_is_refused(wrong: object) -> None:
    assert callable(wrong)
    with pytest.raises(InvalidDeclaration):
        wrong()
