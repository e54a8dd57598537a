import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mainspring.core.errors import Corrupt, InvalidInput, NotFound
from mainspring.core.home import Home
from mainspring.core.ids import Digest, digest_bytes
from mainspring.store.blobs import Blobs, FolderBlobs

CONTENT = b"a model" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Home(tmp_path).blobs("default")


@pytest.fixture
def blobs(root: Path) -> FolderBlobs:
    return FolderBlobs(root)


def test_bytes_come_back_by_their_digest(blobs: Blobs, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)

    digests = {blobs.put(CONTENT), blobs.put_file(source), blobs.put(CONTENT)}

    assert digests == {digest_bytes(CONTENT)}
    assert blobs.get(digest_bytes(CONTENT)) == CONTENT
    assert blobs.path(digest_bytes(CONTENT)) == Home(tmp_path).blob("default", digests.pop())
    assert os.listdir(root / "tmp") == []


def test_nothing_at_all_is_a_blob_too(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    assert blobs.put(b"") == blobs.put_file(tmp_path / "empty")
    assert blobs.get(digest_bytes(b"")) == b""


def test_what_is_not_there_is_named(blobs: Blobs) -> None:
    absent = digest_bytes(b"absent")
    blobs.delete(absent)

    with pytest.raises(NotFound, match=absent[:2]):
        blobs.get(absent)
    with pytest.raises(NotFound):
        blobs.path(absent)


def test_a_deleted_blob_is_gone_and_its_neighbour_is_not(blobs: Blobs) -> None:
    gone, kept = blobs.put(b"gone"), blobs.put(b"kept")

    blobs.delete(gone)
    blobs.delete(gone)

    with pytest.raises(NotFound):
        blobs.get(gone)
    assert blobs.get(kept) == b"kept"
    assert blobs.put(b"gone") == gone
    assert blobs.get(gone) == b"gone"


@pytest.mark.parametrize("bad", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 62 + "/x"])
def test_only_a_digest_becomes_a_path(blobs: Blobs, bad: str) -> None:
    for use in (blobs.get, blobs.path, blobs.delete):
        with pytest.raises(InvalidInput):
            use(Digest(bad))


def test_altered_bytes_are_corrupt_and_a_cut_off_file_is_repaired_by_put(blobs: Blobs) -> None:
    digest = blobs.put(CONTENT)
    blobs.path(digest).write_bytes(b"b" + CONTENT[1:])
    with pytest.raises(Corrupt, match=digest):
        blobs.get(digest)

    blobs.path(digest).write_bytes(CONTENT[:10])
    blobs.put(CONTENT)

    assert blobs.get(digest) == CONTENT


def test_a_link_in_place_of_a_blob_is_neither_read_nor_written_through(
    blobs: Blobs, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_bytes(CONTENT)
    digest = blobs.put(CONTENT)
    file = blobs.path(digest)
    file.unlink()
    file.symlink_to(canary)

    with pytest.raises(Corrupt, match="link"):
        blobs.get(digest)
    with pytest.raises(NotFound):
        blobs.path(digest)
    blobs.put(CONTENT)

    assert not file.is_symlink()
    assert blobs.get(digest) == CONTENT
    blobs.delete(digest)
    assert canary.read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["tmp", digest_bytes(CONTENT)[:2]])
def test_a_link_in_place_of_a_folder_is_not_followed(root: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir(parents=True)
    (root / name).symlink_to(outside)

    with pytest.raises(Corrupt, match="no folder of ours"):
        FolderBlobs(root).put(CONTENT)
    assert os.listdir(outside) == []


def test_the_sweep_takes_only_what_is_older(blobs: FolderBlobs, root: Path) -> None:
    blobs.put(CONTENT)
    now = datetime.now(UTC)
    for name, age_h in (("1-0", 48), ("2-0", 1)):
        (root / "tmp" / name).touch()
        touched = (now - timedelta(hours=age_h)).timestamp()
        os.utime(root / "tmp" / name, (touched, touched))

    assert blobs.sweep(now - timedelta(days=1)) == 1

    assert os.listdir(root / "tmp") == ["2-0"]
    assert blobs.get(digest_bytes(CONTENT)) == CONTENT
