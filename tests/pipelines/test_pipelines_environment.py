"""What is recorded of the environment, and of the commit the code is at."""

import subprocess
from pathlib import Path

import numpy as np

from mainspring.pipelines.environment import as_json, capture


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_packages_and_hardware_are_recorded(tmp_path: Path) -> None:
    environment, _ = capture(tmp_path)

    plain = as_json(environment)
    assert plain["packages"]["numpy"] == np.__version__
    assert plain["hardware"]["cpus"] >= 1
    assert plain["hardware"]["memory_bytes"] > 2**20
    assert isinstance(plain["hardware"]["gpus"], list | tuple)


def test_a_folder_outside_a_repository_has_no_commit(tmp_path: Path) -> None:
    environment, patch = capture(tmp_path)

    assert environment.code is None
    assert patch == b""


def test_the_patch_takes_the_commit_to_the_tree_that_ran(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "project.py").write_text("x = 1\n")
    fresh, _ = capture(folder)
    assert fresh.code is not None
    assert fresh.code.commit is None
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    clean, nothing = capture(folder)
    assert clean.code is not None
    assert (clean.code.commit, clean.code.branch) == (git(folder, "rev-parse", "HEAD"), "main")
    assert (clean.code.dirty, clean.code.patch, nothing) == (False, None, b"")

    (folder / "project.py").write_text("x = 2\n")
    (folder / "new.py").write_text("y = 1\n")
    (folder / ".mainspring").mkdir()
    (folder / ".mainspring" / "state.py").write_text("no code of ours\n")
    dirty, patch = capture(folder)

    assert dirty.code is not None
    assert dirty.code.dirty
    assert dirty.code.patch is not None
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "-q", str(folder), str(copy))
    (tmp_path / "code.patch").write_bytes(patch)
    git(copy, "apply", str(tmp_path / "code.patch"))
    assert (copy / "project.py").read_text() == "x = 2\n"
    assert (copy / "new.py").read_text() == "y = 1\n"
    assert not (copy / ".mainspring").exists()
