"""Assessments, links and counts of traces through the unmodified client."""

import json

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource, Expectation, Feedback
from mlflow.exceptions import MlflowException
from mlflow_face import Face

HUMAN = AssessmentSource(source_type="HUMAN", source_id="somebody")


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three traces of one experiment."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    mlflow.set_experiment("assessed")
    found = []
    for number in range(3):
        with mlflow.start_span(f"call {number}") as span:
            span.set_inputs({"number": number})
        found.append(span.trace_id)
    return found


@pytest.mark.filterwarnings("ignore")
def test_feedback_is_kept_changed_overridden_and_deleted(
    client: MlflowClient, traces: list[str]
) -> None:
    trace = traces[0]

    first = mlflow.log_feedback(
        trace_id=trace, name="right", value=True, source=HUMAN, rationale="looks so",
        metadata={"scorer": "eye"},
    )  # fmt: skip
    assert first.assessment_id is not None
    assert first.valid
    expected = mlflow.log_expectation(
        trace_id=trace, name="answer", value={"text": "WHY"}, source=HUMAN
    )
    changed = mlflow.update_assessment(
        trace_id=trace,
        assessment_id=first.assessment_id,
        assessment=Feedback(name="right", value=False, rationale="not so", metadata={"more": "x"}),
    )
    assert isinstance(changed, Feedback)
    assert (changed.value, changed.rationale) == (False, "not so")
    assert changed.metadata == {"scorer": "eye", "more": "x"}

    second = mlflow.override_feedback(
        trace_id=trace, assessment_id=first.assessment_id, value=True, source=HUMAN
    )
    found = {one.assessment_id: one for one in client.get_trace(trace).info.assessments}
    assert {one: each.valid is not False for one, each in found.items()} == {
        first.assessment_id: False,
        expected.assessment_id: True,
        second.assessment_id: True,
    }
    assert second.assessment_id is not None
    mlflow.delete_assessment(trace_id=trace, assessment_id=second.assessment_id)
    assert mlflow.get_assessment(trace, first.assessment_id).valid
    mlflow.delete_assessment(trace_id=trace, assessment_id=second.assessment_id)
    with pytest.raises(MlflowException, match="not found"):
        mlflow.get_assessment(trace, second.assessment_id)


@pytest.mark.filterwarnings("ignore")
def test_what_is_no_assessment_is_told_and_nothing_changes(
    client: MlflowClient, face: Face, traces: list[str]
) -> None:
    base = f"/api/3.0/mlflow/traces/{traces[0]}/assessments"
    source = {"source_type": "HUMAN", "source_id": "x"}
    wrong = [
        {},
        {"assessment": {}},
        {"assessment": {"assessment_name": "a", "source": source}},
        {"assessment": {"assessment_name": "a", "feedback": {"value": 1}}},
        {"assessment": {"assessment_name": "", "feedback": {"value": 1}, "source": source}},
        {
            "assessment": {
                "assessment_name": "a",
                "feedback": {"value": 1},
                "expectation": {"value": 1},
                "source": source,
            }
        },
    ]
    for body in wrong:
        answered = face.ask("POST", base, json.dumps(body).encode())
        assert answered.told == (400, "INVALID_PARAMETER_VALUE"), body
    absent = mlflow.log_feedback(trace_id=traces[0], name="a", value=1, source=HUMAN)
    one = f"{base}/{absent.assessment_id}"
    for mask in ("", "valid", "expectation"):
        body = {"assessment": {"expectation": {"value": 2}}, "update_mask": mask}
        answered = face.ask("PATCH", one, json.dumps(body).encode())
        assert answered.told == (400, "INVALID_PARAMETER_VALUE"), mask
    assert client.get_trace(traces[0]).info.assessments[0].value == 1
    with pytest.raises(MlflowException, match="not found"):
        mlflow.log_feedback(trace_id="tr-none", name="a", value=1, source=HUMAN)


@pytest.mark.filterwarnings("ignore")
def test_traces_are_found_by_what_was_said_and_told_of_them(
    client: MlflowClient, traces: list[str]
) -> None:
    experiment = client.get_trace(traces[0]).info.experiment_id
    assert experiment is not None
    mlflow.log_feedback(trace_id=traces[0], name="tone", value="good", source=HUMAN)
    mlflow.log_feedback(trace_id=traces[1], name="tone", value="bad", source=HUMAN)
    mlflow.log_assessment(traces[2], Expectation(name="tone", value="good", source=HUMAN))
    with mlflow.start_run() as run, mlflow.start_span("within") as span:
        span.set_inputs({})
    client.link_traces_to_run([traces[1]], run.info.run_id)

    def found(text: str) -> list[str]:
        infos = client.search_traces(
            locations=[experiment], filter_string=text, include_spans=False
        )
        return sorted(one.info.trace_id for one in infos)

    assert found("feedback.tone = 'good'") == [traces[0]]
    assert found("feedback.tone IS NOT NULL") == sorted(traces[:2])
    assert found("expectation.tone = 'good'") == [traces[2]]
    assert found(f"attributes.run_id = '{run.info.run_id}'") == sorted([traces[1], span.trace_id])
    assert found("trace.name = 'call 2'") == [traces[2]]
    assert found(f"metadata.`mlflow.sourceRun` = '{run.info.run_id}'") == [span.trace_id]
    with pytest.raises(MlflowException, match="comparator"):
        found("feedback.tone IN ('a')")


@pytest.mark.filterwarnings("ignore")
def test_filters_are_counted_together(client: MlflowClient, traces: list[str]) -> None:
    experiment = client.get_trace(traces[0]).info.experiment_id
    for trace in traces[:2]:
        client.set_trace_tag(trace, "a", "1")
        client.set_trace_tag(trace, "b", "1")
    store = client._tracing_client.store

    found = store.calculate_trace_filter_correlation([experiment], "tags.a = '1'", "tags.b = '1'")
    none = store.calculate_trace_filter_correlation([experiment], "tags.a = '1'", "tags.c = '1'")

    assert (found.joint_count, found.total_count) == (2, 3)
    assert found.npmi == pytest.approx(1.0)
    assert none.joint_count == 0


@pytest.mark.filterwarnings("ignore")
def test_links_to_what_is_not_there_are_told(client: MlflowClient, traces: list[str]) -> None:
    with pytest.raises(MlflowException, match="not found"):
        client.link_traces_to_run(traces, "0" * 32)
    with mlflow.start_run() as run:
        pass
    with pytest.raises(MlflowException, match="not found"):
        client.link_traces_to_run(["tr-none"], run.info.run_id)
    infos = client._tracing_client.store.batch_get_trace_infos([traces[2], "tr-none", traces[0]])
    assert [one.trace_id for one in infos] == [traces[2], traces[0]]
