"""Runs as MLflow's clients read them."""

from collections.abc import Iterable

from mainspring.server.mlflow.wire import Int64, KeyValue, Message, Text, listed, number
from mainspring.tracking.inputs import DatasetUsed
from mainspring.tracking.limits import millis
from mainspring.tracking.run import NAME_TAG, FoundRun, Point, RunRow, Status

_STATUS: dict[Status, str] = {
    "running": "RUNNING",
    "scheduled": "SCHEDULED",
    "finished": "FINISHED",
    "failed": "FAILED",
    "killed": "KILLED",
    "expired": "KILLED",
    "cancelled": "KILLED",
}
STATUSES: dict[str, Status] = {
    "RUNNING": "running",
    "SCHEDULED": "scheduled",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
    "1": "running",
    "2": "scheduled",
    "3": "finished",
    "4": "failed",
    "5": "killed",
}
"""What clients may set, by name or by its number in the protocol."""


class RunInfo(Message, frozen=True, kw_only=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None = None
    artifact_uri: str
    lifecycle_stage: str


class Metric(Message, frozen=True, kw_only=True):
    key: str
    value: float | str
    timestamp: int
    step: int
    run_id: str | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class RunData(Message, frozen=True, kw_only=True):
    metrics: tuple[Metric, ...] = ()
    params: tuple[KeyValue, ...] = ()
    tags: tuple[KeyValue, ...] = ()


class Dataset(Message, frozen=True, kw_only=True):
    name: Text
    digest: Text
    source_type: Text
    source: Text
    schema: str | None = None
    profile: str | None = None


class DatasetInput(Message, frozen=True, kw_only=True):
    dataset: Dataset
    tags: tuple[KeyValue, ...] | None = None


class ModelInput(Message, frozen=True, kw_only=True):
    model_id: Text


class ModelOutput(Message, frozen=True, kw_only=True):
    model_id: Text
    step: Int64 | None = None


class RunInputs(Message, frozen=True, kw_only=True):
    dataset_inputs: tuple[DatasetInput, ...] = ()
    model_inputs: tuple[ModelInput, ...] = ()


class RunOutputs(Message, frozen=True, kw_only=True):
    model_outputs: tuple[ModelOutput, ...] = ()


class Run(Message, frozen=True, kw_only=True):
    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs | None = None


def info_of(run: RunRow) -> RunInfo:
    """Show a run's head."""
    return RunInfo(
        run_id=run.run,
        run_uuid=run.run,
        run_name=run.name,
        experiment_id=run.experiment,
        user_id=run.person,
        status=_STATUS[run.status],
        start_time=millis(run.started),
        end_time=None if run.ended is None else millis(run.ended),
        artifact_uri=run.location,
        lifecycle_stage="active" if run.deleted is None else "deleted",
    )


def run_of(run: FoundRun) -> Run:
    """Show a run with what was logged to it."""
    inputs = run.inputs
    made = tuple(ModelOutput(model_id=link.model, step=link.step) for link in inputs.made)
    return Run(
        info=info_of(run),
        data=RunData(
            metrics=metrics_of(run.metrics.values()),
            params=listed(run.params),
            # A pipeline's run has a name and no tag of it; clients look for the tag.
            tags=listed({NAME_TAG: run.name, **run.tags}),
        ),
        inputs=RunInputs(
            dataset_inputs=tuple(_dataset(one) for one in inputs.datasets),
            model_inputs=tuple(ModelInput(model_id=link.model) for link in inputs.read),
        ),
        outputs=RunOutputs(model_outputs=made) if made else None,
    )


def metrics_of(points: Iterable[Point], run: str | None = None) -> tuple[Metric, ...]:
    """Show points of metrics."""
    return tuple(
        Metric(
            key=point.key,
            value=number(point.value),
            timestamp=point.at_ms,
            step=point.step,
            run_id=run,
        )
        for point in points
    )


def _dataset(used: DatasetUsed) -> DatasetInput:
    dataset = Dataset(
        name=used.name,
        digest=used.digest,
        source_type=used.source_type,
        source=used.source,
        schema=used.schema,
        profile=used.profile,
    )
    return DatasetInput(dataset=dataset, tags=listed(used.tags))
