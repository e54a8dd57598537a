"""Project files: loaded as they are, mistakes named with file and line."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainspring.core.errors import InvalidDeclaration, NotFound
from mainspring.core.ids import Digest
from mainspring.pipelines.identity import StepCode, step_code
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.project import load
from mainspring.pipelines.sources import Sources
from mainspring.pipelines.step import Step

GOOD = """
from helper_of_project import rate
from mainspring.pipelines.pipeline import pipeline
from mainspring.pipelines.step import step

_hidden = 1

@step
def train(x=1):
    return rate() * x

@pipeline
def delay_model():
    return train()

again = delay_model
"""


@pytest.fixture(autouse=True)
def paths(tmp_path: Path) -> Iterator[None]:
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        file = vars(sys.modules[name]).get("__file__") or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def write(folder: Path, text: str, helper: str = "def rate():\n    return 2\n") -> Path:
    (folder / "helper_of_project.py").write_text(helper)
    path = folder / "project.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_a_project_gives_its_public_names_and_objects(tmp_path: Path) -> None:
    project = load(write(tmp_path, GOOD))

    assert [p.name for p in project.of(Pipeline)] == ["delay_model"]
    assert [s.name for s in project.of(Step)] == ["train"]
    assert "_hidden" not in project.values
    assert project.root == tmp_path
    assert project.of(Pipeline)[0]() == 2


def test_loading_again_sees_changes_also_of_imported_files(tmp_path: Path) -> None:
    def loaded(helper: str) -> tuple[Digest, StepCode, object]:
        project = load(write(tmp_path, GOOD, helper))
        code = step_code(project.of(Step)[0], Sources(tmp_path))
        return project.digest, code, project.of(Pipeline)[0]()

    first = loaded("def rate():\n    return 2\n")
    again = loaded("def rate():\n    return 2\n")
    changed = loaded("def rate():\n    return 3333\n")

    assert again == first
    assert (first[2], changed[2]) == (2, 3333)
    assert changed[0] != first[0]
    assert changed[1] != first[1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = (", r"project.py line 2: .*never closed.*correct the file"),
        ("x = 1\n\ny = z + 1\n", r"project.py line 3: NameError: name 'z' is not defined"),
        ("import sys\nsys.exit(3)\n", r"project.py line 2: SystemExit: 3"),
        (
            "from mainspring.pipelines.step import step\n\nstep(name='a b')(print)\n",
            r"project.py line 3: step name 'a b' is not allowed",
        ),
        ("\nimport a_module_nobody_has\n", r"project.py line 2: ModuleNotFoundError"),
        ("\0", r"project.py line 1"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidDeclaration, match=said):
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        ("x = 1\nraise ValueError('no')\n", r"helper_of_project.py line 2: ValueError: no"),
        ("x = 1\nif\n", r"helper_of_project.py line 2: SyntaxError"),
    ],
)
def test_a_mistake_in_an_imported_file_is_named_there(
    tmp_path: Path, helper: str, said: str
) -> None:
    path = write(tmp_path, GOOD, helper)
    with pytest.raises(InvalidDeclaration, match=said):
        load(path)

    assert load(write(tmp_path, GOOD)).of(Step)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere.py does not exist"):
        load(tmp_path / "nowhere.py")
