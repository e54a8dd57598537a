"""The page of one endpoint: how good it is, what was decided on it, and how to decide."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args

import msgspec
import polars as pl
from markupsafe import Markup
from starlette.responses import Response

from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.core.ids import Digest
from mainspring.loop import state
from mainspring.loop.history import Length, WindowHistory, windows
from mainspring.loop.report import EndpointReport, VersionReport
from mainspring.loop.stages import Stages
from mainspring.monitoring.readings import Reading
from mainspring.server.routing import Asked
from mainspring.server.ui import charts, stations
from mainspring.server.ui.charts import Mark, Series, Slot
from mainspring.server.ui.page import page
from mainspring.server.ui.ring import ring
from mainspring.server.ui.telling import base_of, count, number, when
from mainspring.validation.verdict import Finding, Verdict

PATIENCE_S = 0.6
"""Time a look may spend on measuring windows; the rest comes with the next looks."""

LENGTHS: tuple[Length, ...] = get_args(Length)
SHORT_HISTORY = timedelta(days=28)
NOISE = 1.96
RECENT = 8
WINDOWS_AT_MOST = 400
METRICS = ("psi", "ks", "wasserstein", "mean_shift", "new_share", "absent_share")
"""Of a feature's drift, in the order of the table's columns."""


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version with the evidence of its last verdict."""

    report: VersionReport
    tone: str
    live: str
    """When it was live, in words."""
    registered: Any
    findings: tuple[tuple[Finding, Markup], ...]
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class ReadingLine:
    """One number that a monitor reads, with its course."""

    last: Reading
    course: Markup


def show(asked: Asked) -> Response:
    """Show everything on one endpoint."""
    call, name = asked.call, asked.params["name"]
    stages, base = call.project.stages, base_of(call.project.name)
    drawn = ring(stages, name, base)
    length = _length(asked.request.query_params.get("window"), drawn.report)
    history = windows(stages, name, length, patience_s=PATIENCE_S)
    tones = stations.version_tones(drawn.report)
    return page(
        call,
        "endpoint.html",
        ring=drawn,
        report=drawn.report,
        tones=tones,
        arms=stations.arms(drawn.report, tones),
        history=history,
        lengths=LENGTHS,
        length=length,
        pictures=_pictures(history, drawn.report, tones),
        versions=_versions(stages, drawn.report, tones),
        guards=stages.monitoring.state(name).rollout,
        readings=_readings(_read(stages, drawn.report)),
        rows=sum(one.rows for one in history.windows),
        labelled=sum(one.labelled for one in history.windows),
        recent=_recent(stages, name, drawn.report),
        promotable=_promotable(stages, drawn.report),
    )


def _length(wanted: str | None, found: EndpointReport) -> Length:
    if wanted is None:
        begun = found.history[0].since if found.history else found.now
        short = begun is None or found.now is None or found.now - begun < SHORT_HISTORY
        return "1d" if short else "7d"
    if wanted not in LENGTHS:
        raise InvalidInput(f"window {wanted[:20]!r}: expected one of {', '.join(LENGTHS)}")
    return wanted


def _pictures(
    history: WindowHistory, found: EndpointReport, tones: dict[str, str]
) -> dict[str, Markup]:
    seen = history.windows[-WINDOWS_AT_MOST:]
    slots = [Slot(one.start, one.end, _told(one)) for one in seen]
    marks = _marks(found)
    frozen = f"v{history.frozen} frozen"
    noise = [None if w.auc_error is None else NOISE * w.auc_error for w in seen]
    versions = list(dict.fromkeys(part.version for w in seen for part in w.traffic))
    answered = [{part.version: float(part.rows) for part in w.traffic} for w in seen]
    return {
        "auc": charts.lines(
            "Area under the ROC curve by window",
            slots,
            [
                Series(frozen, "frozen", [w.frozen_auc for w in seen], noise),
                Series("served", "served", [w.auc for w in seen]),
            ],
            marks,
        ),
        "loss": charts.lines(
            "Log loss by window",
            slots,
            [
                Series(frozen, "frozen", [w.frozen_log_loss for w in seen]),
                Series("served", "served", [w.log_loss for w in seen]),
            ],
            marks,
        ),
        "rates": charts.lines(
            "Mean score and share of positive labels by window",
            slots,
            [
                Series("labels", "labels", [w.positive_share for w in seen]),
                Series("scores", "served", [w.mean_score for w in seen]),
            ],
            marks,
        ),
        "traffic": charts.stacks(
            "Rows answered by version and window",
            slots,
            [
                (f"v{v}" if v else "none", tones.get(v, "none"), [w.get(v, 0.0) for w in answered])
                for v in versions
            ],
            marks,
        ),
    }


def _told(one: Any) -> str:
    lines = [
        f"{when(one.start)} to {when(one.end)}",
        f"{count(one.rows)} rows, {count(one.labelled)} labelled",
    ]
    if one.auc is not None:
        lines.append(f"AUC {number(one.auc)}, frozen {number(one.frozen_auc)}")
    if one.log_loss is not None:
        lines.append(f"log loss {number(one.log_loss)}, frozen {number(one.frozen_log_loss)}")
    lines += [f"version {part.version or 'none'}: {count(part.rows)}" for part in one.traffic]
    return "\n".join(lines)


def _marks(found: EndpointReport) -> list[Mark]:
    marks = [
        Mark(one.since, "promoted", f"v{one.version}", f"{when(one.since)}: {one.version} live")
        for one in found.history
    ]
    marks += [
        Mark(one.opened, "alarm", "", f"{when(one.opened)}: alarm {one.monitor}. {one.message}")
        for one in found.alarms
    ]
    return marks + [
        Mark(
            one.started, "back", "", f"{when(one.started)}: rollout of {one.candidate}, rolled back"
        )
        for one in found.rollouts
        if one.state == "rolled_back"
    ]


def _versions(stages: Stages, found: EndpointReport, tones: dict[str, str]) -> list[VersionLine]:
    """Give versions newest first, each with its evidence if it can be read."""
    registered = {one.version: one for one in stages.registry.versions(found.name)}
    lived = _lived(found)
    lines = []
    for one in reversed(found.versions):
        verdict = _evidence(stages, one.evidence)
        judged = () if verdict is None else verdict.findings
        lines.append(
            VersionLine(
                report=one,
                tone=tones.get(one.version, "v0"),
                live="; ".join(lived[one.version]),
                registered=registered.get(one.version),
                findings=tuple((each, charts.finding(each)) for each in judged),
                verdict=verdict,
            )
        )
    return lines


def _lived(found: EndpointReport) -> dict[str, list[str]]:
    lived: dict[str, list[str]] = defaultdict(list)
    ends = [one.since for one in found.history[1:]]
    for place, one in enumerate(found.history):
        until = f"{when(ends[place])}" if place < len(ends) else "now"
        lived[one.version].append(f"{when(one.since)} – {until}")
    return lived


def _evidence(stages: Stages, digest: str | None) -> Verdict | None:
    if digest is None:
        return None
    try:
        return msgspec.json.decode(stages.blobs.get(Digest(digest)), type=Verdict)
    except (MainspringError, msgspec.DecodeError):
        # A blob that is gone costs its details, not the page.
        return None


def _read(stages: Stages, found: EndpointReport) -> list[Reading]:
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, found.name)
    return [
        one
        for monitor in spec.monitors
        for one in stations.recent_readings(stages, found.name, monitor, found.now)
    ]


def _readings(found: Sequence[Reading]) -> dict[str, Any]:
    """Give what is read of whole predictions, and of each feature, most moved first."""
    courses: dict[tuple[str, str, str], list[Reading]] = defaultdict(list)
    for one in found:
        courses[one.monitor, one.subject, one.metric].append(one)
    lines = {key: _course(key, course) for key, course in courses.items()}
    features: dict[str, dict[str, ReadingLine]] = defaultdict(dict)
    for (_, subject, metric), line in lines.items():
        if subject:
            features[subject][metric] = line
    metrics = [one for one in METRICS if any(one in each for each in features.values())]
    return {
        "whole": [line for key, line in lines.items() if not key[1]],
        "features": sorted(features.items(), key=lambda item: -_moved(item[1], metrics)),
        "metrics": metrics,
    }


def _course(key: tuple[str, str, str], course: Sequence[Reading]) -> ReadingLine:
    shown = course[-stations.SPARK_WINDOWS :]
    return ReadingLine(
        last=course[-1],
        course=charts.spark(
            f"{key[2]} {key[1]} by window",
            [one.value for one in shown],
            [one.expected for one in shown],
        ),
    )


def _moved(feature: dict[str, ReadingLine], metrics: Sequence[str]) -> float:
    line = feature.get(metrics[0]) if metrics else None
    return 0.0 if line is None else (line.last.value or 0.0) - (line.last.expected or 0.0)


def _recent(stages: Stages, name: str, found: EndpointReport) -> list[dict[str, Any]]:
    """Give a few of the newest predictions, to be traced from."""
    if found.now is None:
        return []
    for hours in (1, 12, 24 * 7):
        frame = stages.monitoring.outcomes(
            name, found.now - timedelta(hours=hours), found.now + timedelta(seconds=1)
        )
        if frame.height >= RECENT:
            break
    return frame.tail(RECENT).reverse().select(pl.all().exclude("corrections")).to_dicts()


def _promotable(stages: Stages, found: EndpointReport) -> list[str]:
    """Give the versions that passed the gate against the live one and are not live."""
    with stages.database.read() as connection:
        spoken = state.verdicts(connection, stages.project, found.name)
    last = {row.candidate: row for row in spoken}
    return [
        version
        for version, row in last.items()
        if row.outcome == "pass" and row.champion == found.live and version != found.live
    ]
