"""Mainspring: the closed loop of machine learning in production.

The names a project file uses (`Dataset`, `Endpoint`, `step`, ...) are loaded when first asked
for, so that importing the package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mainspring.declarations import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # The import system asks for submodules and dunder names here too; those are not ours to give.
    if not name.startswith("_") and name != "declarations":
        from mainspring import declarations

        if hasattr(declarations, name):
            return getattr(declarations, name)
    raise AttributeError(f"module 'mainspring' has no attribute {name!r}")
