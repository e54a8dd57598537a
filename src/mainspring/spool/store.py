"""The mlflow client's store for a server, with a spool before all that writes to runs.

Built on mlflow's own: what is not written to a run goes its way, after what was logged before.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any
from uuid import uuid4

import msgspec
from mlflow.entities import (
    Experiment,
    LifecycleStage,
    Run,
    RunData,
    RunInfo,
    RunStatus,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.store.tracking.rest_store import RestStore

from mainspring.core.errors import Unavailable
from mainspring.spool.known import KnownExperiments
from mainspring.spool.line import HttpLine
from mainspring.spool.live import LiveSpool, live_spool, warn
from mainspring.spool.settings import SpoolSettings

ASK_TIMEOUT_S = 3.0
AWAY_S = 0.2
"""How long what reads waits for a server that did not answer when last asked."""

SPOOLED = {
    "LogMetric": "runs/log-metric",
    "LogBatch": "runs/log-batch",
    "LogParam": "runs/log-parameter",
    "SetTag": "runs/set-tag",
    "UpdateRun": "runs/update",
    "LogInputs": "runs/log-inputs",
    "LogOutputs": "runs/outputs",
}
"""The client's requests that are kept and sent later, by the path they go to."""


# The client's classes have no types that hold.
_RestStore: Any = RestStore
_Experiment: Any = Experiment


class SpoolingStore(_RestStore):  # type: ignore[misc]
    """Runs are logged to through a spool; thread-safe and safe to fork."""

    def __init__(
        self, get_host_creds: Callable[[], Any], uri: str, settings: SpoolSettings
    ) -> None:
        super().__init__(get_host_creds)
        self._uri = uri
        self._settings = settings
        self._known = KnownExperiments(settings.root, uri)
        self._runs: dict[str, Run] = {}

    # --- what writes

    def log_metric(self, run_id: str, metric: Any) -> None:
        """Keep one point."""
        self._keep("runs/log-metric", {"run_id": run_id, **_point(metric)})

    def log_batch(
        self, run_id: str, metrics: Iterable[Any], params: Iterable[Any], tags: Iterable[Any]
    ) -> None:
        """Keep many at once; they are logged all or none."""
        body = {
            "run_id": run_id,
            "metrics": [_point(one) for one in metrics],
            "params": _pairs(params),
            "tags": _pairs(tags),
        }
        self._keep("runs/log-batch", body)

    def create_run(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: Sequence[Any],
        run_name: str | None,
    ) -> Any:
        """Begin a run: with the server where it answers soon, else on its behalf.

        Raises:
            MlflowException: The server refuses it.
        """
        spool = self._spool()
        if spool is None or not self._takes_spools(spool):
            return super().create_run(experiment_id, user_id, start_time, tags, run_name)
        begun = self._drawn(experiment_id, user_id, start_time, tags, run_name)
        info = begun.info
        body = {
            "run_id": info.run_id,
            "experiment_id": str(experiment_id),
            "user_id": user_id,
            "start_time": start_time,
            "run_name": info.run_name,
            "tags": _pairs(tags),
        }
        number = spool.append("runs/create", msgspec.json.encode(body))
        self._runs[info.run_id] = begun
        if number is not None and self._settle(spool):
            refusal = spool.sender.refusal(number)
            if refusal is not None:
                del self._runs[info.run_id]
                raise MlflowException(refusal.message, _code(refusal.error_code))
            return self.get_run(info.run_id)
        warn(f"{self._uri} does not answer yet: run {info.run_id} begins without it")
        return begun

    def _call_endpoint(
        self, api: Any, json_body: str | None = None, *more: Any, **named: Any
    ) -> Any:
        """Keep what writes to a run; all else goes behind what was logged before."""
        path = SPOOLED.get(api.DESCRIPTOR.name)
        if path is None or json_body is None:
            spool = self._spool()
            if spool is not None:
                self._settle(spool)
            return super()._call_endpoint(api, json_body, *more, **named)
        body = json.loads(json_body)
        if not self._keep(path, body):
            return super()._call_endpoint(api, json_body, *more, **named)
        response = api.Response()
        if path == "runs/update":
            self._describe(response.run_info, body)
        return response

    # --- what reads

    def get_run(self, run_id: str) -> Any:
        """Give a run as the server has it; while it is away, as far as this process knows it."""
        begun = self._runs.get(run_id)
        spool = self._spool()
        settled = spool is None or self._settle(spool)
        if begun is not None and spool is not None and not settled and self._away(spool):
            return begun
        found = super().get_run(run_id)
        self._runs[run_id] = found
        return found

    def get_experiment(self, experiment_id: str) -> Any:
        """Give an experiment; while the server is away, as it was when it was last asked for."""
        spool = self._spool()
        if spool is not None and self._away(spool):
            found = self._known.by_id(str(experiment_id))
            if found is not None:
                return _Experiment(**found)
        return self._noted(super().get_experiment(experiment_id))

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Give an experiment; while the server is away, as it was when it was last asked for."""
        spool = self._spool()
        if spool is not None and self._away(spool):
            found = self._known.by_name(experiment_name)
            if found is not None:
                return _Experiment(**found)
        found = super().get_experiment_by_name(experiment_name)
        return None if found is None else self._noted(found)

    # --- parts

    def _spool(self) -> LiveSpool | None:
        return live_spool(self._uri, self.get_host_creds, self._settings)

    def _keep(self, path: str, body: dict[str, Any]) -> bool:
        """Put a request into the spool; False where there is none."""
        spool = self._spool()
        if spool is None:
            return False
        spool.append(path, msgspec.json.encode(body))
        return True

    def _settle(self, spool: LiveSpool) -> bool:
        return spool.settle(None if spool.sender.reachable else AWAY_S)

    def _away(self, spool: LiveSpool) -> bool:
        """Tell whether the server does not answer."""
        if spool.line.kind is not None and spool.sender.reachable:
            return False
        try:
            asked = HttpLine(self.get_host_creds, timeout_s=ASK_TIMEOUT_S)
            spool.line.kind = asked.ask()
        except Unavailable:
            return True
        self._known.note_kind(spool.line.kind)
        return False

    def _takes_spools(self, spool: LiveSpool) -> bool:
        """Tell whether the server lets a client draw a run's id."""
        if self._away(spool):
            return self._known.kind() == "mainspring"
        return spool.line.kind == "mainspring"

    def _drawn(
        self,
        experiment_id: str,
        user_id: str,
        start_time: int,
        tags: Sequence[Any],
        run_name: str | None,
    ) -> Run:
        """Give a run as the server will begin it."""
        run = uuid4().hex
        by_key = {tag.key: tag.value for tag in tags}
        name = run_name or by_key.get("mlflow.runName") or f"run-{run[:8]}"
        known = self._known.by_id(str(experiment_id)) or {}
        location = known.get("artifact_location") or f"mlflow-artifacts:/{experiment_id}"
        info = RunInfo(
            run_id=run,
            experiment_id=str(experiment_id),
            user_id=user_id,
            status=RunStatus.to_string(RunStatus.RUNNING),
            start_time=start_time,
            end_time=None,
            lifecycle_stage=LifecycleStage.ACTIVE,
            artifact_uri=f"{location}/{run}/artifacts",
            run_name=name,
        )
        named = RunTag("mlflow.runName", name)
        shown = [*(tag for tag in tags if tag.key != named.key), named]
        return Run(info, RunData(metrics=[], params=[], tags=shown))

    def _describe(self, info: Any, body: dict[str, Any]) -> None:
        """Fill in what a changed run is known to be."""
        begun = self._runs.get(body.get("run_id", ""))
        if begun is not None:
            info.CopyFrom(begun.info.to_proto())
        for field in ("run_id", "run_name"):
            if body.get(field):
                setattr(info, field, body[field])
        if body.get("status"):
            info.status = RunStatus.from_string(body["status"])
        if body.get("end_time"):
            info.end_time = int(body["end_time"])

    def _noted(self, experiment: Any) -> Any:
        self._known.note(
            {
                "experiment_id": experiment.experiment_id,
                "name": experiment.name,
                "artifact_location": experiment.artifact_location,
                "lifecycle_stage": experiment.lifecycle_stage,
            }
        )
        return experiment


def _point(metric: Any) -> dict[str, Any]:
    value = float(metric.value)
    point = {
        "key": metric.key,
        # JSON has no other way to say it.
        "value": value if isfinite(value) else str(value).replace("inf", "Infinity"),
        "timestamp": int(metric.timestamp),
        "step": int(metric.step or 0),
    }
    for field in ("model_id", "dataset_name", "dataset_digest"):
        given = getattr(metric, field, None)
        if given is not None:
            point[field] = given
    return point


def _pairs(values: Iterable[Any]) -> list[dict[str, str]]:
    return [{"key": one.key, "value": str(one.value)} for one in values]


def _code(name: str) -> int:
    known: dict[str, int] = dict(ErrorCode.items())
    return known.get(name, known["INTERNAL_ERROR"])
