"""Types that later commits must keep, and the digest of rows."""

import hashlib
import struct
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import SchemaMismatch
from mainspring.data.digest import rows_digest
from mainspring.data.schema import conform
from mainspring.data.spec import Dataset

SPEC = Dataset("flights", key="id", time="at", arrival="known")
START = datetime(2013, 1, 1, tzinfo=UTC)


def frame(**columns: object) -> pl.DataFrame:
    base = {"id": ["a", "b"], "at": [START, START], "known": [START, START]}
    return pl.DataFrame({**base, **columns})


def test_integers_widen_and_an_empty_column_takes_the_expected_type() -> None:
    expected = conform(SPEC, frame(n=[1, 2], x=[1.5, 2.5], s=["p", None]), None).schema
    later = frame(s=[None, None], x=[1, 2], n=pl.Series([1, 2], dtype=pl.UInt8))

    rows = conform(SPEC, later, expected)

    assert rows.schema == expected
    assert rows["x"].to_list() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("n", [1.5, 2.5], "column 'n': found type Float64, expected Int8"),
        ("n", [1, 300], "column 'n': a value does not fit in Int8"),
        ("n", ["1", "2"], "found type String, expected Int8"),
        ("more", [1, 2], r"unexpected columns \['more'\]"),
    ],
)
def test_what_the_first_commit_did_not_have_is_named(
    column: str, value: list[object], message: str
) -> None:
    expected = conform(SPEC, frame(n=pl.Series([1, 2], dtype=pl.Int8)), None).schema

    with pytest.raises(SchemaMismatch, match=message):
        conform(SPEC, frame(**{"n": [1, 2], column: value}), expected)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"at": [datetime(2013, 1, 1)] * 2}, "column 'at': found type Datetime"),  # noqa: DTZ001
        ({"reason": ["x", "y"]}, "reserved"),
        ({"l": [[1], [2]]}, "column 'l': found type List"),
        ({"nothing": [None, None]}, "column 'nothing': found type Null"),
    ],
)
def test_a_first_commit_with_what_no_version_can_hold_is_refused(
    columns: dict[str, object], message: str
) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        conform(SPEC, frame(**columns), None)


def test_a_missing_declared_column_is_named() -> None:
    with pytest.raises(SchemaMismatch, match=r"\['known'\] are declared but not in the rows"):
        conform(SPEC, frame().drop("known"), None)


def test_times_of_other_zones_are_the_same_instants() -> None:
    tokyo = timezone(timedelta(hours=9))
    rows = frame(at=[datetime(2013, 1, 1, 9, tzinfo=tokyo)] * 2)

    assert conform(SPEC, rows, None)["at"].to_list() == [START, START]


values = st.fixed_dictionaries(
    {
        "id": st.sampled_from("abc"),
        "at": st.sampled_from([START, START + timedelta(hours=1)]),
        "x": st.none() | st.floats(),
        "s": st.none() | st.text(max_size=3),
        "b": st.none() | st.booleans(),
        "n": st.none() | st.integers(-5, 5),
    }
)
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "x": pl.Float64,
    "s": pl.String,
    "b": pl.Boolean,
    "n": pl.Int64,
    "known": pl.Datetime("us", "UTC"),
}


def digest(rows: list[dict[str, object]]) -> str:
    known = [{**row, "known": row["at"]} for row in rows]
    return rows_digest(SPEC, pl.DataFrame(known, schema=_SCHEMA, orient="row"))


@settings(deadline=None, max_examples=60)
@given(st.lists(values, max_size=6), st.randoms(use_true_random=False))
def test_the_digest_ignores_the_order_of_rows(
    rows: list[dict[str, object]], random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert digest(shuffled) == digest(rows)


def _same(left: dict[str, object], right: dict[str, object]) -> bool:
    return all(
        left[name] == right[name] or (left[name] != left[name] and right[name] != right[name])
        for name in left
    )


@settings(deadline=None, max_examples=100)
@given(values, values)
def test_the_digest_tells_rows_apart_exactly_when_they_differ(
    left: dict[str, object], right: dict[str, object]
) -> None:
    assert (digest([left]) == digest([right])) == _same(left, right)


def test_a_missing_text_is_not_an_empty_one_and_texts_do_not_run_together() -> None:
    base = {"id": "a", "at": START, "x": None, "b": None, "n": None}

    rows = [{**base, "s": text} for text in (None, "", "a", "ab", "b")]

    assert len({digest([row]) for row in rows}) == 5
    assert digest([rows[2], rows[4]]) != digest([rows[3], rows[1]])


def test_one_zero_and_one_nan_whatever_their_bits() -> None:
    base = {"id": "a", "at": START, "s": None, "b": None, "n": None}
    other_nan = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]

    def of(*numbers: float) -> str:
        return digest([{**base, "x": number} for number in numbers])

    assert of(-0.0) == of(0.0) != of(5e-324)
    assert of(other_nan) == of(float("nan")) != of(0.0)
    assert of(-0.0, 1.0, other_nan, 0.0) == of(float("nan"), 0.0, 0.0, 1.0)


def test_the_digest_is_that_of_the_bytes_its_page_describes() -> None:
    """Stored ledgers carry it: it may only change together with the format's number."""
    at = 1_356_998_400_000_000
    parts = [
        ("at", "instant", struct.pack("<q", at)),
        ("b", "bool", b"\1"),
        ("id", "text", struct.pack("<I", 1) + b"a"),
        ("known", "instant", struct.pack("<q", at)),
        ("n", "int64", struct.pack("<q", 7)),
        ("s", "text", struct.pack("<I", 2) + "é".encode()),
        ("x", "float64", struct.pack("<d", 0.5)),
    ]
    described = b"mainspring rows 1\n"
    for name, dtype, content in parts:
        for text in (name, dtype):
            described += struct.pack("<I", len(text)) + text.encode()
        described += struct.pack("<Q", 1) + b"\1" + content

    found = digest([{"id": "a", "at": START, "x": 0.5, "s": "é", "b": True, "n": 7}])

    assert found == hashlib.sha256(described).hexdigest()
