"""Damaged files: what does not have its digest never answers, and what answered before goes on."""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tests.serving.serving_world import World, constant, live, rows

from mainspring.core.clock import FrozenClock
from mainspring.core.ids import Digest
from mainspring.formats.model import read_manifest

FILES = (
    *("model.onnx", "MLmodel", "signature.json", "goldens.json", "profile.json"),
    *("environment.json", "requirements.txt"),
)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace(path, bytes(content))


def truncate(path: Path) -> None:
    replace(path, path.read_bytes()[:-1])


def empty(path: Path) -> None:
    replace(path, b"")


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path, content: bytes) -> None:
    # By another file: the bytes of a blob are never changed where they lie.
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def file_of(world: World, manifest: Digest, name: str) -> Path:
    found = read_manifest(lambda digest: world.home.blob("default", digest), manifest)
    return world.home.blob("default", found.files[name])


@pytest.mark.parametrize("damage", [flip, truncate, empty, remove])
@pytest.mark.parametrize("name", [*FILES, "manifest"])
def test_a_version_with_a_damaged_file_never_answers(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    world = World(tmp_path)
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(1, live(first))
    engine = world.engine()
    # Some files both versions have: the first one is in memory, and goes on as well.
    path = world.home.blob("default", second)
    path = path if name == "manifest" else file_of(world, second, name)
    damage(path)
    world.publish(2, live(second, version="2"))

    engine.refresh()
    answer = engine.predict("default", "delay", rows("JFK"))
    (endpoint,) = engine.status().endpoints

    assert (answer.outputs, answer.versions) == ([0.5], ["1"])
    assert endpoint.routes == 1
    assert endpoint.problem is not None
    # It names what is wrong: the version, or the file by its digest or name.
    told = (second[:12], (path.parent.name + path.name)[:12], name)
    assert any(one in endpoint.problem for one in told)


def test_two_files_that_changed_places_are_found_out(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(1, live(first))
    engine = world.engine()
    graphs = [file_of(world, manifest, "model.onnx") for manifest in (first, second)]
    contents = [path.read_bytes() for path in graphs]
    for path, content in zip(graphs, reversed(contents), strict=True):
        replace(path, content)
    world.publish(2, live(second, version="2"))

    engine.refresh()
    answer = engine.predict("default", "delay", rows("JFK"))

    # The first is in memory, and goes on; the second is not taken.
    assert (answer.outputs, answer.versions) == ([0.5], ["1"])
    assert engine.status().endpoints[0].problem is not None
    fresh = world.engine()
    assert fresh.status().endpoints[0].routes is None


@pytest.mark.parametrize("damage", [flip, truncate, empty, remove])
def test_a_damaged_route_table_leaves_the_one_in_use(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    world = World(tmp_path)
    world.publish(1, live(world.model(constant(0.5))))
    engine = world.engine()
    world.publish(2, live(world.model(constant(0.25), golden=0.25), version="2"))
    damage(world.home.routes)

    engine.refresh()
    answer = engine.predict("default", "delay", rows("JFK"))

    # A flipped bit may leave a table that reads well: then it is the new one, whole.
    assert (answer.outputs, answer.versions) in (([0.5], ["1"]), ([0.25], ["2"]))
    if answer.versions == ["1"]:
        assert any("routes" in problem for problem in engine.status().problems) or (
            engine.status().endpoints[0].problem
        )


def test_a_file_that_is_whole_again_is_taken_by_itself(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = world.model(constant(0.5)), world.model(constant(0.25), golden=0.25)
    world.publish(1, live(first))
    engine = world.engine()
    path = file_of(world, second, "model.onnx")
    whole = path.read_bytes()
    flip(path)
    world.publish(2, live(second, version="2"))
    engine.refresh()
    replace(path, whole)
    assert isinstance(world.clock, FrozenClock)
    world.clock.advance(timedelta(seconds=6))

    engine.refresh()
    answer = engine.predict("default", "delay", rows("JFK"))

    assert (answer.outputs, answer.versions) == ([0.25], ["2"])
    assert json.loads(world.home.routes.read_bytes())["number"] == 2
