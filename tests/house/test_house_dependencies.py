"""What the source imports is declared, and what is declared is pinned."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Rooms that work without these: converting and the demo need what training needs, the spool is
# part of the client that it plugs into.
OPTIONAL_ROOMS = {"demo", "formats", "spool"}
# They fetch and load what such a client logged.
OPTIONAL_FILES = {"cli/serve.py", "pipelines/adopt.py"}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"mainspring"}


def _optional(path: Path) -> bool:
    return path.parts[0] in OPTIONAL_ROOMS or str(path) in OPTIONAL_FILES


def test_every_library_that_the_source_imports_is_declared() -> None:
    required = {_name(one) for one in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    groups = [group for name, group in extras.items() if name != "test"]
    optional = required | {_name(one) for group in groups for one in group}
    distributions = packages_distributions()
    source = ROOT / "src" / "mainspring"

    undeclared = [
        f"{path.relative_to(source)}: {module}"
        for path in source.rglob("*.py")
        for module in _imported(path)
        if not {_name(one) for one in distributions.get(module, [module])}
        & (optional if _optional(path.relative_to(source)) else required)
    ]

    assert not undeclared


def test_everything_declared_is_pinned_to_one_version() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {_name(line) for line in lines}
    extras = [one for group in PROJECT["optional-dependencies"].values() for one in group]

    asked = {_name(one) for one in [*PROJECT["dependencies"], *extras]} - {"mainspring"}

    assert not asked - pinned
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
