"""The eight stations of an endpoint's loop: what each has, in a few words."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from markupsafe import Markup

from mainspring.core.clock import duration
from mainspring.loop.report import AlarmReport, EndpointReport, RolloutReport
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.monitoring.guards import GuardVerdict, RolloutVerdict
from mainspring.monitoring.readings import Reading
from mainspring.monitoring.spec import Loss, Monitor
from mainspring.pipelines.run import OpenRun, RunRow
from mainspring.server.ui import charts
from mainspring.server.ui.telling import asked_by, count, number, when

Tone = Literal["plain", "good", "warn", "bad", "doing"]
LINES = 3
NO_PICTURE = Markup("")
SPARK_WINDOWS = 40
"""Windows whose readings are drawn."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A version that answers, with its share."""

    version: str
    share: float
    tone: str


@dataclass(frozen=True, slots=True)
class Station:
    """One place of the ring.

    Attributes:
        says: Its state in a few words.
        lines: Details, each short.
        picture: A bar or a small line, if one says more.
        reason: A long sentence, shown below the lines.
    """

    name: str
    says: str
    href: str
    tone: Tone = "plain"
    lines: tuple[str, ...] = ()
    picture: Markup = NO_PICTURE
    reason: str = ""
    active: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What the stations of one endpoint are drawn from, read once."""

    base: str
    spec: Endpoint
    report: EndpointReport
    runs: tuple[RunRow, ...]
    run: OpenRun | None
    asks: str | None
    candidate: str | None
    guards: RolloutVerdict | None
    tones: dict[str, str]

    @property
    def page(self) -> str:
        return f"{self.base}/endpoints/{self.spec.name}"

    @property
    def rollout(self) -> RolloutReport | None:
        return next((one for one in reversed(self.report.rollouts) if one.state == "open"), None)

    @property
    def alarms(self) -> tuple[AlarmReport, ...]:
        return tuple(one for one in self.report.alarms if one.ended is None)


def stations(stages: Stages, seen: Seen) -> tuple[Station, ...]:
    """Give all stations in the order in which the loop turns."""
    return (
        _data(stages, seen),
        _features(stages, seen),
        _run(seen),
        _gate(seen),
        _rollout(seen),
        _live(seen),
        _monitors(stages, seen),
        _alarm(seen),
    )


def version_tones(found: EndpointReport) -> dict[str, str]:
    """Give each version its class of colour; the first that was live is grey everywhere."""
    order = [one.version for one in found.history] + [one.version for one in found.versions]
    return {
        version: "v0" if place == 0 else f"v{(place - 1) % 7 + 1}"
        for place, version in enumerate(dict.fromkeys(order))
    }


def _data(stages: Stages, seen: Seen) -> Station:
    views = stages.features.views()
    sources = [views[name].source for name in seen.spec.features if name in views]
    names = list(dict.fromkeys([seen.spec.rows, seen.spec.label.source, *sources]))
    lines, put, held, newest = [], 0, 0, None
    for name in names:
        versions = stages.datasets.versions(name)
        if not versions:
            lines.append(f"{name}: no rows yet")
            continue
        last = versions[-1]
        held += 1
        newest = last.at if newest is None else max(newest, last.at)
        put += sum(one.quarantined for one in versions)
        lines.append(f"{name} v{last.version} · {count(last.rows_total)} rows")
    return Station(
        "data",
        f"{held} of {len(names)} datasets have rows" if held < len(names) else "all datasets fed",
        f"{seen.base}/data",
        tone="warn" if held < len(names) else "plain",
        lines=_short(lines),
        reason=f"{count(put)} rows in quarantine" if put else "",
    )


def _features(stages: Stages, seen: Seen) -> Station:
    if not seen.spec.features:
        return Station("features", "the request's own columns", seen.page)
    views, pushed = stages.features.views(), stages.features.pushed()
    lines, fed = [], 0
    for name in seen.spec.features:
        view = views[name]
        until = pushed.get(view.source)
        fed += until is not None
        grid = f" every {view.every}" if view.every else ""
        lines.append(f"{name}{grid} · to {when(until)}" if until else f"{name}: nothing pushed")
    many = len(seen.spec.features)
    says = f"{many} view{'s' if many > 1 else ''} online" if fed == many else f"{fed} of {many} fed"
    return Station(
        "features", says, f"{seen.base}/data", "plain" if fed == many else "warn", _short(lines)
    )


def _run(seen: Seen) -> Station:
    href = f"{seen.base}/runs"
    if not seen.runs:
        return Station("run", "none yet", href)
    last = seen.runs[0]
    href = f"{href}/{last.run}"
    if seen.run is not None:
        alive = "under way" if seen.run.leased else "waits for a process"
        return Station(
            "run", f"attempt {max(seen.run.attempts, 1)} {alive}", href, "doing",
            (f"asked by {asked_by(last.trigger)}", f"rows before {when(last.until)}"),
        )  # fmt: skip
    says = f"made version {last.version}" if last.version else f"last one {last.state}"
    lines = [f"asked by {asked_by(last.trigger)}", f"rows before {when(last.until)}"]
    failed = last.state != "finished"
    return Station(
        "run", says, href, "warn" if failed else "plain", _short(lines),
        reason=last.message if failed else "",
    )  # fmt: skip


def _gate(seen: Seen) -> Station:
    href = f"{seen.page}#versions"
    if seen.asks is not None:
        reason = next((v.reason for v in seen.report.versions if v.version == seen.asks), None)
        return Station(
            "gate", f"version {seen.asks} waits for a person", f"{seen.page}#decide", "doing",
            reason=reason or "",
        )  # fmt: skip
    judged = [one for one in seen.report.versions if one.verdict is not None]
    if not judged:
        return Station("gate", "nothing judged yet", href)
    last = judged[-1]
    tone: Tone = "good" if last.verdict == "pass" else "plain"
    if last.verdict == "fail":
        tone = "warn"
    return Station(
        "gate", f"version {last.version}: {last.verdict}", href, tone,
        (f"on {count(last.rows)} labelled rows",), reason=last.reason or "",
    )  # fmt: skip


def _rollout(seen: Seen) -> Station:
    href = f"{seen.page}#rollouts"
    open_now = seen.rollout
    if open_now is None:
        if not seen.report.rollouts:
            return Station("rollout", "none yet", href)
        last = seen.report.rollouts[-1]
        back = last.state == "rolled_back"
        return Station(
            "rollout", f"version {last.candidate} {last.state.replace('_', ' ')}", href,
            "warn" if back else "plain", reason=last.reason or "",
        )  # fmt: skip
    steps = len(seen.spec.rollout.steps)
    lines = [f"step {open_now.step + 1} of {steps} · until {when(open_now.deadline)}"]
    lines += [guard_line(one) for one in (seen.guards.guards if seen.guards else ())]
    progress = seen.guards.progress if seen.guards else 0.0
    return Station(
        "rollout", f"version {open_now.candidate} at {open_now.share:.0%}", href, "doing",
        tuple(lines),
        charts.bar(f"{progress:.0%} of the evidence for a pass", [("good", progress)]),
        reason=f"{progress:.0%} of the evidence a pass asks for",
    )  # fmt: skip


def guard_line(one: GuardVerdict) -> str:
    """Say how a guard stands in a few words."""
    rows = "row" if one.rows == 1 else "rows"
    # Adding nought makes -0.0 a plain 0.
    return f"{one.guard} {one.mean + 0.0:+.4f} of {one.bound:g} · {count(one.rows)} {rows}"


def arms(seen: EndpointReport, tones: dict[str, str]) -> tuple[Arm, ...]:
    """Give the versions that answer, the live one first."""
    if seen.live is None:
        return ()
    rollout = next((one for one in seen.rollouts if one.state == "open"), None)
    share = rollout.share if rollout else 0.0
    found = [Arm(seen.live, 1 - share, tones.get(seen.live, "v0"))]
    if rollout is not None:
        found.append(Arm(rollout.candidate, share, tones.get(rollout.candidate, "v1")))
    return tuple(found)


def _live(seen: Seen) -> Station:
    href = f"{seen.page}#versions"
    if seen.report.live is None:
        return Station("live", "no version yet", href)
    since = seen.report.history[-1]
    shared = arms(seen.report, seen.tones)
    lines = [f"since {when(since.since)}"]
    if len(shared) > 1:
        lines.append(" · ".join(f"v{one.version} {one.share:.0%}" for one in shared))
    else:
        lines.append("all of the traffic")
    title = ", ".join(f"version {one.version} {one.share:.0%}" for one in shared)
    picture = charts.bar(title, [(f"area {one.tone}", one.share) for one in shared])
    return Station("live", f"version {seen.report.live}", href, "good", tuple(lines), picture)


def _monitors(stages: Stages, seen: Seen) -> Station:
    href = f"{seen.page}#readings"
    if not seen.spec.monitors:
        return Station("monitors", "none declared", href)
    lines: list[str] = []
    picture = Markup("")
    ends: list[datetime] = []
    for monitor in sorted(seen.spec.monitors, key=lambda one: not isinstance(one, Loss)):
        metric, many = (monitor.metric, SPARK_WINDOWS) if isinstance(monitor, Loss) else ("psi", 1)
        found = recent_readings(
            stages, seen.spec.name, monitor, seen.report.now, metric=metric, windows=many
        )
        if not found:
            lines.append(f"{monitor.name}: no window closed yet")
            continue
        ends.append(found[-1].end)
        if isinstance(monitor, Loss):
            lines.append(
                f"{metric.replace('_', ' ')} {number(found[-1].value)}, "
                f"expected {number(found[-1].expected)}"
            )
            title = f"{metric} of the last {len(found)} windows"
            picture = charts.spark(title, [r.value for r in found], [r.expected for r in found])
        else:
            last = [one for one in found if one.end == found[-1].end]
            moved = max(last, key=lambda r: (r.value or 0) - (r.expected or 0), default=None)
            if moved is not None:
                lines.append(f"most drift in {moved.subject}, psi {number(moved.value, 2)}")
    says = f"read to {when(max(ends))}" if ends else "no reading yet"
    return Station("monitors", says, href, "plain", _short(lines), picture)


def recent_readings(
    stages: Stages,
    endpoint: str,
    monitor: Monitor,
    now: datetime | None,
    *,
    metric: str | None = None,
    windows: int = SPARK_WINDOWS,
) -> list[Reading]:
    """Give a monitor's readings of its last windows, and of one that is closed late."""
    after = None if now is None else now - (windows + 2) * duration(monitor.every)
    return stages.monitoring.readings(endpoint, monitor=monitor.name, metric=metric, after=after)


def _alarm(seen: Seen) -> Station:
    href = f"{seen.page}#alarms"
    if not seen.alarms:
        last = next(reversed(seen.report.alarms), None)
        lines = () if last is None else (f"last: {last.monitor}, {when(last.opened)}",)
        ended = () if last is None else (f"ended {when(last.ended)} ({_words(last.cause)})",)
        return Station("alarm", "quiet", href, "plain", (*lines, *ended))
    first = seen.alarms[0]
    return Station(
        "alarm", f"{len(seen.alarms)} open: {first.monitor}", href, "bad",
        (f"since {when(first.opened)}",), reason=first.message,
    )  # fmt: skip


def _short(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= LINES:
        return tuple(lines)
    return (*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more")


def _words(cause: str | None) -> str:
    return (cause or "").replace("_", " ")
