"""A spool's files: what was appended is read in order, once, whatever happens to the process."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import NotFound, Unavailable
from mainspring.spool import folder as folders
from mainspring.spool.folder import Numbered, SpoolFolder, SpoolReader, spools
from mainspring.spool.line import Outcome, TellsRefusal, merged
from mainspring.spool.sender import send_all
from mainspring.spool.writer import SpoolWriter

TARGET = "http://127.0.0.1:1"


def written(root: Path, bodies: Sequence[bytes]) -> tuple[SpoolFolder, SpoolWriter]:
    folder = SpoolFolder.create(root, TARGET)
    writer = SpoolWriter(folder, limit_bytes=1 << 30)
    for body in bodies:
        writer.append("runs/log-metric", body)
    return folder, writer


class Server:
    """Takes what is sent as the real one does, and may go away before or after it did."""

    def __init__(self, away: Sequence[str] = ()) -> None:
        self.has: list[bytes] = []
        self._next = 0
        self._away = list(away)

    def send(self, spool: str, requests: Sequence[Numbered]) -> Outcome:
        assert len(spool) == 32
        when = self._away.pop(0) if self._away else ""
        if when == "before":
            raise Unavailable("away")
        refused = []
        for one in requests:
            if one.number < self._next:
                continue
            if one.request.body == b"bad":
                refused.append(TellsRefusal(one.number, "INVALID_PARAMETER_VALUE", "no"))
            else:
                self.has.append(one.request.body)
        self._next = max(self._next, requests[-1].number + 1)
        if when == "after":
            raise Unavailable("away")
        return Outcome(self._next, tuple(refused))


def sent(folder: SpoolFolder, server: Server) -> None:
    """Send until the server has taken all."""
    while True:
        try:
            send_all(folder, server, lambda _: None)
        except Unavailable:
            continue
        return


@settings(deadline=None, max_examples=60)
@given(
    bodies=st.lists(st.binary(max_size=40), max_size=40),
    away=st.lists(st.sampled_from(["", "before", "after"]), max_size=8),
    part=st.integers(1, 200),
    at_once=st.integers(1, 7),
)
def test_every_request_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    bodies: list[bytes],
    away: list[str],
    part: int,
    at_once: int,
) -> None:
    root = tmp_path_factory.mktemp("spool")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mainspring.spool.writer.PART_BYTES", part)
        patch.setattr("mainspring.spool.sender.AT_ONCE", at_once)
        folder, writer = written(root, bodies)
        server = Server(away)

        sent(folder, server)
        writer.append("runs/log-metric", b"late")
        sent(folder, server)

    assert server.has == [body for body in [*bodies, b"late"] if body != b"bad"]
    assert folder.pending() == (0, 0)
    assert len(folder.parts()) == 1
    folder.release()


def test_a_request_larger_than_what_is_read_at_once_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "READ_BYTES", 64)
    folder, _ = written(tmp_path, [b"a", b"b" * 1000, b"c"])

    found = SpoolReader(folder).read(10)

    assert [one.request.body for one in found] == [b"a", b"b" * 1000, b"c"]


def test_a_torn_tail_is_left_out_and_told(tmp_path: Path) -> None:
    folder, writer = written(tmp_path, [b"whole", b"cut"])
    writer.close()
    ((_, part),) = folder.parts()
    os.truncate(part, part.stat().st_size - 2)
    server = Server()

    assert folder.torn_bytes() > 0
    assert folder.pending()[0] == 1
    sent(folder, server)

    assert server.has == [b"whole"]


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, [b"a"])
    (other,) = spools(tmp_path)

    assert not other.adopt()
    folder.release()
    assert other.adopt()
    other.release()


def test_what_was_sent_before_a_kill_is_not_read_again(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, [b"a", b"b", b"c"])
    folder.mark(2)
    folder.release()

    (left,) = spools(tmp_path)

    assert [one.number for one in SpoolReader(left).read(9)] == [2]


def test_a_mark_that_was_lost_sends_again_what_the_server_knows(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, [b"a", b"b"])
    server = Server()
    sent(folder, server)
    (folder.path / "sent").write_text("not a number", "ascii")

    sent(folder, server)

    assert server.has == [b"a", b"b"]


def test_what_is_refused_is_kept_aside_with_the_reason(tmp_path: Path) -> None:
    folder, _ = written(tmp_path, [b"a", b"bad", b"c"])
    server = Server()

    sent(folder, server)
    folder.remove()

    (refused,) = folder.refusals()
    assert (refused.number, refused.body, refused.message) == (1, "bad", "no")
    assert server.has == [b"a", b"c"]


def test_beyond_its_limit_requests_are_lost_and_counted(tmp_path: Path) -> None:
    folder = SpoolFolder.create(tmp_path, TARGET)
    writer = SpoolWriter(folder, limit_bytes=200)

    numbers = [writer.append("runs/log-metric", b"x" * 50) for _ in range(5)]

    assert numbers == [0, 1, None, None, None]
    assert writer.lost == 3
    writer.free(140)
    assert writer.append("runs/log-metric", b"x") == 2
    folder.release()


def test_a_folder_that_is_gone_costs_points_and_no_exception(tmp_path: Path) -> None:
    folder = SpoolFolder.create(tmp_path, TARGET)
    writer = SpoolWriter(folder, limit_bytes=1 << 20)
    (folder.path / "owner").unlink()
    (folder.path / "target").unlink()
    folder.path.rmdir()

    assert writer.append("runs/log-metric", b"x") is None
    assert writer.why_lost
    folder.release()


def test_a_root_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        spools(tmp_path / "absent")


def test_metrics_of_one_run_that_follow_each_other_become_a_batch() -> None:
    def one(number: int, path: str, body: bytes) -> Numbered:
        return Numbered(number, folders.Request(path, body))

    found = merged(
        [
            one(0, "runs/log-metric", b'{"run_id": "a", "key": "x", "value": "NaN"}'),
            one(1, "runs/log-metric", b'{"run_id": "a", "key": "y", "value": 1.5}'),
            one(2, "runs/set-tag", b"{}"),
            one(3, "runs/log-metric", b'{"run_id": "a", "key": "x", "value": 1}'),
            one(4, "runs/log-metric", b'{"run_id": "b", "key": "x", "value": 1}'),
        ]
    )

    assert [(path, last) for path, _, last in found] == [
        ("runs/log-batch", 1),
        ("runs/set-tag", 2),
        ("runs/log-batch", 3),
        ("runs/log-batch", 4),
    ]
    assert b'"run_id": "a"' in found[0][1]
