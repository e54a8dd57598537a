import subprocess
import sys
from pathlib import Path

import pytest

from mainspring.core.errors import Unavailable
from mainspring.store.lock import Holder, HomeLock

HOLD = """
import sys
from pathlib import Path
from mainspring.store.lock import HomeLock
with HomeLock(Path(sys.argv[1]), role="demo"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_told_who_has_the_home_until_that_one_dies(tmp_path: Path) -> None:
    path = tmp_path / "home" / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        lock = HomeLock(path, role="control")

        with pytest.raises(Unavailable, match=rf"process {other.pid} \(demo\)"):
            lock.acquire()
        assert lock.holder() == Holder(other.pid, "demo")
        other.kill()

    with lock, pytest.raises(Unavailable, match="control"):
        HomeLock(path, role="second").acquire()
    lock.release()
    assert lock.holder() is None


def test_a_removed_lock_file_does_not_let_two_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with HomeLock(path, role="one"):
        pass
    path.unlink()

    with HomeLock(path, role="two"), pytest.raises(Unavailable):
        HomeLock(path, role="three").acquire()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "canary")

    with pytest.raises(OSError):
        HomeLock(tmp_path / "lock", role="one").acquire()

    assert (tmp_path / "canary").read_text() == "kept"
