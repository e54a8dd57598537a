"""A run's log in parts, outcomes in pages, and the small verbs beside them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from mainspring.api import attempts, feed, runs
from mainspring.api.endpoints import ROUTES
from mainspring.api.verb import Request
from mainspring.core.errors import InvalidInput, NotFound, Refused
from mainspring.core.ids import Id
from mainspring.pipelines.context import Logged, Metric
from mainspring.pipelines.log import read_log

if TYPE_CHECKING:
    from tests.api.conftest import World

AT = datetime(2026, 4, 1, tzinfo=UTC)


def read_all(file: Path, limit: int, *, over: bool) -> tuple[list[str], bool]:
    lines: list[str] = []
    offset = 0
    while True:
        part = read_log(file, offset, limit, over=over)
        lines += part.lines
        if part.next == offset:
            return lines, part.at_end
        offset = part.next


@pytest.mark.parametrize("limit", [4, 5, 6, 7, 8, 64])
def test_parts_of_a_log_join_to_the_log_and_tear_no_character(tmp_path: Path, limit: int) -> None:
    text = "a\nüber 雪 and 🙂🙂\n\nlast\n"
    file = tmp_path / "log"
    file.write_text(text, "utf-8")

    lines, at_end = read_all(file, limit, over=True)

    assert at_end
    assert "".join(lines).replace("\n", "") == text.replace("\n", "")
    assert "\ufffd" not in "".join(lines)


def test_a_line_without_its_end_waits_until_nobody_writes_any_more(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes("whole\nhalf 雪".encode()[:-1])

    growing, over = (read_all(file, 64, over=over) for over in (False, True))

    assert growing == (["whole"], False)
    assert over == (["whole", "half \ufffd"], True)


def test_the_log_of_a_run_that_is_over_is_given_to_its_end(asked: "World") -> None:
    run = asked.client.runs().runs[-1].run

    lines = list(asked.client.run_output(run))

    assert any("done in" in line for line in lines)
    assert list(asked.client.run_output(run, follow=True)) == lines
    with pytest.raises(NotFound):
        list(asked.client.run_output("0" * 32))
    with pytest.raises(InvalidInput, match="offset -1"):
        asked.client._call(runs.OUTPUT, runs.Output(run=Id(run), offset=-1))


def test_a_closed_run_is_not_cancelled_and_a_cancel_says_why(asked: "World") -> None:
    run = asked.client.runs().runs[-1].run

    with pytest.raises(InvalidInput, match="say why"):
        asked.client.cancel_run(run, "  ")
    with pytest.raises(Refused, match="is over already"):
        asked.client.cancel_run(run, "too late")


def test_outcomes_come_in_pages_and_a_cursor_is_checked(asked: "World") -> None:
    call = asked.client._call

    page = call(feed.OUTCOMES, feed.Outcomes(endpoint="stop", start=AT))

    assert (page.outcomes, page.next) == ((), None)
    with pytest.raises(InvalidInput, match="cursor 'x'"):
        call(feed.OUTCOMES, feed.Outcomes(endpoint="stop", after="x"))
    with pytest.raises(InvalidInput, match="give one of them"):
        call(feed.OUTCOMES, feed.Outcomes(endpoint="stop", start=AT, prediction="0" * 32))
    with pytest.raises(NotFound):
        call(feed.OUTCOMES, feed.Outcomes(endpoint="nothing"))


def test_the_published_routes_are_shown(asked: "World") -> None:
    table = asked.client._call(ROUTES, Request())

    assert [(route.endpoint, route.arms[-1].version) for route in table.endpoints] == [
        ("stop", "1")
    ]


def test_every_float_of_a_report_survives_the_wire() -> None:
    values = [float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 5e-324]
    points = tuple(Metric("m", value, step, AT) for step, value in enumerate(values))
    sent = attempts.Log(run=Id("0" * 32), token="t", logged=Logged(metrics=points))

    got = msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=attempts.Log)

    assert [repr(one.value) for one in got.logged.metrics] == [repr(value) for value in values]
