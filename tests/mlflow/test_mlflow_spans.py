"""Spans: looked into as the client uploads them, sent by OpenTelemetry, found and given back."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow_face import Face
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

T = "/api/3.0/mlflow/traces"
EXPERIMENT = {"x-mlflow-experiment-id": "0"}
PROTOBUF = {"content-type": "application/x-protobuf", **EXPERIMENT}


@mlflow.trace(span_type="LLM")
def answer(question: str) -> dict[str, Any]:
    with mlflow.start_span("look up") as span:
        span.set_inputs({"question": question, "deep": [1, 2.5, None, {"yes": True}]})
        span.record_exception("seen")
    return {"text": question.upper()}


def exported(*, root: bool = True) -> ExportTraceServiceRequest:
    """Give a request as an OpenTelemetry exporter sends it."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    if root:
        span = spans.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="outer")
        span.start_time_unix_nano, span.end_time_unix_nano = 10**18, 10**18 + 2 * 10**9
        span.status.code = 1
        attribute = span.attributes.add(key="mlflow.spanInputs")
        attribute.value.kvlist_value.values.add(key="q").value.string_value = "why"
    inner = spans.add(
        trace_id=b"\x01" * 16, span_id=b"\x03" * 8, parent_span_id=b"\x02" * 8, name="inner"
    )
    inner.start_time_unix_nano, inner.end_time_unix_nano = 10**18, 10**18 + 10**9
    inner.status.code, inner.status.message = 2, "broke"
    for key, field, value in (
        ("i", "int_value", -5),
        ("d", "double_value", 0.5),
        ("b", "bool_value", True),
        ("y", "bytes_value", b"raw"),
    ):
        setattr(inner.attributes.add(key=key).value, field, value)
    inner.attributes.add(key="a").value.array_value.values.add().string_value = "one"
    event = inner.events.add(name="happened", time_unix_nano=10**18)
    event.attributes.add(key="k").value.string_value = "v"
    return request


# What the client's libraries warn of in each other would end the trace without a word.
@pytest.mark.filterwarnings("ignore")
def test_spans_in_a_clients_file_are_found_and_given_back(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    experiment = mlflow.set_experiment("spans").experiment_id
    answer("why")
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id is not None

    def found(text: str) -> int:
        return len(client.search_traces(locations=[experiment], filter_string=text))

    assert found("span.name = 'look up' AND span.status = 'UNSET'") == 0
    assert found("span.name = 'look up' AND span.type = 'UNKNOWN'") == 1
    assert found("span.type = 'LLM'") == 1
    assert found("trace.text LIKE '%WHY%'") == 1
    assert found("span.content ILIKE '%nowhere%'") == 0
    assert found("trace.name = 'answer' AND execution_time_ms >= 0 AND end_time > 0") == 1
    store = client._tracking_client.store
    own, given = client.get_trace(trace_id), store.get_trace(trace_id)
    assert [s.to_dict() for s in given.data.spans] == [s.to_dict() for s in own.data.spans]
    assert [t.info.trace_id for t in store.batch_get_traces([trace_id, "tr-none"])] == [trace_id]


def test_spans_come_by_opentelemetry_and_are_read_by_the_client(
    face: Face, client: MlflowClient
) -> None:
    body = gzip.compress(exported().SerializeToString())
    sent = face.ask("POST", "/v1/traces", body, {**PROTOBUF, "content-encoding": "gzip"})
    assert (sent.status, sent.content) == (200, b"")

    trace = client.get_trace("tr-" + "01" * 16)

    assert (trace.info.state, trace.info.execution_duration) == ("OK", 2000)
    assert trace.info.request_preview == '{"q":"why"}'
    inner = next(span for span in trace.data.spans if span.name == "inner")
    assert (inner.parent_id, inner.status.description) == ("02" * 8, "broke")
    told = {key: inner.attributes[key] for key in "idbya"}
    assert told == {"i": -5, "d": 0.5, "b": True, "y": "cmF3", "a": ["one"]}
    assert inner.events[0].name == "happened"
    found = client.search_traces(locations=["0"], filter_string="trace.name = 'outer'")
    assert len(found) == 1


def test_spans_that_come_in_pieces_make_one_trace_in_the_end(face: Face) -> None:
    path = f"{T}/tr-{'01' * 16}"
    face.ask("POST", "/v1/traces", exported(root=False).SerializeToString(), PROTOBUF)
    assert face.ask("GET", path).json["trace"]["trace_info"]["state"] == "IN_PROGRESS"

    for _ in range(2):
        face.ask("POST", "/v1/traces", exported().SerializeToString(), PROTOBUF)

    whole = face.ask("GET", f"{T}/get?trace_id=tr-{'01' * 16}").json["trace"]
    assert (whole["trace_info"]["state"], len(whole["spans"])) == ("OK", 2)


def test_pieces_that_come_at_once_never_unmake_a_trace(face: Face) -> None:
    pieces = [exported(root=n % 4 == 0).SerializeToString() for n in range(16)]

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda body: face.ask("POST", "/v1/traces", body, PROTOBUF), pieces))

    assert {one.status for one in told} == {200}
    head = face.ask("GET", f"{T}/tr-{'01' * 16}").json["trace"]["trace_info"]
    assert (head["state"], head["execution_duration"]) == ("OK", "2.000s")


def test_spans_come_as_json_and_belong_to_a_run(face: Face) -> None:
    run = face.post("runs/create", {"experiment_id": "0"}).json["run"]["info"]["run_id"]
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "outer",
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": 3000000000,
        "attributes": [{"key": "n", "value": {"intValue": "7"}}],
        "status": {"code": 2},
    }
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    headers = {"content-type": "application/json", **EXPERIMENT, "x-mlflow-run-id": run}

    assert face.ask("POST", "/v1/traces", body, headers).json == {}

    asked = {"locations": [{"mlflow_experiment": {"experiment_id": "0"}}]}
    asked["filter"] = f"run_id = '{run}'"  # type: ignore[assignment]
    found = face.ask("POST", f"{T}/search", json.dumps(asked).encode()).json["traces"]
    assert [(one["trace_id"], one["state"]) for one in found] == [("tr-" + "ab" * 16, "ERROR")]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (exported().SerializeToString(), {"content-type": "application/x-protobuf"}),
        (exported().SerializeToString(), {**EXPERIMENT, "content-type": "text/plain"}),
        (exported().SerializeToString(), {**PROTOBUF, "content-encoding": "gzip"}),
        (exported().SerializeToString(), {**PROTOBUF, "content-encoding": "br"}),
        (gzip.compress(bytes(65 << 20)), {**PROTOBUF, "content-encoding": "gzip"}),
        (exported().SerializeToString()[:-3], PROTOBUF),
        (b"\xff" * 40, PROTOBUF),
        (b"", PROTOBUF),
        (b"{", {**EXPERIMENT, "content-type": "application/json"}),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz", "spanId": "00"}]}]}]}',
         {**EXPERIMENT, "content-type": "application/json"}),
        (b"{}", {**EXPERIMENT, "content-type": "application/json"}),
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused(face: Face, body: bytes, headers: dict[str, str]) -> None:
    assert face.ask("POST", "/v1/traces", body, headers).told == (400, "INVALID_PARAMETER_VALUE")


def test_values_nested_without_end_are_refused(face: Face) -> None:
    request = exported()
    value = request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="deep").value
    for _ in range(40):
        value = value.array_value.values.add()

    told = face.ask("POST", "/v1/traces", request.SerializeToString(), PROTOBUF).told

    assert told == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "text",
    ["span.colour = 'x'", "span.content = 'x'", "trace.text = 'x'", "prompt LIKE 'x'", "x.y = '1'"],
)
def test_a_filter_that_asks_spans_for_what_they_have_not_is_refused(face: Face, text: str) -> None:
    asked = {"locations": [{"mlflow_experiment": {"experiment_id": "0"}}], "filter": text}
    answered = face.ask("POST", f"{T}/search", json.dumps(asked).encode())
    assert answered.told == (400, "INVALID_PARAMETER_VALUE")


def test_a_file_that_holds_no_spans_is_kept_as_a_file(face: Face) -> None:
    head = {
        "trace_id": "tr-1",
        "trace_location": {"mlflow_experiment": {"experiment_id": "0"}},
        "request_time": "2024-01-01T00:00:00Z",
        "execution_duration": "0.5s",
    }
    face.ask("POST", T, json.dumps({"trace": {"trace_info": head}}).encode())
    place = "/api/2.0/mlflow-artifacts/artifacts/0/traces/tr-1/artifacts/traces.json"

    for body in (b"no json", b'{"spans": [{"trace_id": "!", "span_id": "!"}]}', b'{"spans": 5}'):
        assert face.ask("PUT", place, body).status == 200
        assert face.ask("GET", place).content == body
    assert "spans" not in face.ask("GET", f"{T}/get?trace_id=tr-1").json["trace"]
    head["execution_duration"] = "soon"
    refused = face.ask("POST", T, json.dumps({"trace": {"trace_info": head}}).encode())
    assert refused.told == (400, "INVALID_PARAMETER_VALUE")
