"""Runs as processes of their own: the same results, killed, stopped, cancelled, followed."""

import signal
import threading
from pathlib import Path

import pytest
from attempt_station import Station, until
from attempt_world import END, fill, pausing_project
from small_driver import ENDPOINT, PROJECT_FILE

from mainspring.api.client import Client
from mainspring.api.feed import Advanced
from mainspring.api.local import open_local
from mainspring.attempt.ending import STOPPED
from mainspring.core.config import Config
from mainspring.core.errors import StaleToken, TimedOut
from mainspring.core.ids import Id

ATTEMPTS = 3
"""Of a run, unless its endpoint says otherwise."""


def versions(client: Client) -> list[tuple[str, str]]:
    """Give every version with the manifest it was registered with."""
    return [
        (fact.body["version"], fact.body["manifest"])
        for fact in client.events(limit=1000).facts
        if fact.event == "Registered"
    ]


def advancing(station: Station) -> tuple[threading.Thread, list[Advanced]]:
    """Advance in a thread, as a source that waits for the loop does."""
    answers: list[Advanced] = []
    waiting = threading.Thread(
        target=lambda: answers.append(station.client.advance(ENDPOINT, END, patience_s=60))
    )
    waiting.start()
    return waiting, answers


def at_work(station: Station, run: Id) -> Path:
    """Wait until the training step of a run is in the middle."""
    marker = station.home / f"{run}.at-work"
    until(lambda: marker.exists() and marker.stat().st_size > 0)
    return marker


def test_a_run_process_makes_the_very_model_that_this_process_makes(
    station: Station, tmp_path: Path
) -> None:
    with open_local(Config(), tmp_path / "here") as client:
        client.apply(PROJECT_FILE)
        fill(client)
        here = client.advance(ENDPOINT, END)
        expected = versions(client)
    station.client.apply(PROJECT_FILE)
    fill(station.client)

    advanced = station.client.advance(ENDPOINT, END)

    assert advanced.settled
    assert (advanced.steps, advanced.waiting) == (here.steps, here.waiting)
    assert versions(station.client) == expected
    assert len(expected) == 1
    assert len(station.attempts) == 1
    assert station.attempts[0].end() == 0


def test_a_killed_attempt_is_made_again_and_the_waiting_source_sees_the_end(
    station: Station, tmp_path: Path
) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)
    waiting, answers = advancing(station)
    first = station.nth(1)
    run = station.run_of(first)
    at_work(station, run)

    first.kill()
    second = station.nth(2)
    (station.home / "go-on").touch()
    waiting.join(60)

    assert second.assignment.run == run
    assert [second.assignment.attempt, second.end()] == [2, 0]
    assert answers[0].settled
    assert "Promote" in answers[0].steps
    assert station.runs.get(run).attempt == 2
    with pytest.raises(StaleToken):
        station.runs.renew(run, token=first.assignment.token)


def test_attempts_are_used_up_and_then_the_run_has_failed(station: Station) -> None:
    station.client.apply(PROJECT_FILE)
    fill(station.client)
    waiting, answers = advancing(station)

    for number in range(1, ATTEMPTS + 1):
        station.nth(number).kill()
    waiting.join(60)

    assert len(station.attempts) == ATTEMPTS
    assert [run.state for run in station.client.runs().runs] == ["failed"]
    assert answers[0].settled


def test_a_cancelled_run_stops_its_process_and_its_reports_are_refused(
    station: Station, tmp_path: Path
) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)
    waiting, answers = advancing(station)
    attempt = station.nth(1)
    run = station.run_of(attempt)
    at_work(station, run)

    cancelled = station.client.cancel_run(run, "not today")

    assert (cancelled.run.state, cancelled.run.message) == ("cancelled", "not today")
    assert attempt.end() == STOPPED
    waiting.join(60)
    assert answers[0].settled, "a source does not wait for a cancelled run"
    assert station.client.run(run).tracked.status == "cancelled"
    with pytest.raises(StaleToken):
        station.runs.renew(run, token=attempt.assignment.token)
    assert len(station.attempts) == 1, "what was tried with the same inputs is not tried again"


def test_told_to_stop_an_attempt_gives_its_lease_back_so_that_the_next_begins(
    station: Station, tmp_path: Path
) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)
    station.client.advance(ENDPOINT, END, settle=False)
    attempt = station.nth(1)
    run = station.run_of(attempt)
    at_work(station, run)
    station.on_start = lambda _: None

    attempt.kill(signal.SIGTERM)

    assert attempt.end() == STOPPED
    assert "it was told to" in station.log(run)
    # Nobody starts a process now, but the loop has taken the next attempt's lease.
    held = until(lambda: station.runs.leases.live("default", "run", run))
    assert held.attempt == 2
    assert station.runs.get(run).state == "open"


def test_without_its_supervisor_an_attempt_ends_at_once(station: Station, tmp_path: Path) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)
    station.client.advance(ENDPOINT, END, settle=False)
    attempt = station.nth(1)
    run = station.run_of(attempt)
    at_work(station, run)
    station.on_start = lambda _: None

    attempt.wire._sock.shutdown(2)

    assert attempt.end() == STOPPED
    assert "the platform is gone" in station.log(run)


def test_an_orphan_stops_in_the_middle_of_its_step(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    station = Station(home, Config(lease="12s"))
    try:
        station.client.apply(pausing_project(tmp_path))
        fill(station.client)
        station.client.advance(ENDPOINT, END, settle=False)
        first = station.nth(1)
        run = station.run_of(first)
        at_work(station, run)

        station.platform.project("default").driver.run_ended(run, first.assignment.token)
        second = station.nth(2)

        assert first.end() == STOPPED, "its next sign of life is refused"
        (home / "go-on").touch()
        assert second.end() == 0
        assert until(lambda: station.runs.get(run).state != "open")
        assert station.runs.get(run).attempt == 2
    finally:
        station.close()


def test_the_log_is_followed_live_and_ends_with_the_run(station: Station, tmp_path: Path) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)
    station.client.advance(ENDPOINT, END, settle=False)
    attempt = station.nth(1)
    run = station.run_of(attempt)
    marker = at_work(station, run)
    seen: list[str] = []
    following = threading.Thread(
        target=lambda: seen.extend(station.client.run_output(run, follow=True))
    )
    following.start()
    assert until(lambda: "at work, café" in station.log(run))

    (station.home / "go-on").touch()
    following.join(60)

    assert not following.is_alive()
    assert any(line.endswith("out | at work, café") for line in seen)
    assert "done in" in seen[-1]
    assert "\n".join(seen) + "\n" == station.log(run)
    bearer = f"run.{run}.{attempt.assignment.token}"
    assert marker.read_text() == repr([station.url, bearer])


def test_another_version_in_the_runs_interpreter_fails_the_run_and_names_both(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainspring.api.runs.version", lambda _: "99.0")
    station.client.apply(PROJECT_FILE)
    fill(station.client)

    station.client.advance(ENDPOINT, END)

    (run,) = station.client.runs().runs
    assert run.state == "failed"
    assert "the platform is 99.0" in run.message


def test_a_source_is_told_when_its_patience_is_over(station: Station, tmp_path: Path) -> None:
    station.client.apply(pausing_project(tmp_path))
    fill(station.client)

    with pytest.raises(TimedOut, match="not settled after 1 s"):
        station.client.advance(ENDPOINT, END, patience_s=1)

    assert station.client.watermark(ENDPOINT) == END
