"""A running attempt's reports, as calls of verbs."""

from mainspring.api import runs
from mainspring.api.client import Caller
from mainspring.core.ids import Digest, Id
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import Closed, RunReport


class VerbReports:
    """Reports of one attempt, each with its token."""

    def __init__(self, caller: Caller, project: str, run: Id, token: str) -> None:
        self._call = caller
        self._project = project
        self._run = run
        self._token = token

    def step_outputs(self, key: Digest) -> StepOutputs | None:
        """Give what a step of this key gave before."""
        return self._call(runs.STEP_KNOWN, runs.StepKey(project=self._project, key=key)).outputs

    def record_step(self, *, key: Digest, step: str, outputs: StepOutputs) -> None:
        """Keep a step's outputs under its key."""
        request = runs.StepDone(
            project=self._project,
            run=self._run,
            token=self._token,
            key=key,
            step=step,
            outputs=outputs,
        )
        self._call(runs.STEP_DONE, request)

    def log(self, logged: Logged) -> None:
        """Note something in the run."""
        self._call(
            runs.LOG,
            runs.Log(project=self._project, run=self._run, token=self._token, logged=logged),
        )

    def renew(self) -> None:
        """Give a sign of life."""
        held = runs.Held(project=self._project, run=self._run, token=self._token)
        self._call(runs.RENEW, held)

    def finish(self, report: RunReport) -> Closed:
        """Close the run."""
        request = runs.Close(project=self._project, run=self._run, token=self._token, report=report)
        return self._call(runs.CLOSE, request)
