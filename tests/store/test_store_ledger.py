import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Table, delete, insert, select, text

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import Corrupt, InvalidInput, NotFound, StaleSubject
from mainspring.core.events import Granted, Promoted, Revoked
from mainspring.core.ids import Digest, Id, IdSource, Seq, Subject
from mainspring.store.chain import LEDGER, METADATA, Sealed
from mainspring.store.database import Database
from mainspring.store.ledger import Derivation, Draft, Ledger
from mainspring.store.schema import derived_snapshot

ANNA = Subject("default", "actor", "anna")
BEN = Subject("default", "actor", "ben")


def _granted(name: str, role: str = "viewer") -> Granted:
    return Granted(name=name, role=role)  # type: ignore[arg-type]


def test_a_fact_carries_its_place_and_follows_the_one_before(ledger: Ledger) -> None:
    first = ledger.append(ANNA, _granted("anna"), actor="local")
    second = ledger.append(BEN, _granted("ben"), actor="local", cause=first.seq)

    assert (first.seq, second.seq) == (1, 2)
    assert second.before == first.hash != second.hash
    assert second.cause == 1
    assert ledger.fact(Seq(2)) == second
    assert ledger.verify().ok


def test_a_fact_reads_back_with_its_times(ledger: Ledger, clock: FrozenClock) -> None:
    at = datetime(2013, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
    event = Promoted(
        endpoint="delay",
        version="2",
        manifest=Digest("0" * 64),
        before="1",
        verdict=Id("0" * 32),
        rollout=None,
        kind="canary",
        at=at,
    )

    fact = ledger.append(Subject("default", "endpoint", "delay"), event, actor="loop")

    assert ledger.fact(fact.seq).event == event
    assert fact.at == clock.now()


def test_expect_refuses_whoever_read_an_older_state(ledger: Ledger) -> None:
    ledger.append(BEN, _granted("ben"), actor="local")
    seen = ledger.append(ANNA, _granted("anna"), actor="local").seq
    ledger.append(BEN, Revoked(name="ben"), actor="local")
    ledger.append(ANNA, _granted("anna", "admin"), actor="first", expect=seen)

    with pytest.raises(StaleSubject, match=r"actor/anna: found seq 4, expected 2; read it again"):
        ledger.append(ANNA, _granted("anna", "editor"), actor="second", expect=seen)
    with pytest.raises(StaleSubject):
        ledger.append(ANNA, _granted("anna"), actor="third", expect=Seq(0))

    assert ledger.newest(ANNA) == 4
    assert ledger.newest(Subject("other", "actor", "anna")) == 0


def test_a_batch_is_all_or_nothing_and_shares_its_cause(
    ledger: Ledger, database: Database, roles: Table
) -> None:
    facts = ledger.append_all(
        [Draft(ANNA, _granted("anna")), Draft(BEN, _granted("ben"))], actor="local"
    )
    before = derived_snapshot(database, [roles, LEDGER])

    with pytest.raises(RuntimeError, match="derive failed"):
        ledger.append_all(
            [Draft(ANNA, Revoked(name="anna")), Draft(BEN, _granted("unlucky"))], actor="local"
        )
    with pytest.raises(StaleSubject):
        ledger.append_all(
            [Draft(ANNA, Revoked(name="anna")), Draft(BEN, Revoked(name="ben"), expect=Seq(9))],
            actor="local",
        )

    assert [fact.cause for fact in facts] == [None, 1]
    assert derived_snapshot(database, [roles, LEDGER]) == before
    assert ledger.append(ANNA, Revoked(name="anna"), actor="local").seq == 3
    assert ledger.verify().ok


def test_what_also_does_stands_or_falls_with_the_facts(
    ledger: Ledger, database: Database, roles: Table
) -> None:
    def also(connection: Connection) -> None:
        row = {"project": "p", "name": "also", "role": "r", "seq": 0}
        connection.execute(insert(roles), row)

    def refuse(connection: Connection) -> None:
        also(connection)
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        ledger.append_all([Draft(ANNA, _granted("anna"))], actor="local", also=refuse)
    with pytest.raises(StaleSubject):
        ledger.append_all([Draft(ANNA, _granted("a"), Seq(7))], actor="local", also=also)
    assert derived_snapshot(database, [roles])["toy_role"] == []

    ledger.append_all([Draft(ANNA, _granted("anna"))], actor="local", also=also)
    assert len(derived_snapshot(database, [roles])["toy_role"]) == 2


def test_a_subject_or_event_that_cannot_be_is_refused(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="not allowed"):
        ledger.append(Subject("default", "actor", "../x"), _granted("x"), actor="local")
    with pytest.raises(InvalidInput, match="cannot be recorded"):
        ledger.append(ANNA, _granted("anna", "emperor"), actor="local")
    with pytest.raises(InvalidInput, match="cannot be written"):
        ledger.append(ANNA, _granted("\ud800"), actor="local")
    with pytest.raises(NotFound):
        ledger.fact(Seq(1))


def test_facts_are_listed_by_subject_kind_and_event(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ledger.append(Subject("default", "actor", name), _granted(name), actor="local")
        ledger.append(Subject("other", "actor", name), _granted(name), actor="local")
    ledger.append(Subject("default", "actor", "a"), Revoked(name="a"), actor="local")

    assert [f.seq for f in ledger.facts(project="default")] == [1, 3, 5]
    assert [f.seq for f in ledger.facts(project="default", name="a", newest_first=True)] == [5, 1]
    assert [f.seq for f in ledger.facts(events=["Revoked"])] == [5]
    assert [f.seq for f in ledger.facts(after=Seq(2), limit=2)] == [3, 4]
    assert ledger.facts(kind="endpoint") == []


def test_replay_into_empty_tables_gives_equal_tables(
    ledger: Ledger, database: Database, roles: Table
) -> None:
    drafts = [
        Draft(
            Subject("default", "actor", f"n{number % 7}"),
            Revoked(name=f"n{number % 7}") if number % 5 == 0 else _granted(f"n{number % 7}"),
        )
        for number in range(1203)
    ]
    ledger.append_all(drafts, actor="local")
    before = derived_snapshot(database, [roles])
    planted = {"project": "p", "name": "x", "role": "r", "seq": 1}
    database.write(lambda connection: connection.execute(insert(roles), planted))
    assert derived_snapshot(database, [roles]) != before

    ledger.rebuild()

    assert derived_snapshot(database, [roles]) == before
    assert len(before["toy_role"]) > 3


@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plan=st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=2, max_size=4))
def test_racing_writers_each_win_once_per_state_they_read(
    plan: list[list[str]], tmp_path_factory: pytest.TempPathFactory, clock: FrozenClock
) -> None:
    folder = tmp_path_factory.mktemp("race")
    with Database.open(folder / "race.db", clock=clock) as database:
        database.write(METADATA.create_all)
        ledger = Ledger(
            database, clock=clock, ids=IdSource(clock), derivations=[], head=folder / "head"
        )
        start = threading.Barrier(len(plan))

        def writer(names: list[str]) -> list[tuple[str, int, int]]:
            won: list[tuple[str, int, int]] = []
            start.wait()
            for name in names:
                subject = Subject("default", "actor", name)
                while True:
                    seen = ledger.newest(subject)
                    try:
                        fact = ledger.append(subject, _granted(name), actor="w", expect=seen)
                    except StaleSubject:
                        continue
                    won.append((name, seen, fact.seq))
                    break
            return won

        with ThreadPoolExecutor(len(plan)) as pool:
            won = [entry for entries in pool.map(writer, plan) for entry in entries]

        assert len({(name, seen) for name, seen, _ in won}) == len(won) == sum(map(len, plan))
        for name in "abc":
            steps = sorted((seen, seq) for won_name, seen, seq in won if won_name == name)
            assert [seen for seen, _ in steps] == [0, *[seq for _, seq in steps]][: len(steps)]
        report = ledger.verify()
        assert (report.ok, report.facts) == (True, len(won))


def _alter(connection: Connection) -> None:
    body = connection.execute(select(LEDGER.c.body).where(LEDGER.c.seq == 4)).scalar_one()
    altered = body.replace("viewer", "admin")
    assert altered != body
    connection.execute(LEDGER.update().where(LEDGER.c.seq == 4).values(body=altered))


def _drop(connection: Connection) -> None:
    connection.execute(delete(LEDGER).where(LEDGER.c.seq == 4))


def _close_gap(connection: Connection) -> None:
    _drop(connection)
    for seq in (5, 6, 7, 8):
        connection.execute(LEDGER.update().where(LEDGER.c.seq == seq).values(seq=seq - 1))


def _reorder(connection: Connection) -> None:
    for old, new in ((4, 99), (5, 4), (99, 5)):
        connection.execute(LEDGER.update().where(LEDGER.c.seq == old).values(seq=new))


def _truncate(connection: Connection) -> None:
    connection.execute(delete(LEDGER).where(LEDGER.c.seq > 6))


def _insert(connection: Connection) -> None:
    row = dict(connection.execute(select(LEDGER).where(LEDGER.c.seq == 4)).mappings().one())
    connection.execute(LEDGER.update().where(LEDGER.c.seq == 8).values(seq=9))
    row |= {"seq": 8, "id": "f" * 32, "hash": "f" * 64}
    connection.execute(insert(LEDGER), row)


def _relabel(connection: Connection) -> None:
    connection.execute(LEDGER.update().where(LEDGER.c.seq == 4).values(event="Revoked"))


def _impersonate(connection: Connection) -> None:
    connection.execute(LEDGER.update().where(LEDGER.c.seq == 4).values(actor="somebody"))


def _garble(connection: Connection) -> None:
    connection.execute(text("UPDATE ledger SET body = '{' WHERE seq = 4"))


def _rewrite_tail(connection: Connection) -> None:
    """Forge the newest fact consistently; only the head file knows better."""
    row = connection.execute(select(LEDGER).where(LEDGER.c.seq == 8)).one()
    forged = Sealed(**dict(row._mapping) | {"actor": "somebody"})
    values = {"actor": "somebody", "hash": forged.digest()}
    connection.execute(LEDGER.update().where(LEDGER.c.seq == 8).values(values))


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (_alter, "fact 4: its content"),
        (_drop, "facts 4 to 4 are missing"),
        (_close_gap, "fact 4: it does not follow"),
        (_reorder, "fact 4: it does not follow"),
        (_truncate, "facts 7 to 8 are missing: the ledger was cut off"),
        (_insert, "fact 8: its content"),
        (_relabel, "fact 4: column event says Revoked, its body says Granted"),
        (_impersonate, "fact 4: its content"),
        (_garble, "fact 4: its body is no known event"),
        (_rewrite_tail, "fact 8: its hash is not the one the head file holds"),
    ],
)
def test_tampering_is_found_and_named(
    ledger: Ledger,
    database: Database,
    tamper: Callable[[Connection], None],
    named: str,
) -> None:
    for number in range(8):
        ledger.append(Subject("default", "actor", f"n{number}"), _granted(f"n{number}"), actor="a")
    assert ledger.verify().ok

    database.write(tamper)

    report = ledger.verify()
    assert not report.ok
    assert named in " | ".join(report.findings)


def test_a_cut_off_ledger_is_not_appended_to(
    ledger: Ledger, database: Database, reopen: Callable[[], Ledger]
) -> None:
    for number in range(8):
        ledger.append(Subject("default", "actor", f"n{number}"), _granted("n"), actor="a")
    database.write(_truncate)

    for each in (ledger, reopen()):
        with pytest.raises(Corrupt, match="ends with fact 6, expected fact 8"):
            each.append(ANNA, _granted("anna"), actor="a")
    assert not ledger.verify().ok


def test_a_head_left_behind_by_a_crash_is_sound_and_a_missing_one_is_not(
    ledger: Ledger, reopen: Callable[[], Ledger], tmp_path: Path
) -> None:
    head = tmp_path / "ledger.head"
    ledger.append(ANNA, _granted("anna"), actor="a")
    behind = head.read_bytes()
    ledger.append(BEN, _granted("ben"), actor="a")
    head.write_bytes(behind)

    assert ledger.verify().ok
    reopen().append(ANNA, Revoked(name="anna"), actor="a")
    assert json.loads(head.read_bytes())["seq"] == 3
    head.unlink()
    assert "is missing beside 3 facts" in ledger.verify().findings[0]
    head.write_bytes(b"\x00" * 10)
    assert "not readable" in ledger.verify().findings[0]


def test_deriving_sees_the_same_values_now_and_at_replay(
    database: Database, clock: FrozenClock, ids: IdSource
) -> None:
    seen: list[object] = []
    derivation = Derivation((), lambda _, fact: seen.append(fact))
    ledger = Ledger(database, clock=clock, ids=ids, derivations=[derivation], head=None)
    returned = ledger.append(ANNA, _granted("anna"), actor="a")

    ledger.rebuild()

    assert seen == [returned, returned]
