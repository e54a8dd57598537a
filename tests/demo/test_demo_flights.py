"""The facts of the year that the demo rests on, as they are in the installed package."""

import os
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version

import polars as pl
import pytest

from mainspring.core.errors import NotFound
from mainspring.demo import flights as flights_module
from mainspring.demo.broken import plant_broken
from mainspring.demo.feed import Span
from mainspring.demo.flights import DISTRIBUTION, INSTALL, Flights, read_flights
from mainspring.demo.project import CARRIERS, ORIGINS


def _installed() -> bool:
    try:
        return bool(version(DISTRIBUTION))
    except PackageNotFoundError:
        return False


needs_flights = pytest.mark.skipif(
    not _installed() and "ALL_PARTS_MANDATORY" not in os.environ,
    reason=f"package {DISTRIBUTION} is not installed",
)


@pytest.fixture(scope="module")
def year() -> Flights:
    return read_flights()


@needs_flights
def test_every_flight_has_a_key_of_its_own_and_exactly_one_label(year: Flights) -> None:
    requests, labels = year.requests.rows, year.labels.rows

    assert requests.height == 336_776
    assert requests["flight_id"].n_unique() == 336_776
    assert labels.height == 336_776
    assert labels["flight_id"].n_unique() == 336_776
    assert requests["flight_id"].is_in(["UA1545-20130101-0515-EWR"]).sum() == 1


@needs_flights
def test_cancelled_and_diverted_flights_are_void(year: Flights) -> None:
    cancelled = 336_776 - year.departures.rows.height
    diverted = year.departures.rows.height - year.landings.rows.height
    void = year.labels.rows.filter("void")

    assert (cancelled, diverted) == (8_255, 1_175)
    assert void.height == cancelled + diverted
    assert void["late"].null_count() == void.height
    assert year.labels.rows.filter(~pl.col("void"))["late"].null_count() == 0


@needs_flights
def test_flights_without_plane_or_weather_are_as_many_as_counted(year: Flights) -> None:
    requests = year.requests.rows.with_columns(pl.col("scheduled_at").dt.truncate("1h"))
    weather = year.weather_hourly.rows

    joined = requests.join(
        weather, left_on=["origin", "scheduled_at"], right_on=["origin", "time_hour"], how="left"
    )

    assert requests["seats"].null_count() == 52_606
    assert requests.filter(pl.col("manufacturer") == "").height == 52_606
    assert joined.height == 336_776
    assert joined["weather_id"].null_count() == 1_556
    # Seventeen more have a weather row without a temperature.
    assert joined["temp"].null_count() == 1_573


@needs_flights
def test_the_double_local_hour_of_november_is_two_hours(year: Flights) -> None:
    weather = year.weather_hourly.rows

    night = weather.filter(
        pl.col("time_hour").is_between(
            datetime(2013, 11, 3, 5, tzinfo=UTC), datetime(2013, 11, 3, 8, tzinfo=UTC)
        ),
        pl.col("origin") == "JFK",
    )

    local = night["time_hour"].dt.convert_time_zone("America/New_York")
    assert night["time_hour"].dt.hour().to_list() == [5, 6, 7, 8]
    assert local.dt.hour().to_list() == [1, 1, 2, 3]
    assert weather["weather_id"].n_unique() == weather.height == 26_115


@needs_flights
def test_nothing_of_a_flight_is_known_by_its_schedule(year: Flights) -> None:
    departures = year.departures.rows
    labels = year.labels.rows

    early = departures.filter(pl.col("departed_at") < pl.col("scheduled_at"))

    assert early.height / departures.height > 0.5
    assert departures.filter(pl.col("reported_at") <= pl.col("scheduled_at")).is_empty()
    assert labels.filter(pl.col("known_at") <= pl.col("scheduled_at")).is_empty()


@needs_flights
def test_a_flight_is_placed_in_time_by_the_stated_rules(year: Flights) -> None:
    key = pl.col("flight_id") == "UA1545-20130101-0515-EWR"

    schedule = year.schedules.rows.filter(key).row(0, named=True)
    departure = year.departures.rows.filter(key).row(0, named=True)
    landing = year.landings.rows.filter(key).row(0, named=True)

    scheduled = datetime(2013, 1, 1, 10, 15, tzinfo=UTC)
    assert schedule["scheduled_at"] == scheduled
    assert schedule["published_at"] == scheduled - timedelta(days=7)
    assert (schedule["hour"], schedule["weekday"], schedule["day_of_year"]) == (5, 2, 1)
    assert departure["departed_at"] == scheduled + timedelta(minutes=2)
    assert departure["reported_at"] == scheduled + timedelta(minutes=3)
    assert landing["landed_at"] == scheduled + timedelta(minutes=2 + 227 + 20)
    assert landing["arr_delay"] == 11


@needs_flights
def test_hours_share_no_row_and_miss_none(year: Flights) -> None:
    span = Span(datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 8, tzinfo=UTC))
    whole = year.requests.between(span.start, span.end)

    hours = [year.requests.between(hour.start, hour.end) for hour in span.hours()]

    assert whole.height > 5_000
    assert pl.concat(hours).equals(whole)


@needs_flights
def test_true_rows_break_no_check_that_broken_ones_are_meant_to_break(year: Flights) -> None:
    assert year.schedules.rows["origin"].unique().sort().to_list() == ORIGINS
    assert year.schedules.rows["carrier"].unique().sort().to_list() == sorted(CARRIERS)
    assert year.schedules.rows["distance"].is_between(0, 6000).all()
    assert year.departures.rows["dep_delay"].is_between(-120, 3000).all()
    assert year.landings.rows["arr_delay"].is_between(-180, 3000).all()
    assert year.weather_hourly.rows["visib"].is_between(0, 10).all()


@needs_flights
def test_two_hundred_broken_rows_of_five_kinds_are_planted_and_listed(year: Flights) -> None:
    spoiled, planted = plant_broken(year, seed=7)

    added = {
        name: getattr(spoiled, name).rows.height - getattr(year, name).rows.height
        for name in ("schedules", "departures", "landings", "weather_hourly", "requests", "labels")
    }
    kinds = [broken.kind for broken in planted]
    assert len(planted) == len(set(planted)) == 200
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "missing": 40,
        "out_of_range": 40,
        "unknown": 40,
        "repeated": 40,
        "untimed": 40,
    }
    assert added == {
        "schedules": 60,
        "departures": 50,
        "landings": 40,
        "weather_hourly": 50,
        "requests": 0,
        "labels": 0,
    }
    assert len({broken.known_at.month for broken in planted}) == 12


@needs_flights
def test_the_seed_alone_decides_what_is_planted(year: Flights) -> None:
    _, first = plant_broken(year, seed=7)
    _, again = plant_broken(year, seed=7)
    _, other = plant_broken(year, seed=8)

    assert first == again
    assert first != other


@needs_flights
def test_a_planted_row_turns_up_when_its_true_row_does_and_right_behind_it(year: Flights) -> None:
    spoiled, planted = plant_broken(year, seed=7)

    for broken in planted:
        feed = getattr(spoiled, broken.dataset)
        moment = feed.between(broken.known_at - timedelta(seconds=1), broken.known_at)
        key = moment.columns[0]
        assert moment.filter(pl.col(key) == broken.key).height == (
            2 if broken.kind == "repeated" else 1
        )


def test_a_missing_package_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flights_module, "DISTRIBUTION", "no-such-distribution")

    with pytest.raises(NotFound, match="no-such-distribution") as caught:
        read_flights()

    assert INSTALL in str(caught.value)
