"""Charts: what they say, and that they say it without script, style or unescaped text."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from mainspring.server.ui import charts
from mainspring.server.ui.charts import Mark, Series, Slot
from mainspring.server.ui.scales import round_ticks, tick_label, time_ticks

START = datetime(2026, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
HOSTILE = '"><script>x</script>&'


def _slots(count: int) -> list[Slot]:
    return [Slot(START + i * WEEK, START + (i + 1) * WEEK, f"week {i}") for i in range(count)]


def _parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


@pytest.mark.parametrize(
    ("low", "high"), [(0.641, 0.747), (0, 9), (-1e-5, 2e-5), (1e6, 9e6), (3, 3)]
)
def test_ticks_enclose_the_values_and_are_evenly_spaced(low: float, high: float) -> None:
    ticks = round_ticks(low, high)

    steps = {round(b - a, 9) for a, b in pairwise(ticks)}
    assert ticks[0] <= low <= high <= ticks[-1]
    assert len(steps) == 1
    assert 3 <= len(ticks) <= 9
    assert len({tick_label(tick, ticks[1] - ticks[0]) for tick in ticks}) == len(ticks)


@pytest.mark.parametrize("days", [1, 3, 10, 40, 100, 300, 900, 5000])
def test_time_has_a_few_round_ticks_whatever_the_stretch(days: int) -> None:
    ticks = time_ticks(START, START + timedelta(days=days), at_most=7)

    assert 1 <= len(ticks) <= 8
    assert all(START <= at <= START + timedelta(days=days) for at, _ in ticks)


def test_a_line_chart_names_its_lines_and_is_read_aloud() -> None:
    drawn = charts.lines("AUC by week", _slots(3), [Series("served", "served", [0.7, 0.71, 0.72])])

    wide = _parsed(drawn)[0]
    assert wide.attrib["role"] == "img"
    assert wide.attrib["aria-label"] == "AUC by week: served 0.7200 at the end"
    assert [text.text for text in wide.iter("text")][-2:] == ["served", "0.7200"]
    assert [title.text for title in wide.iter("title")] == ["week 0", "week 1", "week 2"]


def test_a_missing_window_breaks_the_line_instead_of_bridging_it() -> None:
    drawn = charts.lines("x", _slots(5), [Series("a", "served", [0.1, 0.2, None, 0.3, 0.4])])

    lines = list(_parsed(drawn)[0].iter("polyline"))
    assert [len(one.attrib["points"].split()) for one in lines] == [2, 2]


def test_stacked_bars_are_as_high_as_their_values() -> None:
    drawn = charts.stacks("rows", _slots(2), [("v1", "v0", [300, 0]), ("v2", "v1", [100, 400])])

    bars = [one for one in _parsed(drawn)[0].iter("rect") if "area" in one.attrib.get("class", "")]
    heights = [float(one.attrib["height"]) for one in bars][:3]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.01)
    assert heights[2] == pytest.approx(heights[0] + heights[1], rel=0.01)


def test_a_chart_of_nothing_is_nothing() -> None:
    assert charts.lines("x", [], []) == ""
    assert charts.lines("x", _slots(2), [Series("a", "served", [None, None])]) == ""
    assert charts.stacks("x", _slots(1), [("v1", "v0", [0.0])]) == ""
    assert charts.spark("x", [1.0], [None]) == ""


def test_no_text_in_a_chart_becomes_markup_and_no_chart_has_style_or_script() -> None:
    slots = [Slot(START, START + WEEK, HOSTILE), Slot(START + WEEK, START + 2 * WEEK, HOSTILE)]
    marks = [Mark(START + WEEK, "alarm", HOSTILE, HOSTILE)]
    drawn = [
        charts.lines(HOSTILE, slots, [Series(HOSTILE, HOSTILE, [0.1, 0.2], [0.1, 0.1])], marks),
        charts.stacks(HOSTILE, slots, [(HOSTILE, HOSTILE, [1, 2])], marks),
        charts.spark(HOSTILE, [0.1, 0.2], [0.1, 0.3]),
        charts.interval(HOSTILE, observed=0.1, low=-0.1, high=0.2, bound=0.0),
        charts.bar(HOSTILE, [(HOSTILE, 0.5)]),
    ]

    for one in drawn:
        tree = _parsed(one)
        names = {each.tag for each in tree.iter()}
        attributes = {name for each in tree.iter() for name in each.attrib}
        assert not names & {"script", "style"}
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        assert not re.search(r"<script", one)
