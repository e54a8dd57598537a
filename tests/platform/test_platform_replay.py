"""Replaying the ledger into empty tables gives equal tables, for every kind of event."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy import text

from mainspring.core.clock import FrozenClock
from mainspring.core.config import Config
from mainspring.core.events import (
    Alarmed,
    AlarmEnded,
    Aliased,
    AnyEvent,
    Applied,
    ApprovalAsked,
    Approved,
    CommitRefused,
    Committed,
    Granted,
    Judged,
    ModelCreated,
    ModelDeleted,
    ModelRenamed,
    Promoted,
    Purged,
    Registered,
    Rejected,
    Revoked,
    RolledBack,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutStarted,
    RunClosed,
    RunOpened,
    TokenIssued,
    TokenRevoked,
    VerdictLapsed,
    VersionDeleted,
)
from mainspring.core.ids import Digest, Id, Subject
from mainspring.data.spec import Dataset, not_null
from mainspring.features.spec import FeatureView
from mainspring.governance.audit import audit
from mainspring.loop.spec import Canary, Endpoint, Label
from mainspring.monitoring.spec import errors
from mainspring.platform import DERIVATIONS, Platform
from mainspring.store.schema import derived_snapshot
from mainspring.validation.spec import Better, Gate

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TABLES = [table for derivation in DERIVATIONS for table in derivation.tables]


def digest(letter: str) -> Digest:
    return Digest(letter * 64)


def identity(letter: str) -> Id:
    return Id(letter * 32)


DATASET = Dataset("parts", key="id", time="at", arrival="known", checks=[not_null("id")])
VIEW = FeatureView("recent", entity="id", source=DATASET, features=["load"])
ENDPOINT = Endpoint(
    "wear",
    rows=DATASET,
    request=["load"],
    label=Label("failed", source=DATASET),
    pipeline="train",
    gate=Gate({"auc": 0.6}, Better("log_loss", 0.01)),
    rollout=Canary([0.1], [errors(0.01)]),
)


def registered(version: str) -> Registered:
    return Registered(
        model="wear", version=version, manifest=digest(version), run=identity("a"), until=NOW,
        as_of=NOW, pins={"parts": 1}, opaque=False,
    )  # fmt: skip


def judged(verdict: str, candidate: str, outcome: Any, champion: str | None) -> Judged:
    return Judged(
        verdict=identity(verdict), endpoint="wear", candidate=candidate, champion=champion,
        compared=("1",), outcome=outcome, reason="so", better="1" if champion else None, rows=9,
        slice_start=NOW, slice_end=NOW, planning_sd=0.3, evidence=digest("e"),
        inputs=digest("f"), deadline=NOW if outcome == "inconclusive" else None,
    )  # fmt: skip


def started(rollout: str, candidate: str, verdict: str, kind: Any) -> RolloutStarted:
    return RolloutStarted(
        rollout=identity(rollout), endpoint="wear", candidate=candidate, live="1",
        verdict=identity(verdict), kind=kind, share=0.1, started=NOW, deadline=NOW,
    )  # fmt: skip


def promoted(version: str, verdict: str, rollout: str | None, kind: Any) -> Promoted:
    return Promoted(
        endpoint="wear", version=version, manifest=digest(version), before=None,
        verdict=identity(verdict), rollout=identity(rollout) if rollout else None, kind=kind,
        at=NOW,
    )  # fmt: skip


HISTORY: list[tuple[str, str, AnyEvent]] = [
    ("project", "default", Applied(
        digest=digest("a"), source="project.py", bundle=digest("b"), code={"commit": "c"},
        datasets=(msgspec.to_builtins(DATASET),), views=(msgspec.to_builtins(VIEW),),
        endpoints=(msgspec.to_builtins(ENDPOINT),), pipelines=("train",))),
    ("dataset", "parts", Committed(
        version=1, token="w:1", digest=digest("c"), rows=3, rows_total=3, quarantined=1,
        reasons={"not_null(id)": 1}, delta_version=0, quarantine_delta_version=0,
        event_time_min=NOW, event_time_max=NOW, arrival_max=NOW)),
    ("dataset", "parts", CommitRefused(token="w:2", findings=("too few rows",))),
    ("run", "a" * 32, RunOpened(
        run=identity("a"), pipeline="train", endpoint="wear", trigger="first", parameters={"d": 1},
        until=NOW, as_of=NOW, pins={"parts": 1}, inputs=digest("d"), holdout_rows=9,
        deadline=NOW)),
    ("model", "wear", registered("1")),
    ("run", "a" * 32, RunClosed(
        run=identity("a"), endpoint="wear", outcome="finished", version="1", message="",
        attempt=1, records=digest("f"))),
    ("model", "wear", Aliased(model="wear", alias="best", version="1")),
    ("model", "wear", Aliased(model="wear", alias="gone", version="1")),
    ("model", "wear", Aliased(model="wear", alias="gone", version=None)),
    ("model", "notebook", ModelCreated(model="notebook")),
    ("model", "notebook", msgspec.structs.replace(registered("1"), model="notebook")),
    ("model", "notebook", msgspec.structs.replace(registered("2"), model="notebook")),
    ("model", "notebook", Aliased(model="notebook", alias="best", version="2")),
    ("model", "notebook", ModelRenamed(model="notebook", name="script")),
    ("model", "script", VersionDeleted(model="script", version="2")),
    ("model", "gone", ModelCreated(model="gone")),
    ("model", "gone", msgspec.structs.replace(registered("1"), model="gone", source="s3://b/m")),
    ("model", "gone", ModelDeleted(model="gone")),
    ("version", "wear:1", judged("1", "1", "pass", None)),
    ("endpoint", "wear", promoted("1", "1", None, "first")),
    ("model", "wear", registered("2")),
    ("version", "wear:2", judged("2", "2", "inconclusive", "1")),
    ("version", "wear:2", VerdictLapsed(verdict=identity("2"), endpoint="wear", candidate="2")),
    ("model", "wear", registered("3")),
    ("version", "wear:3", judged("3", "3", "pass", "1")),
    ("endpoint", "wear", ApprovalAsked(
        endpoint="wear", candidate="3", verdict=identity("3"), deadline=NOW)),
    ("endpoint", "wear", Approved(
        endpoint="wear", candidate="3", verdict=identity("3"), comment="good")),
    ("rollout", "c" * 32, started("c", "3", "3", "canary")),
    ("rollout", "c" * 32, RolloutAdvanced(
        rollout=identity("c"), endpoint="wear", step=1, share=0.5, at=NOW)),
    ("endpoint", "wear", promoted("3", "3", "c", "canary")),
    ("rollout", "c" * 32, RolloutCompleted(
        rollout=identity("c"), endpoint="wear", reason="all pass", guards=digest("9"))),
    ("model", "wear", registered("4")),
    ("version", "wear:4", judged("4", "4", "fail", "3")),
    ("rollout", "d" * 32, started("d", "1", "4", "restore")),
    ("rollout", "d" * 32, RolledBack(
        rollout=identity("d"), endpoint="wear", candidate="1", reason="errors",
        guards=digest("8"), at=NOW)),
    ("model", "wear", registered("5")),
    ("version", "wear:5", judged("5", "5", "pass", "3")),
    ("endpoint", "wear", Rejected(
        endpoint="wear", candidate="5", verdict=identity("5"), comment="no")),
    ("alarm", "e" * 32, Alarmed(
        alarm=identity("e"), endpoint="wear", monitor="loss", version="3", message="above",
        readings=digest("7"), opened=NOW, deadline=NOW)),
    ("alarm", "e" * 32, AlarmEnded(
        alarm=identity("e"), endpoint="wear", monitor="loss", cause="quiet", at=NOW)),
    ("actor", "ada", Granted(name="ada", role="admin")),
    ("actor", "bob", Granted(name="bob", role="viewer")),
    ("actor", "bob", TokenIssued(token=identity("f"), name="bob", hash=digest("6"))),
    ("actor", "bob", TokenIssued(token=identity("0"), name="bob", hash=digest("5"))),
    ("actor", "bob", TokenRevoked(token=identity("f"), name="bob")),
    ("actor", "bob", Revoked(name="bob")),
    ("records", "prediction", Purged(table="prediction", rows=3, digest=digest("4"))),
]  # fmt: skip


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with Platform.open(Config(), tmp_path / "home", clock=FrozenClock(NOW)) as platform:
        yield platform


def test_the_history_has_every_kind_of_event() -> None:
    assert {type(event) for _, _, event in HISTORY} == set(get_args(AnyEvent))


def test_replay_after_every_fact_gives_equal_tables(platform: Platform) -> None:
    for kind, name, event in HISTORY:
        platform.ledger.append(Subject("default", kind, name), event, actor="test")
        derived = derived_snapshot(platform.database, TABLES)

        platform.ledger.rebuild()

        assert derived_snapshot(platform.database, TABLES) == derived, type(event).__name__


def test_every_derived_table_is_filled_by_the_history(platform: Platform) -> None:
    for kind, name, event in HISTORY:
        platform.ledger.append(Subject("default", kind, name), event, actor="test")
        if isinstance(event, TokenIssued):
            tokens = derived_snapshot(platform.database, TABLES)

    filled = derived_snapshot(platform.database, TABLES)

    assert [name for name, rows in filled.items() if not rows and not tokens[name]] == []


def test_an_audit_finds_a_derived_table_that_was_changed_by_hand(platform: Platform) -> None:
    for kind, name, event in HISTORY:
        platform.ledger.append(Subject("default", kind, name), event, actor="test")
    assert audit(platform.ledger, platform.database, DERIVATIONS).ok

    platform.database.write(
        lambda connection: connection.execute(text("UPDATE live SET version = '9'")).rowcount
    )
    found = audit(platform.ledger, platform.database, DERIVATIONS)

    assert not found.ok
    assert "table live" in found.findings[0]
