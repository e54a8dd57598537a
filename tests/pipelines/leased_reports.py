"""Reports of an attempt straight to the runs' verbs, for tests of this room alone."""

from dataclasses import dataclass

from mainspring.core.ids import Digest, Id
from mainspring.pipelines.artifact import StepOutputs
from mainspring.pipelines.context import Logged
from mainspring.pipelines.run import Closed, RunReport
from mainspring.pipelines.runs import Runs
from mainspring.store.leases import Lease


@dataclass(frozen=True, slots=True)
class LeasedReports:
    """Reports of one attempt, made in memory."""

    runs: Runs
    lease: Lease
    actor: str

    @property
    def run(self) -> Id:
        """The run reported on."""
        return Id(self.lease.name)

    def step_outputs(self, key: Digest) -> StepOutputs | None:
        return self.runs.step_outputs(key)

    def record_step(self, *, key: Digest, step: str, outputs: StepOutputs) -> None:
        self.runs.record_step(self.run, token=self.lease.token, key=key, step=step, outputs=outputs)

    def log(self, logged: Logged) -> None:
        self.runs.log(self.run, token=self.lease.token, logged=logged)

    def renew(self) -> None:
        self.runs.renew(self.run, token=self.lease.token)

    def finish(self, report: RunReport) -> Closed:
        return self.runs.close(self.run, token=self.lease.token, report=report, actor=self.actor)
