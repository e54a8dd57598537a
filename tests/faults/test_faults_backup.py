"""Backups of a home at work: restored elsewhere, the loop goes on as after a kill."""

import json
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from driven_loop import DAYS, driven, state_of
from end_state import end_state, integrity
from running_platform import COMMAND, RunningPlatform, get, project_beside, running
from small_driver import ENDPOINT, SmallDriver
from small_world import DAY, START, SmallWorld
from sqlalchemy import Connection, text
from wire_driver import WireDriver

from mainspring.api import home as homes
from mainspring.api.client import Client
from mainspring.api.local import local_client
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.errors import MainspringError
from mainspring.platform import Platform
from mainspring.serving.engine import Answer, Rows


@dataclass(slots=True)
class Acknowledged:
    """What was answered to the driver, in order; kept outside of the home."""

    commits: list[str] = field(default_factory=list)
    pushes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    predictions: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Say how much of each there is by now."""
        lists = (self.commits, self.pushes, self.labels, self.predictions)
        names = ("commits", "pushes", "labels", "predictions")
        return dict(zip(names, map(len, lists), strict=True))


class OracleDriver(SmallDriver):
    """Writes down every acknowledgement, and answers every hour of a day while others work."""

    acknowledged: Acknowledged

    def noting(self, acknowledged: Acknowledged) -> None:
        """Note from now on what is acknowledged."""
        noted, client, engine = acknowledged, self.client, self.engine
        for verb, list_ in (
            ("commit", noted.commits),
            ("push", noted.pushes),
            ("label", noted.labels),
        ):
            _note(client, verb, list_)
        predict = engine.predict

        def noting(project: str, endpoint: str, rows: Rows, **rest: Any) -> Answer:
            answer = predict(project, endpoint, rows, **rest)
            noted.predictions.extend(rows.keys)
            return answer

        engine.predict = noting  # type: ignore[method-assign]


def _note(client: Client, verb: str, noted: list[str]) -> None:
    call = getattr(client, verb)

    def noting(subject: str, *rest: Any, token: str, **more: Any) -> Any:
        answer = call(subject, *rest, token=token, **more)
        noted.append(f"{subject} {token}")
        return answer

    setattr(client, verb, noting)


def drive(home: Path, days: int, noted: Acknowledged | None = None) -> dict[str, Any]:
    clock, config = SystemClock(), Config()
    with Platform.open(config, home, clock=clock) as platform:
        driver = OracleDriver(platform, local_client(platform, config), SmallWorld(), clock)
        if noted is not None:
            driver.noting(noted)
        driver.run(days)
        assert platform.ledger.verify().ok
        return end_state(platform)


@dataclass(slots=True)
class Copy:
    """A backup, and what had been acknowledged when it was begun."""

    directory: Path
    before: dict[str, int]
    point: homes.BackedUp


def back_up_again_and_again(
    home: Path, folder: Path, noted: Acknowledged, over: threading.Event
) -> list[Copy]:
    copies: list[Copy] = []
    while not over.wait(0.2):
        if (home / "mainspring.db").exists() and noted.pushes:
            before, directory = noted.counts(), folder / f"{len(copies):03d}"
            copies.append(Copy(directory, before, homes.back_up(home, directory)))
    return copies


@pytest.fixture(scope="module")
def at_work(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], Acknowledged, list[Copy]]:
    """A home that was backed up all the while, its end, and the backups."""
    folder = tmp_path_factory.mktemp("at-work")
    (folder / "backups").mkdir()
    noted, over, copies = Acknowledged(), threading.Event(), list[Copy]()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            copies.extend(back_up_again_and_again(folder / "home", folder / "backups", noted, over))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        end = drive(folder / "home", DAYS, noted)
    finally:
        over.set()
        thread.join()
    assert not failed, failed
    return end, noted, copies


def test_backing_up_changes_nothing(
    at_work: tuple[dict[str, Any], Acknowledged, list[Copy]], tmp_path: Path
) -> None:
    assert len(at_work[2]) >= 5

    assert apart(drive(tmp_path / "undisturbed", DAYS), at_work[0]) == []


def test_what_was_acknowledged_before_a_backup_began_is_in_it(
    at_work: tuple[dict[str, Any], Acknowledged, list[Copy]], tmp_path: Path
) -> None:
    _, noted, copies = at_work
    for number, copy in enumerate(copies):
        home = tmp_path / str(number)

        restored = homes.restore(copy.directory, home, Config())

        assert restored.audit.ok, restored.audit
        assert restored.audit.facts == copy.point.seq
        assert integrity(home) == "ok"
        assert lost(home, noted, copy.before) == {}


def lost(home: Path, noted: Acknowledged, before: dict[str, int]) -> dict[str, list[str]]:
    """Name what was acknowledged and is not there."""
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        platform.project("default").stages.monitoring.compact()
        with platform.database.read() as connection:

            def found(query: str) -> list[str]:
                return [" ".join(row) for row in connection.execute(text(query))]

            there = {
                "commits": found("SELECT dataset, writer || ':' || number FROM dataset_version"),
                "pushes": found("SELECT dataset, writer || ':' || number FROM push"),
                "labels": found("SELECT endpoint, token FROM label_batch"),
                "predictions": found(
                    f"SELECT key FROM prediction WHERE endpoint = '{ENDPOINT}'"
                    " AND repeat_of IS NULL"
                ),
            }
    assert all(len(rows) == len(set(rows)) for rows in there.values())
    missing = {
        kind: sorted(set(getattr(noted, kind)[:count]) - set(there[kind]))
        for kind, count in before.items()
    }
    return {kind: names for kind, names in missing.items() if names}


def test_a_restored_home_ends_as_the_first_one_did(
    at_work: tuple[dict[str, Any], Acknowledged, list[Copy]], tmp_path: Path
) -> None:
    end, _, copies = at_work
    for copy in (copies[len(copies) // 3], copies[-len(copies) // 3]):
        home = tmp_path / copy.directory.name
        homes.restore(copy.directory, home, Config())

        assert apart(drive(home, DAYS), end) == []
        assert integrity(home) == "ok"


@pytest.fixture(scope="module")
def on_its_way(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home some days before its end."""
    home = tmp_path_factory.mktemp("on-its-way") / "home"
    drive(home, DAYS - 4)
    return home


PLANTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tables beyond the snapshot": {"has_version": lambda *_: True},
    "segments beyond the snapshot": {"segment_end": lambda *_: 2**40},
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_the_home_did_after_the_snapshot_does_no_harm(
    at_work: tuple[dict[str, Any], Acknowledged, list[Copy]],
    on_its_way: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    planted: str,
) -> None:
    shutil.copytree(on_its_way, tmp_path / "home")
    of = homes.KnownFiles.of

    def going_on(connection: Connection) -> homes.KnownFiles:
        # The snapshot is taken and nothing else copied yet: the home lives to its end first.
        known = of(connection)
        drive(tmp_path / "home", DAYS)
        return known

    monkeypatch.setattr(homes.KnownFiles, "of", going_on)
    for name, bug in PLANTED[planted].items():
        monkeypatch.setattr(homes.KnownFiles, name, bug)
    homes.back_up(tmp_path / "home", tmp_path / "backup")

    differences = restored_and_driven(tmp_path / "backup", tmp_path / "other", at_work[0])

    assert bool(differences) == bool(PLANTED[planted]), differences


def restored_and_driven(backup: Path, home: Path, end: dict[str, Any]) -> list[str]:
    assert homes.restore(backup, home, Config()).audit.ok
    try:
        return apart(drive(home, DAYS), end)
    except MainspringError as error:
        return [str(error)]


def test_a_backup_that_lacks_a_record_is_found_out(
    at_work: tuple[dict[str, Any], Acknowledged, list[Copy]], tmp_path: Path
) -> None:
    _, noted, copies = at_work
    homes.restore(copies[-1].directory, tmp_path / "home", Config())
    segments = sorted((tmp_path / "home" / "segments").iterdir())
    for path in segments:
        path.unlink()
    with Platform.open(Config(), tmp_path / "home", clock=SystemClock()) as platform:
        platform.database.write(
            lambda c: c.execute(text("DELETE FROM push WHERE number % 2 = 0")).rowcount
        )

    assert "pushes" in lost(tmp_path / "home", noted, copies[-1].before)


def command(*arguments: str) -> dict[str, Any]:
    """Run a command on a home; give what it printed."""
    done = subprocess.run(
        [COMMAND, *arguments, "--json"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@dataclass(slots=True)
class BackUp:
    """Back a running platform up with the command, while its driver goes on."""

    event: str
    directory: Path
    nth: int = 1
    point: dict[str, Any] = field(default_factory=dict)

    def strike(self, platform: RunningPlatform) -> None:
        home = str(platform.home.root)
        self.point = command("backup", str(self.directory), "--home", home)


@pytest.mark.slow
def test_a_running_platform_is_backed_up_and_goes_on_elsewhere(tmp_path: Path) -> None:
    blows = [
        BackUp(event, tmp_path / f"backup-{event}")
        for event in ("Promoted", "Alarmed", "RolloutStarted")
    ]

    end = driven(tmp_path / "home", blows)

    for blow in blows[1:]:
        home = tmp_path / f"restored-{blow.event}"
        restored = command("restore", str(blow.directory), "--home", str(home))
        assert restored["audit"]["ok"] is True
        assert restored["backup"]["seq"] == blow.point["seq"]
        with running(home) as platform:
            drive_on(platform)
        assert integrity(home) == "ok"
        assert apart(state_of(home), end) == []


def drive_on(platform: RunningPlatform) -> None:
    """Go on from the watermark, as a source does whose platform was restored."""
    told = get(platform.url, f"/api/v1/endpoint/watermark?endpoint={ENDPOINT}")[1]
    watermark = datetime.fromisoformat(json.loads(told)["watermark"])
    driver = WireDriver(
        platform.client(), platform.inference_url, SmallWorld(), project_beside(platform.home.root)
    )
    driver.client.advance(ENDPOINT, watermark)
    driver.run(DAYS, first=(watermark - START) // DAY)
    driver.predictor.close()


def apart(end: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [part for part in expected if end[part] != expected[part]]
