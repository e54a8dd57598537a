"""Traces through the unmodified client: code that traces does not fail, and finds them again."""

import json
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_face import Face


@mlflow.trace
def answer(question: str) -> str:
    with mlflow.start_span("look up") as span:
        span.set_inputs({"question": question})
    return question.upper()


# What the client's libraries warn of in each other would end the trace without a word.
@pytest.mark.filterwarnings("ignore")
def test_a_traced_call_is_kept_found_tagged_and_deleted(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    experiment = mlflow.set_experiment("traced").experiment_id

    assert answer("why") == "WHY"
    mlflow.flush_trace_async_logging()
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id is not None

    trace = client.get_trace(trace_id)
    assert {span.name for span in trace.data.spans} == {"answer", "look up"}
    assert str(trace.info.state) in ("OK", "TraceState.OK")
    client.set_trace_tag(trace_id, "kind", "test")
    found = client.search_traces(locations=[experiment], filter_string="tags.kind = 'test'")
    assert [one.info.trace_id for one in found] == [trace_id]
    client.delete_trace_tag(trace_id, "kind")
    assert client.search_traces(locations=[experiment], filter_string="tags.kind = 'test'") == []
    assert client.delete_traces(experiment, trace_ids=[trace_id]) == 1
    with pytest.raises(MlflowException, match="not found"):
        client.get_trace(trace_id)


def test_a_trace_that_is_none_is_told(face: Face) -> None:
    bodies: tuple[dict[str, Any], ...] = (
        {},
        {"trace": {"trace_info": {}}},
        {"trace": {"trace_info": {"trace_id": 5}}},
    )
    for body in bodies:
        answered = face.ask("POST", "/api/3.0/mlflow/traces", json.dumps(body).encode())
        assert answered.told == (400, "INVALID_PARAMETER_VALUE")
    unknown = face.ask("GET", "/api/3.0/mlflow/traces/tr-none")
    assert unknown.told == (404, "RESOURCE_DOES_NOT_EXIST")
