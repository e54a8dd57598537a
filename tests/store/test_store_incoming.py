"""Blobs whose bytes come in pieces."""

from hashlib import sha256
from pathlib import Path

import pytest

from mainspring.core.errors import NotFound
from mainspring.core.ids import Digest
from mainspring.store.blobs import FolderBlobs


def test_pieces_become_one_blob_under_the_digest_of_all(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)

    with blobs.incoming() as incoming:
        for piece in (b"one", bytearray(b"two"), b""):
            incoming.write(piece)
        digest = incoming.finish()

    assert digest == sha256(b"onetwo").hexdigest()
    assert (blobs.get(digest), incoming.size_bytes) == (b"onetwo", 6)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)

    with blobs.incoming() as incoming:
        incoming.write(b"half")

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(NotFound):
        blobs.get(Digest(sha256(b"half").hexdigest()))


def test_the_same_bytes_twice_are_one_blob(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    known = blobs.put(b"same")

    with blobs.incoming() as incoming:
        incoming.write(b"same")
        assert incoming.finish() == known

    assert blobs.get(known) == b"same"
