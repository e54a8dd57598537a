"""Reading what was predicted: the rows in the database, the features in Delta."""

from dataclasses import dataclass
from typing import Any

import polars as pl
from sqlalchemy import ColumnElement, Connection, Row, func, select

from mainspring.core.clock import Instant
from mainspring.core.errors import NotFound
from mainspring.monitoring.drift import FEATURE
from mainspring.monitoring.labels import parse_prediction
from mainspring.monitoring.tables import OUTCOME, PREDICTION, PREDICTION_TABLE
from mainspring.monitoring.times import day_of, instant
from mainspring.store.tables import DeltaTables

_TIME = pl.Datetime("us", "UTC")
_OUTCOME_COLUMNS: dict[str, Any] = {
    "prediction": pl.String,
    "row": pl.Int64,
    "key": pl.String,
    "event_time": _TIME,
    "version": pl.String,
    "role": pl.String,
    "rollout": pl.String,
    "fallback": pl.Boolean,
    "score": pl.Float64,
    "live_version": pl.String,
    "live_score": pl.Float64,
    "candidate_version": pl.String,
    "candidate_score": pl.Float64,
    "value": pl.Float64,
    "void": pl.Boolean,
    "label_arrival": _TIME,
    "corrections": pl.Int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRecord:
    """One row that was answered, with all that is known of it.

    Attributes:
        features: The vector that was used, by feature.
        feature_times: Time of the value or tick that was used, by view; None = there was none.
        feature_arrivals: When that value became known, by view.
        outputs: What every arm that scored gave; None where it failed.
        value: The label that holds; None while there is none, or when it is void.
    """

    prediction: str
    row: int
    endpoint: str
    key: str
    event_time: Instant
    answered: Instant
    version: str
    role: str
    rollout: str | None
    fallback: bool
    score: float | None
    repeat: bool
    features: dict[str, Any]
    feature_times: dict[str, Instant | None]
    feature_arrivals: dict[str, Instant | None]
    outputs: dict[str, float | None]
    routes: int | None
    value: float | None
    void: bool
    label_arrival: Instant | None


def outcome_frame(
    connection: Connection, project: str, endpoint: str, start_us: int, end_us: int
) -> pl.DataFrame:
    """Give predictions of an event-time range with what is known of their outcome.

    One row per prediction, repeats left out, in order of event time, key and compaction; `value`
    is null while no label holds.
    """
    p, o = PREDICTION.c, OUTCOME.c
    rows = connection.execute(
        select(
            p.prediction, p.row, p.key, p.event_time_us, p.version, p.role, p.rollout, p.fallback,
            p.score, p.live_version, p.live_score, p.candidate_version, p.candidate_score,
            o.value, o.void, o.arrival_us, o.corrections,
        )
        .select_from(PREDICTION.outerjoin(OUTCOME, o.number == p.number))
        .where(
            p.project == project,
            p.endpoint == endpoint,
            p.event_time_us >= start_us,
            p.event_time_us < end_us,
            p.repeat_of.is_(None),
        )
        .order_by(p.event_time_us, p.key, p.number)
    ).all()  # fmt: skip
    columns = list(zip(*rows, strict=True)) or [()] * len(_OUTCOME_COLUMNS)
    raw = {
        name: pl.Series(name, column, dtype=_raw(dtype), strict=True)
        for (name, dtype), column in zip(_OUTCOME_COLUMNS.items(), columns, strict=True)
    }
    return pl.DataFrame(raw).cast(pl.Schema(_OUTCOME_COLUMNS))


def served(
    connection: Connection, tables: DeltaTables, project: str, endpoint: str
) -> pl.LazyFrame | None:
    """Scan all that is kept of an endpoint's predictions; None before the first.

    Columns that an earlier or later signature lacks are null. Filter on `date` first: it is the
    partition.
    """
    names = connection.execute(
        select(PREDICTION_TABLE.c.name)
        .where(PREDICTION_TABLE.c.project == project, PREDICTION_TABLE.c.endpoint == endpoint)
        .order_by(PREDICTION_TABLE.c.name)
    ).scalars()
    frames = [tables.read(name) for name in names if tables.version(name) is not None]
    if not frames:
        return None
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def record_of(
    connection: Connection, tables: DeltaTables, project: str, reference: str
) -> PredictionRecord:
    """Find one prediction row by `<id>` or `<id>:<i>`.

    Raises:
        NotFound: It was not answered here, or is not compacted yet.
    """
    prediction, row_number = parse_prediction(reference)
    row = connection.execute(
        select(PREDICTION, OUTCOME.c.value, OUTCOME.c.void, OUTCOME.c.arrival_us)
        .select_from(PREDICTION.outerjoin(OUTCOME, OUTCOME.c.number == _counted()))
        .where(
            PREDICTION.c.project == project,
            PREDICTION.c.prediction == prediction,
            PREDICTION.c.row == row_number,
        )
    ).first()
    if row is None:
        raise NotFound(
            f"prediction {reference} is not in project {project!r}: never answered here, purged, "
            "or not compacted yet (advancing the watermark compacts)"
        )
    kept = _kept(connection, tables, project, row)
    return PredictionRecord(
        prediction=row.prediction,
        row=row.row,
        endpoint=row.endpoint,
        key=row.key,
        event_time=instant(row.event_time_us),
        answered=instant(row.at_us),
        version=row.version,
        role=row.role,
        rollout=row.rollout,
        fallback=bool(row.fallback),
        score=row.score,
        repeat=row.repeat_of is not None,
        features=_prefixed(kept, FEATURE),
        feature_times=_instants(kept, "t_"),
        feature_arrivals=_instants(kept, "a_"),
        outputs={one["version"]: one["value"] for one in kept.get("outputs") or []},
        routes=kept.get("routes"),
        value=row.value,
        void=bool(row.void),
        label_arrival=None if row.arrival_us is None else instant(row.arrival_us),
    )


def _counted() -> ColumnElement[int]:
    return func.coalesce(PREDICTION.c.repeat_of, PREDICTION.c.number)


def _kept(
    connection: Connection, tables: DeltaTables, project: str, row: Row[Any]
) -> dict[str, Any]:
    frame = served(connection, tables, project, row.endpoint)
    if frame is None:
        return {}
    found = frame.filter(
        (pl.col("date") == day_of(row.event_time_us))
        & (pl.col("prediction") == row.prediction)
        & (pl.col("row") == row.row)
    ).collect()
    return found.row(0, named=True) if found.height else {}


def _prefixed(kept: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in kept.items()
        if name.startswith(prefix) and value is not None
    }


def _instants(kept: dict[str, Any], prefix: str) -> dict[str, Instant | None]:
    return {
        name.removeprefix(prefix): None if value is None else instant(value)
        for name, value in kept.items()
        if name.startswith(prefix)
    }


def _raw(dtype: Any) -> Any:
    """Type as the database gives it."""
    return pl.Int64 if dtype in (_TIME, pl.Boolean) else dtype
