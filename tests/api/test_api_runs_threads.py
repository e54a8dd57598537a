"""Verbs called from many threads at once, as the control process does."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl
import pytest

from mainspring.cli.starter import rows
from mainspring.core.errors import Leased
from mainspring.formats.routes import load
from mainspring.loop import routes
from mainspring.loop.routes import newest_fact, publish_routes
from mainspring.loop.run import settle
from mainspring.monitoring.labels import Label
from mainspring.monitoring.monitoring import Monitoring
from mainspring.platform import Project

if TYPE_CHECKING:
    from tests.api.conftest import World

THREADS = 8
AT = datetime(2026, 4, 1, tzinfo=UTC)

T = TypeVar("T")


def at_once(work: Callable[[int], T]) -> list[T]:
    """Let 8 threads begin at the same moment; an error of any of them comes out here."""
    gate = threading.Barrier(THREADS)
    found: list[T] = []
    raised: list[BaseException] = []

    def one(number: int) -> None:
        gate.wait()
        try:
            found.append(work(number))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error
    return found


@pytest.fixture
def filled(fresh: "World", tmp_path_factory: pytest.TempPathFactory) -> "World":
    """The starter project with its rows, and a loop that has not looked yet."""
    folder = tmp_path_factory.mktemp("rows")
    rows.write_rows(folder)
    for name in ("readings", "stops"):
        fresh.client.commit_file(name, folder / f"{name}.csv", token=f"test-{name}:1")
    return fresh


def test_a_project_is_built_once(fresh: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    build = fresh.platform._build
    begun = threading.Event()

    def slowly(name: str) -> Project:
        begun.wait(0.1)
        return build(name)

    monkeypatch.setattr(fresh.platform, "_build", slowly)

    built = at_once(lambda _: fresh.platform.project("other"))

    assert len({id(project) for project in built}) == 1


def test_one_token_starts_one_run_however_often_it_is_sent_at_once(filled: "World") -> None:
    filled.client.advance("stop", AT, settle=False)

    started = at_once(lambda _: filled.client.start_run("stop", [], token="again"))

    by_hand = [run for run in filled.client.runs("stop").runs if run.trigger == "manual:again"]
    assert len(by_hand) == 1
    assert {answer.run.run for answer in started} == {by_hand[0].run}


class Overlaps:
    """Slows a function down and counts how many threads are in it at most."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        # Of different lengths, so that whoever comes later may be first.
        self._pauses = cycle((0.06, 0.0, 0.03))
        self._inside = 0
        self.most = 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        self._inside += 1
        self.most = max(self.most, self._inside)
        time.sleep(next(self._pauses))
        try:
            return self._function(*given, **named)
        finally:
            self._inside -= 1


def test_one_thread_at_a_time_looks_at_an_endpoint_and_closes_its_windows(
    filled: "World", monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.client.advance("stop", AT)
    looking, closing = Overlaps(settle), Overlaps(Monitoring._note_drift)
    monkeypatch.setattr("mainspring.loop.driver.settle", looking)
    monkeypatch.setattr(Monitoring, "_note_drift", lambda *given: closing(*given))

    at_once(lambda number: filled.client.advance("stop", AT + timedelta(hours=number + 1)))

    assert (looking.most, closing.most) == (1, 1)


def test_advances_at_once_turn_one_loop_and_end_as_one_does(filled: "World") -> None:
    hours = [AT - timedelta(hours=number) for number in range(THREADS)]

    answers = at_once(lambda number: filled.client.advance("stop", hours[number]))

    assert [answer.error for answer in answers] == [None] * THREADS
    facts = [fact.event for fact in filled.client.events(limit=1000).facts]
    assert facts.count("RunOpened") == facts.count("RunClosed")
    assert facts.count("Promoted") == 1
    assert filled.client.watermark("stop") == AT
    everything = [answer.steps for answer in answers if "Promote" in answer.steps]
    assert everything, "a call that waited names the steps it waited for, whoever took them"


def test_the_newest_routes_win_however_many_publish(
    filled: "World", monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.client.advance("stop", AT)
    stages = filled.platform.project("default").stages
    monkeypatch.setattr(routes, "_route", Overlaps(routes._route))

    def publish(number: int) -> None:
        for turn in range(5):
            filled.platform.access("default").grant(f"p{number}{turn}", "viewer", actor="local")
            publish_routes(stages)

    at_once(publish)

    table = load(filled.platform.home.routes)
    assert table.number == newest_fact(stages.ledger)
    assert [route.endpoint for route in table.endpoints] == ["stop"]


def test_everything_at_once_loses_nothing_and_the_record_is_whole(filled: "World") -> None:
    filled.client.advance("stop", AT)
    client = filled.client
    leased: list[int] = []

    def work(number: int) -> None:
        for turn in range(6):
            token = f"thread-{number}:{turn + 1}"
            label = Label(key=f"k{number}-{turn}", event_time=AT, value=1.0, arrival=AT)
            client.label("stop", [label], token=token)
            try:
                client.commit("stops", _stops(number, turn), token=token)
            except Leased:
                leased.append(number)
            client.advance("stop", AT + timedelta(minutes=10 * number + turn))
            client.status()
            client.endpoint("stop")

    at_once(work)

    counts = filled.platform.project("default").stages.monitoring.counts("stop")
    assert counts.labels == THREADS * 6
    facts = [fact.event for fact in client.events(limit=10_000).facts]
    assert facts.count("Committed") == 2 + THREADS * 6 - len(leased)
    assert client.verify().ok
    assert client.status().endpoints[0].error is None
    assert client.watermark("stop") == AT + timedelta(minutes=75)


def test_readers_and_a_writer_of_one_dataset_see_whole_versions(filled: "World") -> None:
    datasets = filled.platform.project("default").stages.datasets
    before = datasets.version("stops")

    def work(number: int) -> list[int]:
        if number == 0:
            for turn in range(8):
                filled.client.commit("stops", _stops(90, turn), token=f"writer:{turn + 1}")
            return []
        return [datasets.read("stops").select(pl.len()).collect().item() for _ in range(8)]

    seen = at_once(work)

    whole = {row.rows_total for row in datasets.versions("stops")}
    assert {height for heights in seen for height in heights} <= whole
    assert datasets.version("stops").version == before.version + 8


def _stops(number: int, turn: int) -> pl.DataFrame:
    rows = {
        "reading_id": [f"s{number}-{turn}"],
        "measured_at": [AT],
        "known_at": [AT + timedelta(hours=20)],
        "stopped": [1],
    }
    times = [pl.col(name).cast(pl.Datetime("us", "UTC")) for name in ("measured_at", "known_at")]
    return pl.DataFrame(rows).with_columns(times)
