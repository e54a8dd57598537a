"""The floors hold, and the parts that must be light are light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "polars", "sqlalchemy", "scipy", "onnx", "onnxruntime", "deltalake", "pandas")
NOT_IN_A_WORKER = (
    *("polars", "sqlalchemy", "fastapi", "scipy", "onnx", "pandas", "deltalake"),
    *("starlette", "uvicorn", "jinja2", "prometheus_client"),
)


def _loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_imports_only_go_down() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]

    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_importing_mainspring_loads_no_heavy_library() -> None:
    assert not _loaded_after("import mainspring").intersection(HEAVY)


def test_importing_the_command_line_loads_no_heavy_library() -> None:
    assert not _loaded_after("import mainspring.cli").intersection(HEAVY)


@pytest.mark.parametrize(
    "room", ["serving.worker", "serving.engine", "formats.routes", "formats.segment"]
)
def test_a_worker_loads_nothing_it_does_not_serve_with(room: str) -> None:
    assert not _loaded_after(f"import mainspring.{room}").intersection(NOT_IN_A_WORKER)


def test_control_at_rest_holds_no_library_of_its_rare_work() -> None:
    rare = ("scipy", "onnx", "onnxruntime", "pandas", "pyarrow", "matplotlib", "sklearn")

    assert not _loaded_after("import mainspring.server.__main__").intersection(rare)


def test_dynamic_imports_are_not_used() -> None:
    source = (ROOT / "src").rglob("*.py")

    found = [path.name for path in source if "import_module(" in path.read_text("utf-8")]

    assert not found
