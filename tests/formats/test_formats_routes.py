"""The routes file is replaced whole, never by an older one, and checked before it is."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mainspring.core.errors import Corrupt, InvalidDeclaration, NotFound, StaleSubject
from mainspring.core.ids import Digest, Id
from mainspring.formats.model import Column
from mainspring.formats.routes import Arm, EndpointRoute, RouteTable, ViewRef, load, publish

CANARY = Arm("2", Digest("b" * 64), "canary", 0.25)
LIVE = Arm("1", Digest("a" * 64), "live", 0.75)
ROUTE = EndpointRoute(
    project="default",
    endpoint="delay",
    salt="salt",
    arms=(CANARY, LIVE),
    request=(Column("origin", "str"),),
    views=(ViewRef("weather", "origin", 3600.0, ("wind",)),),
    arm_timeout_s=1.0,
    rollout=Id("0" * 32),
)


def test_a_published_table_is_read_back_equal(tmp_path: Path) -> None:
    table = RouteTable(7, (ROUTE,))

    publish(tmp_path / "routes.json", table)

    assert load(tmp_path / "routes.json") == table
    assert [path.name for path in tmp_path.iterdir()] == ["routes.json"]


def test_an_older_table_is_refused_and_an_equal_number_replaces(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    publish(path, RouteTable(7, (ROUTE,)))
    publish(path, RouteTable(7, ()))

    with pytest.raises(StaleSubject, match="number 7 published"):
        publish(path, RouteTable(6, (ROUTE,)))
    assert load(path) == RouteTable(7, ())


def test_an_unreadable_file_is_named_and_repaired_by_publishing(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    with pytest.raises(NotFound, match="none published"):
        load(path)
    path.write_text('{"number": ')

    with pytest.raises(Corrupt, match="publish it again"):
        load(path)
    publish(path, RouteTable(1, ()))
    assert load(path).number == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": (LIVE, CANARY)}, "listed last"),
        ({"arms": (CANARY,)}, "found 0 live arms"),
        ({"arms": (msgspec.structs.replace(CANARY, share=0.5), LIVE)}, "sum 1"),
        ({"arms": (msgspec.structs.replace(CANARY, version="1"), LIVE)}, "two arms"),
        ({"arms": (msgspec.structs.replace(CANARY, role="shadow"), LIVE)}, "shadow"),
        ({"salt": "s" * 65}, "64 bytes"),
        ({"arm_timeout_s": 0.0}, "time limit"),
        ({"views": (ViewRef("weather", "dest", None, ("wind",)),)}, "'dest'"),
        ({"views": (ViewRef("weather", "origin", None, ("origin",)),)}, "given twice"),
    ],
)
def test_a_route_that_cannot_be_served_is_not_published(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidDeclaration, match=message):
        publish(tmp_path / "r", RouteTable(1, (msgspec.structs.replace(ROUTE, **change),)))
    assert not (tmp_path / "r").exists()
