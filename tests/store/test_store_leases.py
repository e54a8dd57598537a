from datetime import timedelta

import pytest

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import InvalidInput, Leased, StaleToken
from mainspring.core.ids import IdSource
from mainspring.store.database import Database
from mainspring.store.leases import Lease, Leases

MINUTE = timedelta(minutes=1)


@pytest.fixture
def leases(database: Database, clock: FrozenClock, ids: IdSource) -> Leases:
    return Leases(database, clock=clock, ids=ids)


def _take(leases: Leases, name: str = "r1", owner: str = "one") -> Lease:
    return leases.acquire("default", "run", name, owner=owner, ttl=MINUTE)


def _attempt(database: Database, leases: Leases, lease: Lease) -> int:
    return database.write(
        lambda c: leases.check(c, lease.project, lease.kind, lease.name, lease.token)
    )


def test_a_live_lease_excludes_others_and_says_whose_it_is(leases: Leases) -> None:
    held = _take(leases)

    with pytest.raises(Leased, match=r"run/r1: leased to one \(attempt 1\) until 2013-01-01T00:01"):
        _take(leases, owner="two")

    assert leases.live("default", "run", "r1") == held
    assert leases.acquire("other", "run", "r1", owner="two", ttl=MINUTE).attempt == 1
    with pytest.raises(InvalidInput):
        _take(leases, name="a/b")


def test_a_successor_makes_every_use_of_the_old_token_stale(
    leases: Leases, database: Database, clock: FrozenClock
) -> None:
    old = _take(leases)
    clock.advance(MINUTE)
    assert leases.live("default", "run", "r1") is None
    new = _take(leases, owner="two")

    with pytest.raises(StaleToken, match="found attempt 2"):
        leases.renew(old, MINUTE)
    with pytest.raises(StaleToken):
        _attempt(database, leases, old)
    leases.release(old)

    assert (old.attempt, new.attempt) == (1, 2)
    assert leases.live("default", "run", "r1") == new
    assert _attempt(database, leases, new) == 2


def test_a_late_heartbeat_is_taken_while_nobody_has_followed(
    leases: Leases, database: Database, clock: FrozenClock
) -> None:
    lease = _take(leases)
    clock.advance(10 * MINUTE)

    assert _attempt(database, leases, lease) == 1
    renewed = leases.renew(lease, MINUTE)

    assert leases.live("default", "run", "r1") == renewed
    assert renewed.ends == clock.now() + MINUTE


def test_a_released_lease_is_over_and_attempts_go_on_counting(
    leases: Leases, database: Database
) -> None:
    lease = _take(leases)
    leases.release(lease)
    leases.release(lease)

    with pytest.raises(StaleToken, match="released"):
        _attempt(database, leases, lease)
    with pytest.raises(StaleToken, match="no lease"):
        database.write(lambda c: leases.check(c, "default", "run", "never", lease.token))
    assert _take(leases).attempt == 2


def test_a_new_owner_of_the_home_ends_its_predecessors_leases_only(leases: Leases) -> None:
    mine, other = _take(leases, "r1", "control_1:a"), _take(leases, "r2", "controlX1:a")
    upper = _take(leases, "r3", "CONTROL_1:a")

    assert leases.end_owner("control_1") == 1

    assert leases.live("default", mine.kind, mine.name) is None
    assert leases.live_of("default", "run") == [other, upper]
    assert leases.end_owner("control_1") == 0
