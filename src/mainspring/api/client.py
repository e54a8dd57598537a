"""Every verb as a typed call: what commands, notebooks and drivers use."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from mainspring.api import arrow, data, endpoints, feed, ledger, models, project
from mainspring.api import runs as verbs
from mainspring.api.attempts import Named
from mainspring.api.reports import Caller
from mainspring.api.verb import Request
from mainspring.core.errors import InvalidInput, MainspringError, NotFound, TimedOut
from mainspring.core.events import Committed
from mainspring.core.ids import Id
from mainspring.data.writing import CommitLease, RowWriter
from mainspring.governance.audit import AuditAnswer
from mainspring.governance.card import ModelCard
from mainspring.governance.comparison import Comparison
from mainspring.governance.trace import Trace
from mainspring.loop.declaration import read_declaration
from mainspring.loop.history import Length, WindowHistory
from mainspring.loop.report import EndpointReport
from mainspring.monitoring.labels import Label

PATIENCE_S = 3600.0
"""How long a call waits for the loop to settle: trainings take their time."""

FOLLOW_PAUSE_S = 0.2


class Client:
    """The verbs of one project.

    Args:
        caller: How verbs are called.
        writer: Writes the rows of commits from this process.
        project_name: Project spoken of.
    """

    def __init__(self, caller: Caller, writer: RowWriter, project_name: str) -> None:
        self._call = caller
        self._writer = writer
        self._project = project_name

    # --- the project

    def apply(self, file: Path) -> project.ApplyDone:
        """Record what a project file declares; the same again changes nothing."""
        declared = read_declaration(file)
        return self._call(project.APPLY, project.Apply(project=self._project, declaration=declared))

    def status(self) -> endpoints.Statuses:
        """Say what every endpoint serves, does and waits for."""
        return self._call(endpoints.STATUS, Request(project=self._project))

    # --- data

    def commit(self, dataset: str, frame: pl.DataFrame, *, token: str) -> Committed:
        """Commit rows as a new version; the same token again has no second effect."""
        attempt = secrets.token_hex(16)
        asked = data.Begin(project=self._project, dataset=dataset, token=token, attempt=attempt)
        begun = self._call(data.BEGIN, asked)
        if begun.done is not None:
            return begun.done
        assert begun.lease is not None
        try:
            written = self._writer.write(begun.lease, frame)
        except BaseException:
            self._abandon(begun.lease)
            raise
        finished = data.Finish(project=self._project, lease=begun.lease, written=written)
        return self._call(data.FINISH, finished)

    def _abandon(self, lease: CommitLease) -> None:
        """Give a commit up, so that the next need not wait; else its lease ends by itself."""
        with suppress(MainspringError):
            self._call(data.ABANDON, data.Abandon(project=self._project, lease=lease))

    def commit_file(self, dataset: str, file: Path, *, token: str | None) -> Committed:
        """Commit a file's rows; without a token, the file's digest is the writer's name."""
        content = _content(file)
        if token is None:
            token = f"file-{hashlib.sha256(content).hexdigest()[:32]}:1"
        return self.commit(dataset, read_table(file, content), token=token)

    def versions(self, dataset: str) -> data.Versions:
        """List a dataset's versions, oldest first."""
        return self._call(data.LOG, data.Named(project=self._project, dataset=dataset))

    def rows(self, dataset: str, *, version: int | None, limit: int) -> data.RowsAnswer:
        """Give the last rows of a version."""
        request = data.Rows(project=self._project, dataset=dataset, version=version, limit=limit)
        return self._call(data.SHOW, request)

    def quarantined(self, dataset: str, *, version: int | None, limit: int) -> data.RowsAnswer:
        """Give refused rows with their reasons."""
        request = data.Rows(project=self._project, dataset=dataset, version=version, limit=limit)
        return self._call(data.QUARANTINE, request)

    # --- the source's side

    def push(
        self, dataset: str, frame: pl.DataFrame, *, until: datetime, token: str
    ) -> feed.Pushed:
        """Push rows for the online features."""
        request = feed.Push(
            project=self._project,
            dataset=dataset,
            rows=arrow.encode(frame),
            until=until,
            token=token,
        )
        return self._call(feed.PUSH, request)

    def label(self, endpoint: str, labels: Sequence[Label], *, token: str) -> feed.Labelled:
        """Send outcomes of predictions."""
        request = feed.Labels(
            project=self._project, endpoint=endpoint, token=token, labels=tuple(labels)
        )
        return self._call(feed.LABEL, request)

    def advance(
        self,
        endpoint: str,
        until: datetime,
        *,
        settle: bool = True,
        patience_s: float = PATIENCE_S,
    ) -> feed.Advanced:
        """Move the watermark on and wait until the loop is settled, or a step of it fails.

        Raises:
            TimedOut: It took longer than the patience; the watermark has moved all the same.
        """
        request = feed.Advance(project=self._project, endpoint=endpoint, until=until, settle=settle)
        ends = time.monotonic() + patience_s
        steps: tuple[str, ...] = ()
        while True:
            left = ends - time.monotonic()
            wait_s = min(max(left, 0.0), request.wait_s)
            answer = self._call(feed.ADVANCE, msgspec.structs.replace(request, wait_s=wait_s))
            steps += answer.steps
            if answer.settled or answer.error is not None or not settle:
                return msgspec.structs.replace(answer, steps=steps)
            if left <= 0:
                raise _impatient(endpoint, answer.waiting, patience_s)

    def watermark(self, endpoint: str) -> datetime | None:
        """Say up to where an endpoint's source has delivered."""
        request = endpoints.Name(project=self._project, endpoint=endpoint)
        return self._call(feed.WATERMARK, request).watermark

    # --- runs

    def start_run(
        self,
        endpoint: str,
        parameters: Sequence[str],
        *,
        token: str | None,
        patience_s: float = PATIENCE_S,
    ) -> verbs.Started:
        """Train a candidate now and wait until the loop is settled; parameters are `name=value`.

        Raises:
            TimedOut: It took longer than the patience; the run goes on.
        """
        request = verbs.Start(
            project=self._project,
            endpoint=endpoint,
            parameters=parse_parameters(parameters),
            # Asked again after a lost answer, or to go on waiting, it is the same run.
            token=token or secrets.token_hex(16),
        )
        ends = time.monotonic() + patience_s
        while True:
            left = ends - time.monotonic()
            wait_s = min(max(left, 0.0), request.wait_s)
            answer = self._call(verbs.START, msgspec.structs.replace(request, wait_s=wait_s))
            if answer.settled or answer.error is not None:
                return answer
            if left <= 0:
                raise _impatient(endpoint, answer.waiting, patience_s)

    def cancel_run(self, run: str, comment: str) -> verbs.RunDetail:
        """Close an open run as cancelled and stop its process."""
        request = verbs.Cancel(project=self._project, run=Id(run), comment=comment)
        return self._call(verbs.CANCEL, request)

    def run_output(self, run: str, *, follow: bool = False) -> Iterator[str]:
        """Give a run's log line by line; following, until the run has ended."""
        request = verbs.Output(project=self._project, run=Id(run))
        while True:
            answer = self._call(verbs.OUTPUT, request)
            yield from answer.lines
            if answer.ended or not (answer.lines or follow):
                return
            if not answer.lines:
                time.sleep(FOLLOW_PAUSE_S)
            request = msgspec.structs.replace(request, offset=answer.next)

    def runs(self, endpoint: str | None = None) -> verbs.Runs:
        """List runs, newest first."""
        return self._call(verbs.LIST, verbs.Listed(project=self._project, endpoint=endpoint))

    def run(self, run: str) -> verbs.RunDetail:
        """Show one run."""
        return self._call(verbs.SHOW, Named(project=self._project, run=Id(run)))

    # --- endpoints

    def endpoint(self, name: str) -> EndpointReport:
        """Report an endpoint."""
        return self._call(endpoints.SHOW, endpoints.Name(project=self._project, endpoint=name))

    def windows(self, name: str, window: Length = "7d") -> WindowHistory:
        """Report traffic and quality by window, against the first version, frozen."""
        request = endpoints.Windows(project=self._project, endpoint=name, window=window)
        return self._call(endpoints.WINDOWS, request)

    def counts(self, name: str) -> endpoints.CountsAnswer:
        """Count an endpoint's predictions, labels and outcomes."""
        return self._call(endpoints.COUNTS, endpoints.Name(project=self._project, endpoint=name))

    def answer_approval(
        self, name: str, version: str, agree: bool, comment: str, *, expect: int | None = None
    ) -> endpoints.Decided:
        """Agree to a rollout that waits for a person, or decline it."""
        return self._call(
            endpoints.APPROVE if agree else endpoints.REJECT,
            self._decision(name, version, comment, expect),
        )

    def promote(
        self, name: str, version: str, comment: str, *, expect: int | None = None
    ) -> endpoints.Decided:
        """Make a version live at once that has passed the gate."""
        return self._call(endpoints.PROMOTE, self._decision(name, version, comment, expect))

    def roll_back(self, name: str, comment: str) -> endpoints.Decided:
        """End the open rollout."""
        request = endpoints.RollBack(project=self._project, endpoint=name, comment=comment)
        return self._call(endpoints.ROLL_BACK, request)

    # --- the record

    def events(
        self, *, after: int = 0, limit: int = 100, subject: str | None = None
    ) -> ledger.Facts:
        """List facts, oldest first."""
        request = ledger.Events(project=self._project, after=after, limit=limit, subject=subject)
        return self._call(ledger.EVENTS, request)

    def verify(self) -> AuditAnswer:
        """Check that the record is whole."""
        return self._call(ledger.VERIFY, Request(project=self._project))

    def trace(self, prediction: str) -> Trace:
        """Follow one prediction back."""
        request = ledger.Prediction(project=self._project, prediction=prediction)
        return self._call(ledger.TRACE, request)

    def diff(self, run: str, other: str) -> Comparison:
        """Say what two runs differ in."""
        request = verbs.Two(project=self._project, run=Id(run), other=Id(other))
        return self._call(verbs.DIFF, request)

    def card(self, model: str, version: str) -> ModelCard:
        """Write the card of a model's version."""
        request = models.OfVersion(project=self._project, model=model, version=version)
        return self._call(models.CARD, request)

    def _decision(
        self, name: str, version: str, comment: str, expect: int | None
    ) -> endpoints.Decision:
        return endpoints.Decision(
            project=self._project,
            endpoint=name,
            version=version,
            comment=comment,
            expect=expect,
        )


def _impatient(endpoint: str, waiting: str, patience_s: float) -> TimedOut:
    return TimedOut(
        f"endpoint {endpoint!r}: its loop is not settled after {patience_s:g} s ({waiting}); it "
        "goes on: ask again, or see `mainspring status`"
    )


def read_table(file: Path, content: bytes) -> pl.DataFrame:
    """Read CSV, Parquet or newline-delimited JSON; texts that are instants become such.

    Args:
        file: Where it lay; its ending says which it is.
        content: The bytes.
    """
    try:
        match file.suffix.lower():
            case ".csv":
                frame = _instants(pl.read_csv(content, infer_schema_length=None))
                if frame.is_empty():
                    raise InvalidInput(f"file {file.name}: found no rows below its header")
                return frame
            case ".parquet":
                return pl.read_parquet(content)
            case ".jsonl" | ".ndjson":
                return _instants(pl.read_ndjson(content, infer_schema_length=None))
            case other:
                raise InvalidInput(
                    f"file {file.name}: found the ending {other!r}, expected .csv, .parquet or "
                    ".jsonl"
                )
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        said = str(error).strip().splitlines() or ["no reason given"]
        raise InvalidInput(
            f"file {file.name}: its rows cannot be read ({said[0]}); correct the file"
        ) from error


def _content(file: Path) -> bytes:
    if not file.is_file():
        raise NotFound(f"file {file}: there is none; check the path")
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"file {file}: cannot be read ({error}); check its rights") from error


def _instants(frame: pl.DataFrame) -> pl.DataFrame:
    """Read text columns as UTC instants when every value is an RFC 3339 one."""
    read = {}
    for name, kind in frame.schema.items():
        if kind != pl.String:
            continue
        parsed = frame[name].str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
        if frame.height and parsed.null_count() == frame[name].null_count() < frame.height:
            read[name] = parsed
    return frame.with_columns(**read)


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` pairs; a value is JSON, or else text.

    >>> parse_parameters(["depth=6", "plant=swapped"])
    {'depth': 6, 'plant': 'swapped'}
    """
    parameters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InvalidInput(f"parameter {text!r}: expected name=value")
        try:
            parameters[name] = json.loads(value)
        except json.JSONDecodeError:
            parameters[name] = value
    return parameters
