"""A declaration is one value, however it travelled."""

from pathlib import Path

import msgspec

from mainspring.loop.declaration import Declaration, read_declaration

PROJECT = """
import mainspring as ms

parts = ms.Dataset("parts", key="part_id", time="used_at", arrival="known_at",
                   checks=[ms.between("load", -9, 9)])
"""


def test_a_declaration_that_crossed_a_wire_has_the_digest_it_had(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)

    declared = read_declaration(tmp_path / "project.py")

    packed = msgspec.msgpack.decode(msgspec.msgpack.encode(declared), type=Declaration)
    assert packed.digest == declared.digest
    assert msgspec.json.decode(msgspec.json.encode(declared), type=Declaration) == declared
