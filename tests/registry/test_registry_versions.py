"""Versions are numbered without gaps or races; aliases move only for who has seen the last move."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from mainspring.core.clock import FrozenClock
from mainspring.core.errors import Corrupt, InvalidInput, NotFound, Refused, StaleSubject
from mainspring.core.ids import Digest, Id, IdSource, canonical
from mainspring.registry.tables import ALIAS, DERIVED, METADATA, MODEL_VERSION
from mainspring.registry.versions import Registry
from mainspring.store.blobs import FolderBlobs
from mainspring.store.chain import METADATA as STORE
from mainspring.store.database import Database
from mainspring.store.ledger import Ledger

START = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    clock = FrozenClock(START)
    with Database.open(tmp_path / "mainspring.db", clock=clock) as database:
        database.write(STORE.create_all)
        database.write(METADATA.create_all)
        ledger = Ledger(
            database, clock=clock, ids=IdSource(clock), derivations=[DERIVED], head=None
        )
        yield Registry("default", ledger, database, FolderBlobs(tmp_path / "blobs"))


def folder(registry: Registry, content: bytes = b"model", kind: str = "onnx") -> Digest:
    files = {"model.onnx": registry.blobs.put(content)}
    return registry.blobs.put(canonical({"files": files, "kind": kind}))


def register(registry: Registry, model: str = "delay", kind: str = "onnx") -> str:
    found = registry.register(model=model, manifest=folder(registry, kind=kind), actor="ann")
    return found.version


def test_versions_count_up_per_model(registry: Registry) -> None:
    assert [register(registry), register(registry), register(registry, "other")] == ["1", "2", "1"]
    assert [v.version for v in registry.versions("delay")] == ["1", "2"]
    assert registry.models() == ["delay", "other"]


def test_ten_at_once_get_ten_numbers(registry: Registry) -> None:
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(register(registry))) for _ in range(10)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got, key=int) == [str(n) for n in range(1, 11)]


def test_a_version_keeps_where_it_came_from(registry: Registry) -> None:
    run = Id("0" * 32)

    registry.register(
        model="delay",
        manifest=folder(registry),
        actor="ann",
        run=run,
        until=START,
        as_of=START,
        pins={"landings": 3},
    )

    found = registry.get("delay", "1")
    assert (found.run, found.until, found.as_of, found.pins) == (run, START, START, {"landings": 3})
    assert registry.by_manifest(found.manifest) == [found]


def test_a_folder_that_is_not_whole_is_not_registered(registry: Registry) -> None:
    manifest = folder(registry)
    registry.blobs.delete(registry.blobs.put(b"model"))

    with pytest.raises(Corrupt, match="not whole in blobs"):
        registry.register(model="delay", manifest=manifest, actor="ann")
    with pytest.raises(Corrupt, match="not whole in blobs"):
        registry.register(model="delay", manifest=Digest("0" * 64), actor="ann")

    assert registry.versions("delay") == []
    assert registry.seq("delay") == 0


def test_an_opaque_version_is_visible_but_not_deployable(registry: Registry) -> None:
    register(registry, kind="opaque")
    register(registry)

    assert registry.get("delay", "1").opaque
    assert registry.deployable("delay", "2").version == "2"
    with pytest.raises(Refused, match=r"opaque.*convert it"):
        registry.deployable("delay", "1")


def test_an_alias_moves_only_for_who_saw_the_last_move(registry: Registry) -> None:
    register(registry)
    register(registry)
    seen = registry.seq("delay")
    registry.set_alias("delay", "champion", "1", actor="first", expect=seen)

    with pytest.raises(StaleSubject, match="read it again"):
        registry.set_alias("delay", "champion", "2", actor="second", expect=seen)

    assert registry.get("delay", "@champion").version == "1"
    registry.set_alias("delay", "champion", "2", actor="second", expect=registry.seq("delay"))
    assert registry.get("delay", "@champion").version == "2"
    registry.set_alias("delay", "champion", None, actor="second")
    assert registry.aliases("delay") == {}


def test_an_alias_names_a_version_that_is(registry: Registry) -> None:
    register(registry)

    with pytest.raises(NotFound, match="no version '7'"):
        registry.set_alias("delay", "champion", "7", actor="ann")
    with pytest.raises(InvalidInput, match="expected a name"):
        registry.set_alias("delay", "2", "1", actor="ann")
    with pytest.raises(NotFound, match="no alias '@champion'"):
        registry.get("delay", "@champion")


def test_a_card_says_what_is_in_the_folder(registry: Registry) -> None:
    signature = {"inputs": [{"name": "distance", "type": "float"}], "output": "probability"}
    files = {"signature.json": registry.blobs.put(canonical(signature))}
    manifest = registry.blobs.put(canonical({"files": files, "kind": "onnx"}))
    registry.register(model="delay", manifest=manifest, actor="ann")
    registry.set_alias("delay", "champion", "1", actor="ann")

    card = registry.card("delay", "1")

    assert card.aliases == ("champion",)
    assert card.files == files
    assert card.signature is not None
    assert [column.name for column in card.signature.inputs] == ["distance"]


def test_replay_gives_equal_tables(registry: Registry) -> None:
    register(registry)
    register(registry, "other", kind="opaque")
    registry.set_alias("delay", "champion", "1", actor="ann")
    registry.set_alias("delay", "old", "1", actor="ann")
    registry.set_alias("delay", "old", None, actor="ann")

    def rows() -> list[object]:
        with registry.database.read() as connection:
            return [
                tuple(row)
                for table in (MODEL_VERSION, ALIAS)
                for row in connection.execute(select(table))
            ]

    before = rows()
    registry.ledger.rebuild()

    assert rows() == before
    assert len(before) == 3
