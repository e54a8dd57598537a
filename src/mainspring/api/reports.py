"""A running attempt's reports, as calls of verbs."""

from typing import Protocol, TypeVar

from mainspring.api import attempts
from mainspring.api.verb import Question, Request
from mainspring.core.ids import Digest, Id
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import Closed, RunReport

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")


class Caller(Protocol):
    """Calls a verb: in memory, or over a wire."""

    def __call__(self, verb: Question[Q, A], request: Q) -> A:
        """Give the verb's answer, or raise its error."""
        ...


class VerbReports:
    """Reports of one attempt, each with its token."""

    def __init__(self, caller: Caller, project: str, run: Id, token: str) -> None:
        self._call = caller
        self._project = project
        self._run = run
        self._token = token

    def step_outputs(self, key: Digest) -> StepOutputs | None:
        """Give what a step of this key gave before."""
        asked = attempts.StepKey(project=self._project, key=key)
        return self._call(attempts.STEP_KNOWN, asked).outputs

    def record_step(self, *, key: Digest, step: str, outputs: StepOutputs) -> None:
        """Keep a step's outputs under its key."""
        request = attempts.StepDone(
            project=self._project,
            run=self._run,
            token=self._token,
            key=key,
            step=step,
            outputs=outputs,
        )
        self._call(attempts.STEP_DONE, request)

    def log(self, logged: Logged) -> None:
        """Note something in the run."""
        request = attempts.Log(
            project=self._project, run=self._run, token=self._token, logged=logged
        )
        self._call(attempts.LOG, request)

    def renew(self) -> None:
        """Give a sign of life."""
        self._call(attempts.RENEW, self._held())

    def leave(self) -> None:
        """End the attempt and not the run: the next attempt goes on where this one was."""
        self._call(attempts.LEAVE, self._held())

    def finish(self, report: RunReport) -> Closed:
        """Close the run."""
        request = attempts.Close(
            project=self._project, run=self._run, token=self._token, report=report
        )
        return self._call(attempts.CLOSE, request)

    def _held(self) -> attempts.Held:
        return attempts.Held(project=self._project, run=self._run, token=self._token)
