"""Charts as SVG of our own, for wide and for narrow screens, without style or script in them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from mainspring.server.ui.scales import round_ticks, tick_label, time_ticks
from mainspring.validation.verdict import Finding

LABEL_GAP = 14.0
"""Least distance between two labels at the ends of lines."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A window on the time axis and what is told of it to whoever points at it."""

    start: datetime
    end: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """A line: one value per slot, none where there is none; `tone` is its class of colour."""

    name: str
    tone: str
    values: Sequence[float | None]
    noise: Sequence[float | None] = ()
    """Half width of the band around it, per slot."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened; `kind` is promoted, back or alarm."""

    at: datetime
    kind: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """Size and margins of one drawing, in its own units: pixels at full size."""

    name: str
    width: float
    height: float
    left: float = 40
    right: float = 92
    top: float = 26
    bottom: float = 24
    ticks: int = 7

    @property
    def inner(self) -> tuple[float, float]:
        return self.width - self.left - self.right, self.height - self.top - self.bottom


WIDE = Frame("wide", 560, 232)
NARROW = Frame("narrow", 336, 210, left=36, right=74, ticks=4)


@dataclass(frozen=True, slots=True)
class _Plot:
    """The two scales of a drawing."""

    frame: Frame
    start: float
    end: float
    low: float
    high: float

    def x(self, at: datetime) -> float:
        width = self.frame.inner[0]
        share = (at.timestamp() - self.start) / max(self.end - self.start, 1)
        return self.frame.left + width * min(max(share, 0), 1)

    def y(self, value: float) -> float:
        height = self.frame.inner[1]
        return self.frame.top + height * (1 - (value - self.low) / (self.high - self.low))


def lines(
    title: str, slots: Sequence[Slot], series: Sequence[Series], marks: Iterable[Mark] = ()
) -> Markup:
    """Draw lines over windows, each named at its end, with what happened on top."""
    reach = [
        value + sign * width
        for one in series
        for value, width in _pairs(one)
        if value is not None
        for sign in (-1, 1)
    ]
    if not slots or not reach:
        return Markup("")
    ticks = round_ticks(min(reach), max(reach))
    happened = tuple(marks)

    def draw(frame: Frame) -> Iterable[str]:
        plot = _plot(frame, slots, ticks)
        yield from _axes(plot, slots, ticks)
        yield from _happened(plot, happened)
        for one in series:
            yield from _line(plot, slots, one)
        yield from _end_labels(plot, series)
        yield from _hover(plot, slots)

    return _both(title, _last_words(series), draw)


def stacks(
    title: str,
    slots: Sequence[Slot],
    parts: Sequence[tuple[str, str, Sequence[float]]],
    marks: Iterable[Mark] = (),
) -> Markup:
    """Draw stacked bars, one per window; `parts` are (name, tone, value per slot)."""
    totals = [sum(part[2][i] for part in parts) for i in range(len(slots))]
    if not slots or not any(totals):
        return Markup("")
    ticks = round_ticks(0.0, max(totals))
    happened = tuple(marks)

    def draw(frame: Frame) -> Iterable[str]:
        plot = _plot(frame, slots, ticks)
        yield from _axes(plot, slots, ticks)
        yield from _happened(plot, happened)
        for i, slot in enumerate(slots):
            yield from _bar(plot, slot, [(tone, values[i]) for _, tone, values in parts])
        yield from _legend(plot, [(name, tone) for name, tone, _ in parts])
        yield from _hover(plot, slots)

    said = ", ".join(f"{name} {sum(values):,.0f}" for name, _, values in parts)
    return _both(title, said, draw)


def spark(title: str, values: Sequence[float | None], expected: Sequence[float | None]) -> Markup:
    """Draw a line the size of a word, with what was expected beside it."""
    known = [value for value in (*values, *expected) if value is not None]
    if len(values) < 2 or not known:
        return Markup("")
    low, high = min(known), max(known)
    spread = (high - low) or 1.0

    def points(of: Sequence[float | None]) -> str:
        step = 116 / (len(values) - 1)
        return " ".join(
            f"{2 + i * step:.1f},{22 - 18 * (value - low) / spread:.1f}"
            for i, value in enumerate(of)
            if value is not None
        )

    last = points(values).rpartition(" ")[2].split(",")
    return Markup(
        f'<svg class="spark" viewBox="0 0 120 24" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
        f'<polyline class="expected" points="{points(expected)}"/>'
        f'<polyline class="found" points="{points(values)}"/>'
        f'<circle class="found" cx="{last[0]}" cy="{last[-1]}" r="2.2"/></svg>'
    )


def interval(
    title: str, *, observed: float, low: float | None, high: float | None, bound: float | None
) -> Markup:
    """Draw a finding: its point, its interval and what it was held against, nought marked."""
    ends = [v for v in (observed, low, high, bound) if v is not None]
    if bound is not None and min(ends) < 0 < max(ends):
        ends.append(0.0)
    least, most = min(ends), max(ends)
    spread = (most - least) or 1.0

    def x(value: float) -> str:
        return f"{8 + 124 * (value - least) / spread:.1f}"

    parts = ['<line class="ground" x1="4" y1="10" x2="136" y2="10"/>']
    if least < 0 < most:
        parts.append(f'<line class="nought" x1="{x(0)}" y1="5" x2="{x(0)}" y2="15"/>')
    if low is not None and high is not None:
        parts.append(f'<line class="reach" x1="{x(low)}" y1="10" x2="{x(high)}" y2="10"/>')
    if bound is not None:
        parts.append(f'<line class="bound" x1="{x(bound)}" y1="1" x2="{x(bound)}" y2="19"/>')
    parts.append(f'<circle class="point" cx="{x(observed)}" cy="10" r="3.5"/>')
    return Markup(
        f'<svg class="interval" viewBox="0 0 140 20" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def finding(one: Finding) -> Markup:
    """Draw a gate's finding; nothing for one that has no number."""
    if one.observed is None:
        return Markup("")
    return interval(
        one.sentence, observed=one.observed, low=one.low, high=one.high, bound=one.bound
    )


def bar(title: str, parts: Sequence[tuple[str, float]]) -> Markup:
    """Draw shares of a whole, 0 to 1, side by side; `parts` are (tone, share)."""
    drawn, x = [], 0.0
    for tone, share in parts:
        width = 200 * min(max(share, 0.0), 1.0)
        drawn.append(f'<rect class="{escape(tone)}" x="{x:.2f}" width="{width:.2f}" height="8"/>')
        x += width
    return Markup(
        '<svg class="bar" viewBox="0 0 200 8" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect class="ground" width="200" height="8"/>{"".join(drawn)}</svg>'
    )


def _both(title: str, said: str, draw: Callable[[Frame], Iterable[str]]) -> Markup:
    drawn = (
        f'<svg class="{frame.name}" viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" '
        f'aria-label="{escape(title)}: {escape(said)}">{"".join(draw(frame))}</svg>'
        for frame in (WIDE, NARROW)
    )
    return Markup(f'<div class="chart">{"".join(drawn)}</div>')


def _plot(frame: Frame, slots: Sequence[Slot], ticks: Sequence[float]) -> _Plot:
    return _Plot(frame, slots[0].start.timestamp(), slots[-1].end.timestamp(), ticks[0], ticks[-1])


def _axes(plot: _Plot, slots: Sequence[Slot], ticks: Sequence[float]) -> Iterable[str]:
    frame = plot.frame
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    for tick in ticks:
        y, label = plot.y(tick), tick_label(tick, ticks[1] - ticks[0])
        yield f'<line class="rule" x1="{frame.left:g}" y1="{y:.1f}" x2="{right:g}" y2="{y:.1f}"/>'
        yield f'<text class="tick end" x="{frame.left - 6:g}" y="{y + 4:.1f}">{label}</text>'
    for at, label in time_ticks(slots[0].start, slots[-1].end, at_most=frame.ticks):
        x = plot.x(at)
        yield f'<line class="tooth" x1="{x:.1f}" y1="{bottom:g}" x2="{x:.1f}" y2="{bottom + 4:g}"/>'
        if x <= right - 8:
            yield f'<text class="tick mid" x="{x:.1f}" y="{bottom + 17:g}">{label}</text>'


def _happened(plot: _Plot, marks: Sequence[Mark]) -> Iterable[str]:
    frame, free_from = plot.frame, 0.0
    bottom = frame.height - frame.bottom
    for mark in sorted(marks, key=lambda one: one.at):
        if not plot.start <= mark.at.timestamp() <= plot.end:
            continue
        x = plot.x(mark.at)
        yield f'<g class="mark {escape(mark.kind)}"><title>{escape(mark.text)}</title>'
        yield f'<line x1="{x:.1f}" y1="{frame.top - 6:g}" x2="{x:.1f}" y2="{bottom:g}"/>'
        if mark.kind == "alarm":
            yield f'<path d="M{x - 5:.1f} {frame.top - 7:g}h10l-5 -9z"/>'
        else:
            # What was rolled back stands at the foot, out of the way of what went live.
            y = bottom if mark.kind == "back" else frame.top - 10
            yield f'<circle cx="{x:.1f}" cy="{y:g}" r="3"/>'
        if mark.label and x >= free_from:
            yield f'<text x="{x + 6:.1f}" y="{frame.top - 7:g}">{escape(mark.label)}</text>'
            free_from = x + 14 + 7 * len(mark.label)
        yield "</g>"


def _line(plot: _Plot, slots: Sequence[Slot], one: Series) -> Iterable[str]:
    middles = [slot.start + (slot.end - slot.start) / 2 for slot in slots]
    stretch: list[tuple[float, float, float]] = []
    stretches = [stretch]
    for at, (value, width) in zip(middles, _pairs(one), strict=True):
        if value is None:
            stretches.append(stretch := [])
            continue
        reach = abs(plot.y(value + width) - plot.y(value))
        stretch.append((plot.x(at), plot.y(value), reach))
    tone = escape(one.tone)
    for points in filter(None, stretches):
        if one.noise and len(points) > 1:
            above = " ".join(f"{x:.1f},{y - r:.1f}" for x, y, r in points)
            below = " ".join(f"{x:.1f},{y + r:.1f}" for x, y, r in reversed(points))
            yield f'<polygon class="band {tone}" points="{above} {below}"/>'
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        yield f'<polyline class="line {tone}" points="{path}"/>'
        if len(points) == 1 or len(slots) <= 60:
            for x, y, _ in points:
                yield f'<circle class="dot {tone}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'


def _end_labels(plot: _Plot, series: Sequence[Series]) -> Iterable[str]:
    ends = [
        (plot.y(value), one.tone, one.name, value)
        for one in series
        if (value := next((v for v in reversed(one.values) if v is not None), None)) is not None
    ]
    x, taken = plot.frame.width - plot.frame.right + 8, -LABEL_GAP
    room = plot.frame.height - plot.frame.bottom - LABEL_GAP * (2 * len(ends) - 1)
    for y, tone, name, value in sorted(ends):
        taken = max(min(y, room), taken + 2 * LABEL_GAP)
        room += 2 * LABEL_GAP
        yield f'<text class="name {escape(tone)}" x="{x:g}" y="{taken:.1f}">{escape(name)}</text>'
        yield f'<text class="value" x="{x:g}" y="{taken + LABEL_GAP:.1f}">{value:.4f}</text>'


def _bar(plot: _Plot, slot: Slot, parts: Sequence[tuple[str, float]]) -> Iterable[str]:
    left, right = plot.x(slot.start), plot.x(slot.end)
    gap = min(2.0, (right - left) * 0.2)
    base = 0.0
    for tone, value in parts:
        if value <= 0:
            continue
        low, high = plot.y(base), plot.y(base + value)
        yield (
            f'<rect class="area {escape(tone)}" x="{left + gap / 2:.1f}" y="{high:.1f}" '
            f'width="{max(right - left - gap, 0.5):.1f}" height="{low - high:.1f}"/>'
        )
        base += value


def _legend(plot: _Plot, parts: Sequence[tuple[str, str]]) -> Iterable[str]:
    x, y = plot.frame.width - plot.frame.right + 10, plot.frame.top + 6
    for name, tone in reversed(parts[-9:]):
        yield f'<rect class="area {escape(tone)}" x="{x:g}" y="{y - 9:g}" width="9" height="9"/>'
        yield f'<text class="value" x="{x + 15:g}" y="{y:g}">{escape(name)}</text>'
        y += 18


def _hover(plot: _Plot, slots: Sequence[Slot]) -> Iterable[str]:
    top, height = plot.frame.top, plot.frame.inner[1]
    for slot in slots:
        left, right = plot.x(slot.start), plot.x(slot.end)
        middle = (left + right) / 2
        yield (
            f'<g class="slot"><title>{escape(slot.text)}</title>'
            f'<rect x="{left:.1f}" y="{top:g}" width="{max(right - left, 1):.1f}" '
            f'height="{height:g}"/><line x1="{middle:.1f}" y1="{top:g}" x2="{middle:.1f}" '
            f'y2="{top + height:g}"/></g>'
        )


def _pairs(one: Series) -> list[tuple[float | None, float]]:
    if not one.noise:
        return [(value, 0.0) for value in one.values]
    return [(v, n or 0.0) for v, n in zip(one.values, one.noise, strict=True)]


def _last_words(series: Sequence[Series]) -> str:
    known = [(one.name, [v for v in one.values if v is not None]) for one in series]
    return ", ".join(f"{name} {values[-1]:.4f} at the end" for name, values in known if values)
