"""What two runs differ in: code, data, parameters, environment, metrics, artifacts, tags.

Of all that is recorded of them, but for what every run has of its own: ids, names and wall times.
"""

from collections.abc import Iterator, Mapping
from math import isnan
from typing import Any, Literal

import msgspec

from mainspring.core.errors import NotFound
from mainspring.core.ids import Id
from mainspring.loop.stages import Stages
from mainspring.pipelines.run import RunRow
from mainspring.tracking.run import NAME_TAG, TrackedRun
from mainspring.tracking.tracking import Tracking

Part = Literal["code", "data", "parameter", "environment", "metric", "artifact", "tag", "run"]

ENVIRONMENT = "environment.json"
_CODE = ("mainspring.commit", "mainspring.dirty", "mlflow.source.git.", "mlflow.source.name")
_OF_ITS_OWN = (NAME_TAG, "mlflow.log-model.history", "mlflow.parentRunId", "mlflow.runName")
_EMPTY: Mapping[str, Any] = {}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not the same in two runs; None where one has none."""

    part: Part
    name: str
    first: str | None
    second: str | None
    change: float | None = None
    """Of numbers: second minus first."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What two runs differ in; nothing where all that is recorded is the same."""

    first: str
    second: str
    differences: tuple[Difference, ...]


def compare(stages: Stages, tracking: Tracking, first: Id, second: Id) -> Comparison:
    """Compare two runs, of pipelines or of mlflow's clients.

    Raises:
        NotFound: There is no such run.
    """
    one, other = tracking.get(first), tracking.get(second)
    rows = [_row(stages, run) for run in (one, other)]
    found = [
        *_apart("code", _code(one), _code(other)),
        *_apart("data", _data(one, rows[0]), _data(other, rows[1])),
        *_apart("parameter", one.params, other.params),
        *_apart("environment", _environment(stages, one), _environment(stages, other)),
        *_metrics(one, other),
        *_apart("artifact", _artifacts(one), _artifacts(other)),
        *_apart("tag", _tags(one), _tags(other)),
        *_apart("run", _head(one, rows[0]), _head(other, rows[1])),
    ]
    return Comparison(first=one.run, second=other.run, differences=tuple(found))


def _apart(
    part: Part, first: Mapping[str, object], second: Mapping[str, object]
) -> Iterator[Difference]:
    for name in sorted(first.keys() | second.keys()):
        one, other = first.get(name), second.get(name)
        if one != other:
            yield Difference(part=part, name=name, first=_text(one), second=_text(other))


def _metrics(first: TrackedRun, second: TrackedRun) -> Iterator[Difference]:
    for name in sorted(first.metrics.keys() | second.metrics.keys()):
        one, other = first.metrics.get(name), second.metrics.get(name)
        if one is None or other is None:
            values = [None if point is None else repr(point.value) for point in (one, other)]
            yield Difference(part="metric", name=name, first=values[0], second=values[1])
        elif one.value != other.value and not (isnan(one.value) and isnan(other.value)):
            yield Difference(
                part="metric",
                name=name,
                first=repr(one.value),
                second=repr(other.value),
                change=other.value - one.value,
            )


def _code(run: TrackedRun) -> dict[str, object]:
    return {name: value for name, value in run.tags.items() if name.startswith(_CODE)}


def _tags(run: TrackedRun) -> dict[str, object]:
    left_out = (*_CODE, *_OF_ITS_OWN)
    return {name: value for name, value in run.tags.items() if not name.startswith(left_out)}


def _data(run: TrackedRun, row: RunRow | None) -> dict[str, object]:
    found: dict[str, object] = {}
    for used in run.inputs.datasets:
        role = used.tags.get("mlflow.data.context", "")
        found[f"{used.name} {role}".strip()] = used.digest
    if row is not None:
        found |= {name: f"version {number}" for name, number in row.pins.items()}
        found |= {"inputs": row.inputs, "rows until": row.until, "known at": row.as_of}
    return found


def _head(run: TrackedRun, row: RunRow | None) -> dict[str, object]:
    found: dict[str, object] = {"status": run.status, "experiment": run.experiment}
    if row is not None:
        found |= {"pipeline": row.pipeline, "endpoint": row.endpoint, "trigger": row.trigger}
    return found


def _artifacts(run: TrackedRun) -> dict[str, object]:
    # What the environment is made of is compared by itself.
    return {
        path: file.digest
        for path, file in run.artifacts.items()
        if path.rpartition("/")[2] != ENVIRONMENT
    }


def _environment(stages: Stages, run: TrackedRun) -> dict[str, object]:
    file = run.artifacts.get(ENVIRONMENT)
    if file is None:
        return {}
    try:
        recorded = msgspec.json.decode(stages.blobs.get(file.digest))
    except (NotFound, msgspec.MsgspecError):
        return {ENVIRONMENT: file.digest}
    found: dict[str, object] = {}
    for name, value in (recorded if isinstance(recorded, dict) else _EMPTY).items():
        if isinstance(value, dict):
            found |= {f"{name} {inner}": told for inner, told in value.items()}
        else:
            found[name] = value
    return found


def _row(stages: Stages, run: TrackedRun) -> RunRow | None:
    try:
        return stages.runs.get(run.run)
    except NotFound:
        # A client's run, of no pipeline.
        return None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
