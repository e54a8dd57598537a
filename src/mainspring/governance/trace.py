"""How one prediction came about: features, versions, run, commit, data, gate, rollout, people."""

from collections.abc import Iterator
from typing import Any

import msgspec

from mainspring.core.events import Applied, Fact, Promoted, RolloutStarted
from mainspring.core.ids import Digest, Seq
from mainspring.data.tables import VersionRow
from mainspring.loop import state
from mainspring.loop.stages import Stages
from mainspring.monitoring.predictions import PredictionRecord
from mainspring.registry.versions import ModelVersion
from mainspring.tracking.tracking import Tracking
from mainspring.validation.verdict import Verdict


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One station of the way: lines for people, the same as data for programs."""

    title: str
    lines: tuple[str, ...]
    data: Any


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one prediction, back to its sources."""

    prediction: str
    endpoint: str
    version: str
    sections: tuple[Section, ...]


def trace(stages: Stages, tracking: Tracking, reference: str) -> Trace:
    """Follow one prediction back.

    Args:
        stages: The stages of the prediction's project.
        tracking: Its tracked runs.
        reference: `<prediction id>` or `<prediction id>:<row>`.

    Raises:
        NotFound: It was never answered here, was purged, or is not compacted yet.
    """
    found = stages.monitoring.prediction(reference)
    version = stages.registry.get(found.endpoint, found.version)
    sections = [
        _prediction(found),
        _features(found),
        version_section(version),
        *run_sections(stages, tracking, version),
        *data_sections(stages, version),
        *gate_sections(stages, found.endpoint, version),
        *rollout_sections(stages, found.endpoint, version),
    ]
    return Trace(
        prediction=f"{found.prediction}:{found.row}",
        endpoint=found.endpoint,
        version=found.version,
        sections=tuple(sections),
    )


def _prediction(found: PredictionRecord) -> Section:
    label = "void" if found.void else "none yet" if found.value is None else f"{found.value:g}"
    lines = [
        f"endpoint {found.endpoint}, key {found.key}, event time {found.event_time.isoformat()}",
        f"version {found.version} answered {_number(found.score)} as {found.role} arm"
        + (" after the chosen arm had failed" if found.fallback else ""),
        f"outcome: {label}"
        + (f", known {found.label_arrival.isoformat()}" if found.label_arrival else ""),
    ]
    others = {v: s for v, s in found.outputs.items() if v != found.version}
    for other, score in others.items():
        lines.append(f"version {other} scored the same row: {_number(score)}")
    return Section(
        title=f"prediction {found.prediction}:{found.row}",
        lines=tuple(lines),
        data=msgspec.to_builtins(found),
    )


def _features(found: PredictionRecord) -> Section:
    lines = [f"{name} = {_number(value)}" for name, value in sorted(found.features.items())]
    for view, at in sorted(found.feature_times.items()):
        arrival = found.feature_arrivals.get(view)
        shown = "no value" if at is None else at.isoformat()
        known = f", known {arrival.isoformat()}" if arrival is not None else ""
        lines.append(f"view {view}: value of {shown}{known}")
    return Section(
        title="features that were used",
        lines=tuple(lines),
        data={"values": found.features, "times": msgspec.to_builtins(found.feature_times)},
    )


def version_section(version: ModelVersion) -> Section:
    lines = [
        f"model folder {version.manifest}",
        f"registered by fact {version.seq} on {version.registered.isoformat()}",
    ]
    if version.until is not None:
        lines.append(f"trained on rows before {version.until.isoformat()}")
    if version.as_of is not None:
        lines.append(f"of what was known at {version.as_of.isoformat()}")
    return Section(
        title=f"version {version.model}:{version.version}",
        lines=tuple(lines),
        data=msgspec.to_builtins(version),
    )


def run_sections(stages: Stages, tracking: Tracking, version: ModelVersion) -> Iterator[Section]:
    if version.run is None:
        return
    run = stages.runs.get(version.run)
    tracked = tracking.get(version.run)
    lines = [
        f"pipeline {run.pipeline}, asked by {run.trigger}, opened by fact {run.opened_seq}",
        f"attempt {run.attempt} {run.state}; records digest {run.records}",
        *(f"parameter {name} = {value}" for name, value in sorted(tracked.params.items())),
    ]
    yield Section(title=f"run {run.run}", lines=tuple(lines), data=msgspec.to_builtins(run))
    applied = _declared_before(stages, run.opened_seq)
    if applied is None:
        return
    event = applied.event
    assert isinstance(event, Applied)
    code = event.code or {}
    commit = code.get("commit") or "none (the project lies in no repository)"
    dirty = " with uncommitted changes" if code.get("dirty") else ""
    yield Section(
        title="code",
        lines=(
            f"commit {commit}{dirty}",
            f"declaration {event.digest}, applied by {applied.actor} (fact {applied.seq})",
            f"sources {event.bundle}",
        ),
        data={"commit": code, "declaration": event.digest, "sources": event.bundle},
    )


def _declared_before(stages: Stages, seq: Seq) -> Fact | None:
    found = stages.ledger.facts(
        project=stages.project, kind="project", events=["Applied"], newest_first=True
    )
    return next((fact for fact in found if fact.seq < seq), None)


def data_sections(stages: Stages, version: ModelVersion) -> Iterator[Section]:
    lines, data = [], []
    for dataset, number in sorted(version.pins.items()):
        row = _pinned(stages, dataset, number)
        if row is None:
            lines.append(f"{dataset}: no rows yet")
            continue
        checked = f"{row.quarantined} rows of its last commit in quarantine"
        lines.append(
            f"{dataset} version {row.version}: {row.rows_total} rows, {checked}, "
            f"digest {row.version_digest}, fact {row.seq}"
        )
        data.append(msgspec.to_builtins(row))
    yield Section(title="datasets it was trained on", lines=tuple(lines), data=data)


def _pinned(stages: Stages, dataset: str, number: int) -> VersionRow | None:
    return next((row for row in stages.datasets.versions(dataset) if row.version == number), None)


def gate_sections(stages: Stages, endpoint: str, version: ModelVersion) -> Iterator[Section]:
    with stages.database.read() as connection:
        spoken = [
            row
            for row in state.verdicts(connection, stages.project, endpoint)
            if row.candidate == version.version
        ]
    for row in spoken:
        verdict = msgspec.json.decode(stages.blobs.get(Digest(row.evidence)), type=Verdict)
        against = f"against {', '.join(verdict.compared)}" if verdict.compared else "by its floors"
        yield Section(
            title=f"gate: {row.outcome} {against} (fact {row.seq})",
            lines=(
                f"{verdict.rows} rows held back, {verdict.start} to {verdict.end}",
                *(f"{one.outcome}: {one.sentence}" for one in verdict.findings),
            ),
            data=msgspec.to_builtins(verdict),
        )


def rollout_sections(stages: Stages, endpoint: str, version: ModelVersion) -> Iterator[Section]:
    facts = stages.ledger.facts(
        project=stages.project,
        events=[
            "RolloutStarted", "RolloutAdvanced", "RolloutCompleted", "RolledBack", "Promoted",
            "Approved",
        ],
        limit=10_000,
    )  # fmt: skip
    mine = {
        fact.event.rollout
        for fact in facts
        if isinstance(fact.event, RolloutStarted)
        and fact.event.endpoint == endpoint
        and fact.event.candidate == version.version
    }
    lines = [
        f"fact {fact.seq} by {fact.actor}: {_told(fact)}"
        for fact in facts
        if _speaks_of(fact, mine, endpoint, version.version)
    ]
    yield Section(title="rollout and promotion", lines=tuple(lines), data=sorted(mine))


def _speaks_of(fact: Fact, rollouts: set[Any], endpoint: str, version: str) -> bool:
    event = fact.event
    if isinstance(event, Promoted):
        return event.endpoint == endpoint and event.version == version
    return getattr(event, "rollout", None) in rollouts or (
        type(event).__name__ == "Approved" and getattr(event, "candidate", None) == version
    )


def _told(fact: Fact) -> str:
    plain = msgspec.to_builtins(fact.event)
    shown = ("share", "kind", "step", "started", "at", "reason", "comment", "before")
    parts = [f"{name} {plain[name]}" for name in shown if plain.get(name) is not None]
    return f"{type(fact.event).__name__} ({', '.join(parts)})"


def _number(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "failed" if value is None else str(value)
