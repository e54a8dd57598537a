"""Traces: heads, tags, links and search."""

import re
from datetime import UTC, datetime
from math import log
from typing import Any

import msgspec

import mainspring.tracking.traces as tracked
from mainspring.api.verb import Call
from mainspring.core.errors import InvalidInput
from mainspring.server.mlflow.limits import check_key
from mainspring.server.mlflow.table import READ, WRITE, Endpoint
from mainspring.server.mlflow.wire import (
    Int64,
    Message,
    Text,
    bounded,
    missing,
    offset_of,
    page_token,
)
from mainspring.tracking.limits import PARAM_LENGTH, TAG_LENGTH, millis
from mainspring.tracking.search import Page
from mainspring.tracking.traces import Trace

LOCATION_TAG = "mlflow.artifactLocation"
"""Where the client uploads a trace's spans."""

PROMPTS_TAG = "mlflow.linkedPrompts"
_DURATION = re.compile(r"\d{1,12}(\.\d{1,9})?s")
RESULTS_AT_MOST = 500
LINKED_AT_MOST = 100


class InExperiment(Message, frozen=True, kw_only=True):
    experiment_id: Text


class Location(Message, frozen=True, kw_only=True):
    type: str | int | None = None
    mlflow_experiment: InExperiment | None = None


class Head(Message, frozen=True, kw_only=True):
    """What the table keeps apart; the rest is kept as it came."""

    trace_id: Text
    trace_location: Location
    request_time: datetime
    state: str | int | None = None
    tags: dict[str, str] | None = None
    trace_metadata: dict[str, str] | None = None
    execution_duration: str | None = None
    client_request_id: str | None = None
    assessments: tuple[dict[str, Any], ...] | None = None


class Told(Message, frozen=True, kw_only=True):
    trace_info: dict[str, Any]


class Start(Message, frozen=True, kw_only=True):
    trace: Told


class One(Message, frozen=True, kw_only=True):
    trace: Told


class Named(Message, frozen=True, kw_only=True):
    trace_id: str = ""


class SetTag(Named, frozen=True, kw_only=True):
    key: Text
    value: str | None = ""


class DeleteTag(Named, frozen=True, kw_only=True):
    key: Text


class Search(Message, frozen=True, kw_only=True):
    locations: tuple[Location, ...] | None = None
    filter: str | None = None
    max_results: Int64 | None = None
    order_by: tuple[str, ...] | None = None
    page_token: str | None = None


class Found(Message, frozen=True, kw_only=True):
    traces: tuple[dict[str, Any], ...] = ()
    next_page_token: str | None = None


class Delete(Message, frozen=True, kw_only=True):
    experiment_id: Text
    max_timestamp_millis: Int64 | None = None
    max_traces: Int64 | None = None
    request_ids: tuple[str, ...] | None = None


class Deleted(Message, frozen=True, kw_only=True):
    traces_deleted: int


class Many(Message, frozen=True, kw_only=True):
    trace_ids: tuple[str, ...] | None = None


class Infos(Message, frozen=True, kw_only=True):
    trace_infos: tuple[dict[str, Any], ...] = ()


class Link(Many, frozen=True, kw_only=True):
    run_id: Text


class PromptVersion(Message, frozen=True, kw_only=True):
    name: Text
    version: str | int


class LinkPrompts(Message, frozen=True, kw_only=True):
    trace_id: Text
    prompt_versions: tuple[PromptVersion, ...] | None = None


class Correlation(Message, frozen=True, kw_only=True):
    experiment_ids: tuple[str, ...]
    filter_string1: Text
    filter_string2: Text
    base_filter: str | None = None


class Correlated(msgspec.Struct, frozen=True, kw_only=True):
    npmi: float | None
    npmi_smoothed: float | None
    filter1_count: int
    filter2_count: int
    joint_count: int
    total_count: int


def start(call: Call, request: Start) -> One:
    """Keep a trace's head; its answer says where the spans go."""
    told = request.trace.trace_info
    try:
        head = msgspec.convert(told, Head, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Invalid value for parameter 'trace.trace_info': {error}") from error
    if head.trace_location.mlflow_experiment is None:
        raise missing("trace.trace_info.trace_location.mlflow_experiment")
    if head.request_time.tzinfo is None:
        raise InvalidInput("Invalid value for parameter 'request_time': it has no time zone")
    tags = {
        check_key(key, "tags.key"): value[:TAG_LENGTH] for key, value in (head.tags or {}).items()
    }
    kept = call.project.tracking.traces.put(
        tracked.Head(
            trace=head.trace_id,
            experiment=head.trace_location.mlflow_experiment.experiment_id,
            at_ms=millis(head.request_time),
            state=str(head.state or "STATE_UNSPECIFIED"),
            body={
                name: value for name, value in told.items() if name not in ("tags", "assessments")
            },
            tags=tags,
            metadata={
                check_key(key, "trace_metadata.key"): value[:PARAM_LENGTH]
                for key, value in (head.trace_metadata or {}).items()
            },
            took_ms=_took_ms(head.execution_duration),
            client_request=head.client_request_id,
        )
    )
    for said in head.assessments or ():
        call.project.tracking.assessments.create(kept.trace, said)
    if head.assessments:
        kept = call.project.tracking.traces.get(kept.trace)
    return One(trace=Told(trace_info=shown(kept)))


def get(call: Call, request: Named) -> One:
    """Give a trace's head."""
    found = call.project.tracking.traces.get(request.trace_id)
    return One(trace=Told(trace_info=shown(found)))


def search(call: Call, request: Search) -> Found:
    """Search traces."""
    limit = bounded(request.max_results, 100, 1, RESULTS_AT_MOST, "max_results")
    experiments = [
        one.mlflow_experiment.experiment_id
        for one in request.locations or ()
        if one.mlflow_experiment is not None
    ]
    orders = request.order_by or ()
    asked = ["traces", request.filter or "", orders, experiments]
    offset = offset_of(request.page_token, asked)
    found = call.project.tracking.traces.search(
        experiments, text=request.filter, orders=orders, page=Page(offset, limit + 1)
    )
    return Found(
        traces=tuple(shown(one) for one in found[:limit]),
        next_page_token=page_token(offset + limit, asked) if len(found) > limit else None,
    )


def many(call: Call, request: Many) -> Infos:
    """Give the heads of several traces; those that are not there are left out."""
    wanted = request.trace_ids or ()
    if len(wanted) > RESULTS_AT_MOST:
        raise InvalidInput(f"at most {RESULTS_AT_MOST} trace ids at once, found {len(wanted)}")
    found = call.project.tracking.traces.get_many(wanted)
    return Infos(trace_infos=tuple(shown(one) for one in found))


def link(call: Call, request: Link) -> None:
    """Say that traces belong to a run."""
    traces = request.trace_ids or ()
    if len(traces) > LINKED_AT_MOST:
        raise InvalidInput(
            f"Cannot link more than {LINKED_AT_MOST} traces to a run in a single request. "
            f"Provided {len(traces)} traces."
        )
    call.project.tracking.traces.link(request.run_id, traces)


def link_prompts(call: Call, request: LinkPrompts) -> None:
    """Note which prompts a trace used, in the tag where clients look for them."""
    traces = call.project.tracking.traces
    found = traces.get(request.trace_id).tags.get(PROMPTS_TAG, "[]")
    known = msgspec.json.decode(found, type=list[dict[str, str]])
    for one in request.prompt_versions or ():
        pair = {"name": one.name, "version": str(one.version)}
        if pair not in known:
            known.append(pair)
    traces.set_tag(request.trace_id, PROMPTS_TAG, msgspec.json.encode(known).decode()[:TAG_LENGTH])


def correlation(call: Call, request: Correlation) -> Correlated:
    """Say how two filters go together: normalised pointwise mutual information of their traces."""
    traces = call.project.tracking.traces
    base = [request.base_filter] if request.base_filter else []

    def count(*filters: str) -> int:
        return traces.count(request.experiment_ids, [*base, *filters])

    one, two = request.filter_string1, request.filter_string2
    total, first, second, joint = count(), count(one), count(two), count(one, two)
    return Correlated(
        npmi=npmi(joint, first, second, total, smoothing=0.0),
        npmi_smoothed=npmi(joint, first, second, total, smoothing=0.5),
        filter1_count=first,
        filter2_count=second,
        joint_count=joint,
        total_count=total,
    )


def npmi(joint: int, first: int, second: int, total: int, *, smoothing: float) -> float | None:
    """Compare how often two things come together with how often they would by chance.

    Args:
        smoothing: Added to each cell of the table of both, so that an empty one stays finite.

    Returns:
        -1 where they never meet, 0 by chance, 1 where they always do; None where one never is.

    Source: G. Bouma (2009), over counts.

    >>> npmi(5, 10, 10, 20, smoothing=0.0), npmi(10, 10, 10, 20, smoothing=0.0)
    (0.0, 1.0)
    """
    if total <= 0 or not first or not second:
        return None
    joint_s, total_s = joint + smoothing, total + 4 * smoothing
    first_s, second_s = first + 2 * smoothing, second + 2 * smoothing
    if joint_s == 0:
        return -1.0
    if joint_s == total_s:
        return 1.0
    information = log(joint_s * total_s / (first_s * second_s))
    return max(-1.0, min(1.0, information / -log(joint_s / total_s)))


def set_tag(call: Call, request: SetTag) -> None:
    """Set a tag."""
    key = check_key(request.key, "key")
    call.project.tracking.traces.set_tag(request.trace_id, key, (request.value or "")[:TAG_LENGTH])


def delete_tag(call: Call, request: DeleteTag) -> None:
    """Remove a tag."""
    call.project.tracking.traces.delete_tag(request.trace_id, request.key)


def delete(call: Call, request: Delete) -> Deleted:
    """Delete traces with their spans."""
    if (request.request_ids is None) == (request.max_timestamp_millis is None):
        raise InvalidInput("Either `max_timestamp_millis` or `trace_ids` must be specified.")
    count = call.project.tracking.traces.delete(
        request.experiment_id,
        traces=request.request_ids or (),
        until_ms=request.max_timestamp_millis,
        limit=request.max_traces,
    )
    return Deleted(traces_deleted=count)


def _took_ms(duration: str | None) -> int | None:
    """Read a duration as protocol buffers write it, in seconds: `1.5s`."""
    if not duration:
        return None
    if not _DURATION.fullmatch(duration):
        raise InvalidInput(
            f"Invalid value {duration[:40]!r} for parameter 'execution_duration': expected "
            "seconds, such as 1.5s"
        )
    return int(float(duration[:-1]) * 1000)


def body_of(
    trace: str, experiment: str, *, at_ms: int, state: str, took_ms: int | None
) -> dict[str, Any]:
    """Write a trace's head that its client did not write itself."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    body: dict[str, Any] = {
        "trace_id": trace,
        "trace_location": location,
        "request_time": at.replace("+00:00", "Z"),
        "state": state,
    }
    return body if took_ms is None else {**body, "execution_duration": f"{took_ms / 1000:.3f}s"}


def shown(trace: Trace) -> dict[str, Any]:
    """Show a trace's head."""
    head = {**trace.body, "tags": {**trace.tags, LOCATION_TAG: trace.location}}
    return {**head, "assessments": trace.assessments} if trace.assessments else head


ENDPOINTS = (
    Endpoint("POST", "/traces", WRITE, Start, start),
    Endpoint("POST", "/traces/search", READ, Search, search),
    Endpoint("POST", "/traces/delete-traces", WRITE, Delete, delete),
    Endpoint("POST", "/traces/batchGetInfos", READ, Many, many),
    Endpoint("POST", "/traces/calculate-filter-correlation", READ, Correlation, correlation),
    Endpoint("GET", "/traces/{trace_id}", READ, Named, get),
    Endpoint("PATCH", "/traces/{trace_id}/tags", WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/traces/{trace_id}/tags", WRITE, DeleteTag, delete_tag),
)
OLD_ENDPOINTS = (
    Endpoint("POST", "/traces/link-to-run", WRITE, Link, link),
    Endpoint("POST", "/traces/link-prompts", WRITE, LinkPrompts, link_prompts),
    Endpoint("POST", "/traces/delete-traces", WRITE, Delete, delete),
    Endpoint("PATCH", "/traces/{trace_id}/tags", WRITE, SetTag, set_tag),
    Endpoint("DELETE", "/traces/{trace_id}/tags", WRITE, DeleteTag, delete_tag),
)
