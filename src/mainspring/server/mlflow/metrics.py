"""Reading metrics' histories."""

import base64
from collections.abc import Iterator

import msgspec
from starlette.responses import Response, StreamingResponse

from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.server.mlflow.runs import Named
from mainspring.server.mlflow.shown import Metric, metrics_of
from mainspring.server.mlflow.table import READ, Endpoint
from mainspring.server.mlflow.wire import Int64, Message, Text, bounded, invalid, missing
from mainspring.tracking.metrics import Place, place_of
from mainspring.tracking.run import Point

POINTS_AT_MOST = 1_000_000
RUNS_AT_MOST = 100
BULK_POINTS = 25_000
PIECE_POINTS = 10_000
SAMPLED_POINTS = 2500
SAMPLED_DEFAULT = 320


class GetHistory(Named, frozen=True, kw_only=True):
    metric_key: Text
    max_results: Int64 | None = None
    page_token: str | None = None


class History(Message, frozen=True, kw_only=True):
    metrics: tuple[Metric, ...] = ()
    next_page_token: str | None = None


class GetBulk(Message, frozen=True, kw_only=True):
    """Both spellings of the field are in use."""

    metric_key: Text
    run_id: tuple[str, ...] | None = None
    run_ids: tuple[str, ...] | None = None
    max_results: Int64 | None = None
    start_step: Int64 | None = None
    end_step: Int64 | None = None


def get_history(call: Call, request: GetHistory) -> History | Response:
    """Give all points of a metric, or a page of them; none of an unknown one."""
    limit = None
    if request.max_results is not None:
        limit = bounded(request.max_results, 0, 1, POINTS_AT_MOST, "max_results")
    call.project.tracking.artifacts.location(request.run)
    if limit is None or limit > PIECE_POINTS:
        return _streamed(call, request, limit)
    found = call.project.tracking.reading.history(
        request.run,
        request.metric_key,
        after=_place(request.page_token),
        limit=limit + 1,
    )
    more = len(found) > limit
    shown = found[:limit]
    return History(metrics=metrics_of(shown), next_page_token=_token(shown[-1]) if more else None)


def get_bulk(call: Call, request: GetBulk) -> History:
    """Give the points of one metric in several runs."""
    limit = bounded(request.max_results, BULK_POINTS, 1, BULK_POINTS, "max_results")
    metrics: list[Metric] = []
    for run in _runs(request):
        found = call.project.tracking.reading.history(
            Id(run), request.metric_key, after=None, limit=limit - len(metrics)
        )
        metrics += metrics_of(found, run)
        if len(metrics) >= limit:
            break
    return History(metrics=tuple(metrics))


def get_bulk_interval(call: Call, request: GetBulk) -> History:
    """Give a sample of one metric in several runs, spread evenly over the steps asked for."""
    points = bounded(request.max_results, SAMPLED_DEFAULT, 1, SAMPLED_POINTS, "max_results")
    low, high = request.start_step, request.end_step
    if (low is None) != (high is None):
        raise InvalidInput(
            "If either start step or end step are specified, both must be specified."
        )
    if low is not None and high is not None and low > high:
        raise InvalidInput(
            f"end_step must be greater than start_step. Found start_step={low} and end_step={high}."
        )
    found = call.project.tracking.reading.sampled(
        _runs(request), request.metric_key, low=low, high=high, points=points
    )
    shown = (metric for run, series in found.items() for metric in metrics_of(series, run))
    return History(metrics=tuple(shown))


def _streamed(call: Call, request: GetHistory, limit: int | None) -> Response:
    """Give many points piece by piece: a piece of them is in memory, however many there are."""
    place = _place(request.page_token)

    def pieces() -> Iterator[bytes]:
        after, left, token = place, limit, None
        yield b'{"metrics":['
        comma = b""
        while True:
            size = PIECE_POINTS if left is None else min(PIECE_POINTS, left)
            found = call.project.tracking.reading.history(
                request.run, request.metric_key, after=after, limit=size + 1
            )
            shown = found[:size]
            if shown:
                yield comma + _ENCODER.encode(metrics_of(shown))[1:-1]
                comma, after = b",", place_of(shown[-1])
            if left is not None:
                left -= len(shown)
            if len(found) <= size:
                break
            if left == 0:
                token = _token(shown[-1])
                break
        yield b"]}" if token is None else b'],"next_page_token":' + _ENCODER.encode(token) + b"}"

    return StreamingResponse(pieces(), media_type="application/json")


_ENCODER = msgspec.json.Encoder()


def _runs(request: GetBulk) -> tuple[str, ...]:
    runs = request.run_ids or request.run_id or ()
    if not runs:
        raise missing("run_ids")
    if len(runs) > RUNS_AT_MOST:
        raise invalid(
            "run_ids", len(runs), f"At most {RUNS_AT_MOST} run_ids can be specified in a request."
        )
    return runs


def _token(point: Point) -> str:
    """Name the place after which the next page begins; it holds whatever is logged meanwhile."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(place_of(point))).decode()


def _place(token: str | None) -> Place | None:
    if not token:
        return None
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        return msgspec.msgpack.decode(raw, type=tuple[Int64, Int64, bool, float])
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput(
            f"Invalid page token {token[:40]!r}: expected the next_page_token of the same metric"
        ) from error


ENDPOINTS = (
    Endpoint("GET", "/metrics/get-history", READ, GetHistory, get_history),
    Endpoint("GET", "/metrics/get-history-bulk", READ, GetBulk, get_bulk),
    Endpoint("GET", "/metrics/get-history-bulk-interval", READ, GetBulk, get_bulk_interval),
)
