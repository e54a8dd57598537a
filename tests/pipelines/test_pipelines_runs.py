"""Runs: one fact opens, one closes; an orphan's word is refused, a repeated word is not."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, select

from mainspring.core.errors import AlreadyExists, Corrupt, Leased, NotFound, StaleToken
from mainspring.core.events import Registered, RunClosed, RunOpened
from mainspring.core.ids import Digest, Id, canonical, digest_of
from mainspring.pipelines.context import Logged, Metric
from mainspring.pipelines.run import Closed, ModelFile, RunReport
from mainspring.pipelines.tables import RUN
from mainspring.store.leases import Leases

if TYPE_CHECKING:
    from tests.pipelines.conftest import Workshop
    from tests.pipelines.leased_reports import LeasedReports

START = datetime(2013, 4, 1, tzinfo=UTC)
FAILED = RunReport(outcome="failed", message="step_failed: it broke")


def model(workshop: "Workshop", content: bytes = b"model") -> ModelFile:
    files = {"model.onnx": workshop.blobs.put(content)}
    return ModelFile("delay", workshop.blobs.put(canonical({"files": files, "kind": "onnx"})))


def finished(workshop: "Workshop") -> RunReport:
    return RunReport(outcome="finished", model=model(workshop))


def test_closing_registers_the_model_and_ends_the_run_together(workshop: "Workshop") -> None:
    event = workshop.opened()
    opened = workshop.runs.open(event, actor="loop", cause=None)
    reports = workshop.reports(workshop.runs.lease(event.run, owner="worker"))
    reports.log(Logged(params={"depth": "6"}))

    closed = reports.finish(finished(workshop))

    registered, ended = closed.facts
    assert isinstance(registered.event, Registered)
    assert isinstance(ended.event, RunClosed)
    assert (registered.event.run, registered.event.pins) == (event.run, event.pins)
    assert (registered.event.until, registered.event.as_of) == (event.until, event.as_of)
    assert registered.cause == opened.seq
    assert ended.cause == registered.seq
    assert ended.event.version == registered.event.version == closed.version == "1"
    assert ended.event.records == workshop.tracking.digest(event.run)
    assert workshop.runs.get(event.run).state == "finished"
    assert workshop.tracking.get(event.run).status == "finished"
    assert workshop.registry.get("delay", "1").run == event.run
    assert workshop.leases.live("default", "run", event.run) is None


def test_a_model_that_is_not_whole_closes_nothing(workshop: "Workshop") -> None:
    lease = workshop.begin()
    lost = ModelFile("delay", Digest("0" * 64))

    with pytest.raises(Corrupt, match="not whole"):
        workshop.reports(lease).finish(RunReport(outcome="finished", model=lost))

    assert workshop.runs.get(Id(lease.name)).state == "open"
    assert workshop.registry.versions("delay") == []
    assert workshop.reports(lease).finish(FAILED).version is None


def test_opening_again_gives_the_same_fact_and_another_run_of_the_id_is_refused(
    workshop: "Workshop",
) -> None:
    event = workshop.opened()

    assert workshop.runs.open(event, actor="loop") == workshop.runs.open(event, actor="loop")
    with pytest.raises(AlreadyExists, match="make a new id"):
        workshop.runs.open(workshop.opened(endpoint="other", run=event.run), actor="loop")


def test_one_attempt_at_a_time_and_the_next_when_it_is_silent(workshop: "Workshop") -> None:
    event = workshop.opened()
    workshop.runs.open(event, actor="loop")
    first = workshop.runs.lease(event.run, owner="a")
    with pytest.raises(Leased, match="leased to a"):
        workshop.runs.lease(event.run, owner="b")

    workshop.clock.advance(timedelta(seconds=50))
    workshop.runs.renew(event.run, token=first.token)
    workshop.clock.advance(timedelta(seconds=50))
    with pytest.raises(Leased):
        workshop.runs.lease(event.run, owner="b")

    workshop.clock.advance(timedelta(seconds=61))
    assert workshop.runs.lease(event.run, owner="b").attempt == 2
    found = workshop.runs.open_run("delay")
    assert found is not None
    assert (found.run, found.attempts, found.leased) == (event.run, 2, True)


def orphaned(workshop: "Workshop") -> tuple[Id, str, str]:
    """A run whose first attempt has lost it to a second."""
    first = workshop.begin("orphan")
    workshop.clock.advance(timedelta(minutes=5))
    second = workshop.runs.lease(Id(first.name), owner="successor")
    return Id(first.name), first.token, second.token


Report = Callable[["Workshop", Id, str], object]

REPORTS: dict[str, Report] = {
    "renew": lambda w, run, token: w.runs.renew(run, token=token),
    "log": lambda w, run, token: w.runs.log(run, token=token, logged=Logged(tags={"a": "b"})),
    "close": lambda w, run, token: w.runs.close(
        run, token=token, report=finished(w), actor="runner"
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_an_orphan_is_refused_and_changes_nothing(workshop: "Workshop", name: str) -> None:
    run, orphan, successor = orphaned(workshop)

    with pytest.raises(StaleToken, match="token is over"):
        REPORTS[name](workshop, run, orphan)

    assert workshop.runs.get(run).state == "open"
    assert workshop.registry.versions("delay") == []
    assert workshop.tracking.get(run).tags == {}
    REPORTS[name](workshop, run, successor)


@pytest.mark.parametrize("name", REPORTS)
def test_the_token_check_is_what_refuses_the_orphan(
    workshop: "Workshop", name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, orphan, _ = orphaned(workshop)

    def unchecked(
        self: Leases, connection: Connection, project: str, kind: str, name: str, token: str
    ) -> int:
        return len(f"{self}{connection}{project}{kind}{name}{token}")

    monkeypatch.setattr(Leases, "check", unchecked)

    REPORTS[name](workshop, run, orphan)


def test_the_same_report_again_gives_the_same_facts(workshop: "Workshop") -> None:
    lease = workshop.begin()
    report = finished(workshop)

    first = workshop.reports(lease).finish(report)
    again = workshop.reports(lease).finish(report)

    assert again == first
    assert len(workshop.registry.versions("delay")) == 1


def test_after_the_end_another_report_is_refused(workshop: "Workshop") -> None:
    lease = workshop.begin()
    run = Id(lease.name)
    workshop.reports(lease).finish(finished(workshop))

    with pytest.raises(StaleToken, match="by another report"):
        workshop.reports(lease).finish(FAILED)
    with pytest.raises(StaleToken, match="by another report"):
        workshop.runs.close(run, token="other", report=finished(workshop), actor="runner")
    with pytest.raises(StaleToken, match="closed"):
        workshop.reports(lease).log(Logged(tags={"a": "b"}))
    with pytest.raises(StaleToken, match="closed"):
        workshop.reports(lease).renew()
    with pytest.raises(StaleToken, match="no work left"):
        workshop.runs.lease(run, owner="b")

    assert workshop.runs.get(run).state == "finished"


def raced(reports: "LeasedReports", said: list[RunReport]) -> list[Closed | StaleToken]:
    """Send reports at the same moment and collect the answers."""
    done: list[Closed | StaleToken] = []
    start = threading.Barrier(len(said))

    def close(report: RunReport) -> None:
        start.wait()
        try:
            done.append(reports.finish(report))
        except StaleToken as error:
            done.append(error)

    threads = [threading.Thread(target=close, args=(report,)) for report in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def test_two_closers_race_and_one_wins(workshop: "Workshop") -> None:
    for _ in range(5):
        lease = workshop.begin()
        same = finished(workshop)

        done = raced(workshop.reports(lease), [same, same, FAILED, FAILED])

        won = [one for one in done if isinstance(one, Closed)]
        assert len(done) == 4
        assert len(won) == 2
        assert won[0] == won[1]
        facts = workshop.ledger.facts(kind="run", name=lease.name)
        assert [type(fact.event) for fact in facts] == [RunOpened, RunClosed]


def test_models_closed_at_once_get_numbers_of_their_own(workshop: "Workshop") -> None:
    leases = [workshop.begin() for _ in range(6)]
    threads = [
        threading.Thread(target=workshop.reports(lease).finish, args=(finished(workshop),))
        for lease in leases
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(v.version for v in workshop.registry.versions("delay")) == list("123456")


def test_a_run_given_up_refuses_its_late_attempt(workshop: "Workshop") -> None:
    lease = workshop.begin()
    run = Id(lease.name)

    closed = workshop.runs.give_up(run, outcome="expired", message="deadline", actor="loop")

    event = closed.facts[0].event
    assert isinstance(event, RunClosed)
    assert (event.outcome, event.attempt, event.message) == ("expired", 1, "deadline")
    assert workshop.runs.give_up(run, outcome="cancelled", message="", actor="loop") == closed
    with pytest.raises(StaleToken, match="by another report"):
        workshop.reports(lease).finish(finished(workshop))
    assert workshop.registry.versions("delay") == []
    assert workshop.tracking.get(run).status == "expired"
    assert workshop.runs.open_run("delay") is None


def test_a_step_and_what_it_logged_are_kept_together_or_not_at_all(workshop: "Workshop") -> None:
    from mainspring.core.errors import Refused
    from mainspring.pipelines.artifact import Artifact, StepOutputs

    lease = workshop.begin()
    reports = workshop.reports(lease)
    key = digest_of("key")
    metric = Metric("auc", float("nan"), 1, START)
    artifact = Artifact("json", digest_of("x"), 1)
    reports.log(Logged(params={"depth": "6"}))

    conflict = StepOutputs({"result": artifact}, Logged(params={"depth": "7"}))
    with pytest.raises(Refused, match="key='depth' was already logged with value='6'"):
        reports.record_step(key=key, step="train", outputs=conflict)
    assert reports.step_outputs(key) is None

    outputs = StepOutputs({"result": artifact}, Logged(metrics=(metric,)))
    reports.record_step(key=key, step="train", outputs=outputs)
    reports.record_step(key=key, step="train", outputs=outputs)
    assert repr(reports.step_outputs(key)) == repr(outputs)
    assert len(workshop.tracking.history(Id(lease.name), "auc")) == 1


def test_runs_are_listed_newest_first(workshop: "Workshop") -> None:
    leases = [workshop.begin() for _ in range(3)]
    workshop.reports(leases[0]).finish(FAILED)

    names = [row.run for row in workshop.runs.list(endpoint="delay")]

    assert names == [Id(lease.name) for lease in reversed(leases)]
    assert [row.run for row in workshop.runs.list(open_only=True)] == names[:2]
    assert [row.run for row in workshop.runs.opened("delay")] == names
    assert workshop.runs.opened("other") == ()
    with pytest.raises(NotFound, match="does not exist"):
        workshop.runs.get(Id("f" * 32))


def test_replay_gives_equal_runs(workshop: "Workshop") -> None:
    for report in (finished(workshop), FAILED):
        workshop.reports(workshop.begin()).finish(report)
    workshop.runs.give_up(Id(workshop.begin().name), outcome="cancelled", message="no", actor="ann")
    workshop.begin()

    def rows() -> list[object]:
        with workshop.database.read() as connection:
            return [tuple(row) for row in connection.execute(select(RUN).order_by(RUN.c.run))]

    before = rows()
    workshop.ledger.rebuild()

    assert rows() == before
    assert len(before) == 4
