"""Figures over traces: how many, how long they took, by state, name and time."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Literal

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.server.mlflow.table import READ, Endpoint
from mainspring.server.mlflow.wire import Int64, Message, Text, bounded, missing
from mainspring.tracking.trace_search import NAME_TAG
from mainspring.tracking.traces import Trace

METRICS = ("trace_count", "latency")
DIMENSIONS = ("trace_status", "trace_name")
TIME = "time_bucket"
TRACES_AT_MOST = 100_000
"""Looked at for one answer; of more the newest."""

RESULTS_AT_MOST = 10_000


class Aggregation(Message, frozen=True, kw_only=True):
    aggregation_type: Literal["COUNT", "SUM", "AVG", "MIN", "MAX", "PERCENTILE"]
    percentile_value: float | None = None


class Query(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...] | None = None
    view_type: str | int | None = None
    metric_name: Text
    aggregations: tuple[Aggregation, ...] | None = None
    dimensions: tuple[str, ...] | None = None
    filters: tuple[str, ...] | None = None
    time_interval_seconds: Int64 | None = None
    start_time_ms: Int64 | None = None
    end_time_ms: Int64 | None = None
    max_results: Int64 | None = None


class DataPoint(Message, frozen=True, kw_only=True):
    metric_name: str
    dimensions: dict[str, str] | None = None
    values: dict[str, float]


class Found(Message, frozen=True, kw_only=True):
    data_points: tuple[DataPoint, ...] = ()


def query(call: Call, request: Query) -> Found:
    """Give figures of the traces that match, one for each value of the dimensions."""
    _check(request)
    limit = bounded(request.max_results, 1000, 1, RESULTS_AT_MOST, "max_results")
    groups: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)
    for trace in _matching(call, request):
        if request.metric_name == "trace_count":
            groups[_place(trace, request)].append(1.0)
        elif trace.took_ms is not None:
            groups[_place(trace, request)].append(float(trace.took_ms))
    points = [
        DataPoint(
            metric_name=request.metric_name,
            dimensions=dict(place) or None,
            values={_named(how): _aggregate(how, values) for how in request.aggregations or ()},
        )
        for place, values in sorted(groups.items())
    ]
    return Found(data_points=tuple(points[:limit]))


def _check(request: Query) -> None:
    for name in ("experiment_ids", "aggregations"):
        if not getattr(request, name):
            raise missing(name)
    if request.view_type not in (None, "TRACES", 1, "1"):
        raise InvalidInput(f"view_type {request.view_type}: only TRACES are measured here")
    if request.metric_name not in METRICS:
        raise InvalidInput(
            f"metric_name must be one of {list(METRICS)}, got '{request.metric_name[:60]}'"
        )
    for name in request.dimensions or ():
        if name not in DIMENSIONS:
            raise InvalidInput(f"dimension must be one of {list(DIMENSIONS)}, got '{name[:60]}'")
    if request.metric_name == "trace_count" and any(
        how.aggregation_type != "COUNT" for how in request.aggregations or ()
    ):
        raise InvalidInput("trace_count has the aggregation COUNT only")
    for how in request.aggregations or ():
        value = how.percentile_value
        if how.aggregation_type == "PERCENTILE" and (value is None or not 0 <= value <= 100):
            raise InvalidInput("a PERCENTILE needs percentile_value, from 0 to 100")
    if request.time_interval_seconds is not None and request.time_interval_seconds <= 0:
        raise InvalidInput("time_interval_seconds must be above 0")


def _matching(call: Call, request: Query) -> Sequence[Trace]:
    filters = list(request.filters or ())
    if request.start_time_ms is not None:
        filters.append(f"timestamp_ms >= {request.start_time_ms}")
    if request.end_time_ms is not None:
        filters.append(f"timestamp_ms <= {request.end_time_ms}")
    return call.project.tracking.traces.newest(
        request.experiment_ids or (), text=" AND ".join(filters) or None, limit=TRACES_AT_MOST
    )


def _place(trace: Trace, request: Query) -> tuple[tuple[str, str], ...]:
    """Give where a trace is counted: the values of the dimensions asked for."""
    found: list[tuple[str, str]] = []
    if request.time_interval_seconds is not None:
        step_ms = request.time_interval_seconds * 1000
        at = datetime.fromtimestamp(trace.at_ms // step_ms * step_ms / 1000, UTC)
        found.append((TIME, at.isoformat()))
    for name in request.dimensions or ():
        told = trace.state if name == "trace_status" else trace.tags.get(NAME_TAG, "")
        found.append((name, told))
    return tuple(found)


def _named(how: Aggregation) -> str:
    if how.aggregation_type == "PERCENTILE":
        return f"P{how.percentile_value}"
    return how.aggregation_type


def _aggregate(how: Aggregation, values: Sequence[float]) -> float:
    match how.aggregation_type:
        case "COUNT":
            return float(len(values))
        case "SUM":
            return sum(values)
        case "AVG":
            return sum(values) / len(values)
        case "MIN":
            return min(values)
        case "MAX":
            return max(values)
        case "PERCENTILE":
            return percentile(values, (how.percentile_value or 0.0) / 100)


def percentile(values: Sequence[float], share: float) -> float:
    """Give a percentile, between two neighbours by how near it lies to each.

    >>> percentile([1.0, 2.0, 4.0], 0.5), percentile([1.0, 2.0], 0.5)
    (2.0, 1.5)
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = ordered[int(place)], ordered[ceil(place)]
    return low + (high - low) * (place - int(place))


ENDPOINTS = (Endpoint("POST", "/traces/metrics", READ, Query, query),)
