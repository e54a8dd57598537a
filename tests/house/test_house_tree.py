"""What may not be in the tree, and how large its files may be."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION_LINES = 400
LIMIT_LINES = 600

# Written in two parts each, so that this file does not find itself.
FORBIDDEN = {
    "a path of a machine": r"(?<![\w.])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me/\w+)/",
    "the address of a package registry": r"py" + r"pi\.org|python" + r"hosted|registry\.npm" + "js",
    "unfinished work": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
    "an ignored type without its code": r"# type: ign" + r"ore(?!\[)",
}
EMPTY_NAMES = {"utils", "util", "helpers", "common", "misc", "services", "schemas"}


def _tracked() -> list[Path]:
    """Files of the tree: what git tracks or would; in an unpacked archive all but what is built."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode == 0:
        named = [ROOT / name for name in answer.stdout.split("\0") if name]
    else:
        folders = [ROOT / name for name in ("src", "tests", "docs", "bench", ".ci")]
        named = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    return [path for path in named if path.is_file() and "__pycache__" not in path.parts]


def _texts() -> list[tuple[Path, str]]:
    texts = []
    for path in _tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            texts.append((path.relative_to(ROOT), content.decode("utf-8")))
    return texts


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    found = [
        f"{path}:{number}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]

    assert not found


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    names = {part.removesuffix(".py") for path, _ in _texts() for part in path.parts}

    assert not names & EMPTY_NAMES


def test_no_python_file_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    lengths = {
        path: text.count("\n")
        for path, text in _texts()
        if path.suffix == ".py" and path.parts[0] == "src"
    }

    with capsys.disabled():
        for path, lines in sorted(lengths.items(), key=lambda entry: -entry[1]):
            if lines > QUESTION_LINES:
                print(f"\n{path}: {lines} lines, above {QUESTION_LINES} is a question of design")

    assert lengths
    assert not [path for path, lines in lengths.items() if lines > LIMIT_LINES]


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path, _ in _texts() if path.name.startswith("test_")]

    assert sorted(names) == sorted(set(names))


def test_no_decision_record_is_longer_than_a_page() -> None:
    records = list((ROOT / "docs" / "decisions").glob("*.md"))

    assert records
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", record.name) for record in records)
    assert not [r.name for r in records if r.read_text("utf-8").count("\n") > 60]
