"""Runs a pipeline: each step once per key, its outputs kept, its words logged, its lease alive."""

import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from mainspring.core.clock import Instant
from mainspring.core.errors import (
    InvalidInput,
    MainspringError,
    StaleToken,
    StepFailed,
    StorageFull,
    Unavailable,
)
from mainspring.core.ids import Digest, canonical
from mainspring.pipelines.artifact import Artifact, StepOutputs, intact, loaded, stored
from mainspring.pipelines.builtin import flattened
from mainspring.pipelines.context import Logged, LoggedFile, Notes, RunContext, in_run
from mainspring.pipelines.graph import Node, Output, replaced
from mainspring.pipelines.identity import step_key
from mainspring.pipelines.log import RunLog
from mainspring.pipelines.logged_model import LoggedModel
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.run import Closed, ModelFile, RunReport, RunReports
from mainspring.pipelines.sources import Sources
from mainspring.pipelines.step import Step

MESSAGE_LENGTH = 2000
PASSING = (StaleToken, StorageFull, Unavailable)
"""What ends an attempt without ending its run."""

_OWN_FILES = {__file__, Step.invoke.__code__.co_filename}


@dataclass(frozen=True, slots=True)
class StepDone:
    """One node of the graph, done."""

    name: str
    key: Digest | None
    """Null for a step that is never kept."""
    executed: bool
    """False when its outputs were there already."""
    seconds: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a pipeline gave."""

    value: Any
    steps: tuple[StepDone, ...]
    model: ModelFile | None


@dataclass(slots=True)
class _Progress:
    outputs: dict[Output, Artifact] = field(default_factory=dict)
    models: dict[Digest, ModelFile] = field(default_factory=dict)
    steps: list[StepDone] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs pipelines for one attempt of a run, one step after the other.

    Args:
        reports: Where the attempt reports.
        context: The run.
        sources: The project's files.
        log: Gets what the steps print and log.
        beat_s: Seconds between signs of life; well below the lease.
        code_patch: Uncommitted changes of the project folder, kept as an artifact.
    """

    reports: RunReports
    context: RunContext
    sources: Sources
    log: RunLog
    beat_s: float
    code_patch: bytes = b""

    def execute(
        self,
        pipeline: Pipeline[..., Any],
        given: Mapping[str, Any],
        *,
        until: Instant | None = None,
    ) -> Closed:
        """Run a pipeline and close its run with the result, whichever it is.

        Args:
            given: Parameters, and `until`, as for `Pipeline.bind`.

        Raises:
            StaleToken: The attempt is over; a successor does the work.
            StorageFull, Unavailable: The machine is at fault and not the pipeline: the run stays
                open, and the next attempt goes on where this one was.
        """
        try:
            result = self.run(pipeline, pipeline.bind(given, until=until))
            report = RunReport(outcome="finished", model=result.model)
        except PASSING as error:
            self.log.line("", "run", f"this attempt stops: {error}")
            raise
        except MainspringError as error:
            self.log.line("", "run", f"failed: {error}")
            message = f"{error.code}: {error}"[:MESSAGE_LENGTH]
            report = RunReport(outcome="failed", message=message)
        return self.reports.finish(report)

    def run(self, pipeline: Pipeline[..., Any], parameters: Mapping[str, Any]) -> RunResult:
        """Run a pipeline's steps but those whose key is known and whose outputs are intact.

        Raises:
            StepFailed: A step raised; the message names it and the log.
            NotReproducible: A step has no identity.
            StaleToken: The attempt is over.
        """
        graph = pipeline.trace(parameters)
        self.reports.log(self._opening(parameters))
        progress = _Progress()
        for node in graph.nodes:
            self.reports.renew()
            self._do(node, progress)
        value = replaced(graph.result, lambda v: self._value(v, progress.outputs))
        return RunResult(value, tuple(progress.steps), _model(value, progress, pipeline.name))

    def _opening(self, parameters: Mapping[str, Any]) -> Logged:
        environment = canonical(self.context.environment)
        files = {"environment.json": environment, "code.patch": self.code_patch}
        code = self.context.environment.get("code") or {}
        return Logged(
            params=flattened(dict(parameters)),
            tags={
                "mainspring.commit": str(code.get("commit") or "none"),
                "mainspring.dirty": str(bool(code.get("dirty"))).lower(),
            },
            artifacts=tuple(
                LoggedFile(path, self.context.blobs.put(content), len(content))
                for path, content in files.items()
                if content
            ),
        )

    def _do(self, node: Node, progress: _Progress) -> None:
        begun = self.context.clock.monotonic_s()
        key = self._key(node, progress.outputs) if node.step.cache else None
        kept = self._kept(key) if key else None
        if kept is None:
            done = self._executed(node, progress.outputs)
            self._record(node, key, done)
        else:
            done = kept
            self.reports.log(kept.logged)
        for name, artifact in done.results.items():
            progress.outputs[Output(node.index, name)] = artifact
        progress.models |= {
            note.manifest: ModelFile(note.name or self.context.name, note.manifest)
            for note in done.logged.models
        }
        seconds = self.context.clock.monotonic_s() - begun
        progress.steps.append(StepDone(node.name, key, kept is None, seconds))
        how = "kept from before" if kept else f"done in {seconds:.2f} s"
        self.log.line(node.name, "run", f"{how}, key {key or 'none'}")

    def _key(self, node: Node, outputs: Mapping[Output, Artifact]) -> Digest:
        outside = node.step.identity
        arguments = replaced(dict(node.arguments), lambda v: self._concrete(v, outputs, outside))
        return step_key(
            node.step,
            arguments,
            inputs=lambda output: outputs[output].identity,
            sources=self.sources,
            outside=outside(self.context, arguments) if outside else None,
        )

    def _concrete(self, value: Any, outputs: Mapping[Output, Artifact], outside: object) -> Any:
        # A built-in step's identity reads its arguments, so they are loaded for it.
        return self._value(value, outputs) if outside else value

    def _kept(self, key: Digest) -> StepOutputs | None:
        found = self.reports.step_outputs(key)
        if found is None:
            return None
        whole = [intact(artifact, self.context.blobs) for artifact in found.results.values()]
        return found if all(whole) else None

    def _executed(self, node: Node, outputs: Mapping[Output, Artifact]) -> StepOutputs:
        arguments = replaced(dict(node.arguments), lambda value: self._value(value, outputs))
        context = replace(self.context, notes=Notes(), step=node.name)
        with _Beat(self.reports, self.beat_s) as beat:
            values = self._invoked(node.step, node.name, arguments, context)
            subject = f"step {node.name!r}"
            results = {
                name: stored(value, context.blobs, subject=subject)
                for name, value in values.items()
            }
        beat.check()
        return StepOutputs(results, context.notes.logged())

    def _invoked(
        self, step: Step[..., Any], name: str, arguments: Mapping[str, Any], context: RunContext
    ) -> dict[str, Any]:
        try:
            with in_run(context), self.log.capturing(name):
                return step.invoke(arguments)
        except PASSING:
            raise
        except (Exception, SystemExit) as error:
            # The frames of the runner and of the step's wrapper say nothing to its author.
            trace = error.__traceback__
            while trace is not None and trace.tb_frame.f_code.co_filename in _OWN_FILES:
                trace = trace.tb_next
            self.log.line(name, "error", "".join(traceback.format_exception(None, error, trace)))
            raise StepFailed(
                f"run {context.run}: step {name!r} raised {type(error).__name__}: {error}; the "
                f"trace is in the run's log {self.log.path.name}; correct the step and start anew"
            ) from error

    def _record(self, node: Node, key: Digest | None, done: StepOutputs) -> None:
        if key is None:
            self.reports.log(done.logged)
        else:
            self.reports.record_step(key=key, step=node.name, outputs=done)

    def _value(self, value: Any, outputs: Mapping[Output, Artifact]) -> Any:
        return loaded(outputs[value], self.context.blobs) if isinstance(value, Output) else value


class _Beat:
    """Gives signs of life from a thread while a step works."""

    def __init__(self, reports: RunReports, beat_s: float) -> None:
        self._reports = reports
        self._beat_s = beat_s
        self._stop = threading.Event()
        self._lost: StaleToken | None = None
        self._thread = threading.Thread(target=self._beats, name="run-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def check(self) -> None:
        """Stop an attempt whose successor has begun."""
        if self._lost is not None:
            raise StaleToken(*self._lost.args) from self._lost

    def _beats(self) -> None:
        while not self._stop.wait(self._beat_s):
            try:
                self._reports.renew()
            except StaleToken as error:
                self._lost = error
                return
            except MainspringError:
                # The control plane may be restarting; the lease outlasts several beats.
                continue


def _model(value: Any, progress: _Progress, pipeline: str) -> ModelFile | None:
    """Choose the model that the run registers: the one returned, or the only one logged."""
    logged = progress.models
    if isinstance(value, LoggedModel):
        if value.manifest not in logged:
            raise InvalidInput(
                f"pipeline {pipeline!r}: it returns a model that none of its steps logged; return "
                "what log_model gave"
            )
        return logged[value.manifest]
    if len(logged) > 1:
        raise InvalidInput(
            f"pipeline {pipeline!r}: found {len(logged)} logged models and none returned, expected "
            "one; return the one to register"
        )
    return next(iter(logged.values()), None)
