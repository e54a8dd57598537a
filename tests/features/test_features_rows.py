"""Training rows: what was known by an instant, with its labels, and the hold-back."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mainspring.core.errors import InvalidDeclaration, InvalidInput
from mainspring.features.rows import LabelRule, holdout_start, labelled_rows, training_rows
from mainspring.features.spec import FeatureView

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Columns:
    key: str
    time: str
    arrival: str


SCHEDULES = Columns("id", "scheduled", "published")
LANDINGS = Columns("id", "landed", "landed")
WEATHER = Columns("place", "hour", "arrives")
SPECS = {"landings": LANDINGS, "weather": WEATHER}
LATE = LabelRule("delay > 15", "landings")
VIEW = FeatureView("weather", entity="origin", source="weather", features=["wind"])


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def table(schema: dict[str, object], *rows: tuple[object, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=schema, orient="row")  # type: ignore[arg-type]


def schedules(*rows: tuple[object, ...]) -> pl.DataFrame:
    names = {"id": pl.String, "scheduled": TIME, "published": TIME, "origin": pl.String}
    return table(names, *rows)


def landings(*rows: tuple[object, ...]) -> pl.DataFrame:
    return table({"id": pl.String, "landed": TIME, "delay": pl.Float64}, *rows)


ROWS = schedules(
    ("a", at(10), at(0), "JFK"), ("b", at(20), at(0), "EWR"), ("c", at(30), at(25), "JFK")
)
LANDED = landings(("a", at(50), 20.0), ("b", at(60), 3.0), ("c", at(70), 99.0))
SEEN = {
    "landings": LANDED,
    "weather": table(
        {"place": pl.String, "origin": pl.String, "hour": TIME, "arrives": TIME, "wind": pl.Int64},
        ("w1", "JFK", at(0), at(5), 7),
        ("w2", "JFK", at(15), at(29), 9),
    ),
}


def rows_of(as_of: datetime, **more: object) -> pl.DataFrame:
    return training_rows(
        ROWS.lazy(),
        SCHEDULES,
        views=[VIEW],
        label=LATE,
        sources=SEEN,
        specs=SPECS,
        as_of=as_of,
        **more,  # type: ignore[arg-type]
    )


def test_rows_and_labels_are_those_that_had_arrived() -> None:
    found = rows_of(at(60))

    assert found["id"].to_list() == ["a", "b", "c"]
    assert found["label"].to_list() == [1.0, 0.0, None]
    assert found["label_arrival"].to_list() == [at(50), at(60), None]
    assert found["wind"].to_list() == [7.0, None, 9.0]
    assert rows_of(at(24))["id"].to_list() == ["a", "b"]


def test_feature_values_that_arrived_after_the_instant_do_not_exist() -> None:
    published_early = ROWS.with_columns(published=pl.lit(at(0)))

    found = training_rows(
        published_early,
        SCHEDULES,
        views=[VIEW],
        label=None,
        sources=SEEN,
        specs=SPECS,
        as_of=at(28),
    )

    assert found["wind"].to_list() == [7.0, None, 7.0]


def test_the_slice_begins_with_its_start_and_ends_before_its_until() -> None:
    assert rows_of(at(99), start=at(20), until=at(30))["id"].to_list() == ["b"]


def test_the_last_label_that_had_arrived_counts() -> None:
    corrected = landings(("a", at(55), 5.0), ("a", at(50), 20.0))

    def label(as_of: datetime) -> list[object]:
        sources = {"landings": corrected}
        rows = labelled_rows(ROWS, SCHEDULES, label=LATE, sources=sources, specs=SPECS, as_of=as_of)
        return rows["label"].to_list()[:1]

    assert [label(at(m)) for m in (49, 50, 55)] == [[None], [1.0], [0.0]]


def test_a_row_known_in_several_states_stands_as_it_was_asked_with() -> None:
    rows = schedules(
        ("a", at(10), at(12), "LGA"),
        ("a", at(10), at(0), "JFK"),
        ("a", at(10), at(9), "EWR"),
        ("b", at(10), at(30), "LGA"),
        ("b", at(10), at(20), "JFK"),
    )

    found = labelled_rows(rows, SCHEDULES, label=None, sources={}, specs={}, as_of=at(99))

    assert list(found.select("id", "origin").iter_rows()) == [("a", "EWR"), ("b", "JFK")]


def test_the_newest_labelled_rows_begin_where_said() -> None:
    rows = rows_of(at(99)).with_columns(label=pl.Series([1.0, 0.0, None]))

    assert [holdout_start(rows, n, time="scheduled") for n in (0, 1, 2, 3)] == [
        None,
        at(20),
        at(10),
        None,
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (LabelRule("delay > > 1", "landings"), "cannot be read"),
        (LabelRule("speed > 1", "landings"), r"columns are \['id', 'landed', 'delay'\]"),
        (LabelRule("delay > 1", "arrivals"), "source 'arrivals' is not given"),
        (LabelRule("wind > 1", "weather"), "has the key 'place'"),
    ],
)
def test_a_label_that_cannot_be_read_is_named(rule: LabelRule, message: str) -> None:
    with pytest.raises(InvalidDeclaration, match=message):
        labelled_rows(ROWS, SCHEDULES, label=rule, sources=SEEN, specs=SPECS, as_of=at(9))


def test_a_column_named_like_the_label_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"\['label'\]"):
        labelled_rows(
            ROWS.with_columns(label=1),
            SCHEDULES,
            label=LATE,
            sources=SEEN,
            specs=SPECS,
            as_of=at(9),
        )
