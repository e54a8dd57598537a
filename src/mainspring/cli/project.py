"""Commands of the project as a whole."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mainspring.cli.platform import platform_fields, print_platform
from mainspring.cli.printing import print_answer, print_json, print_rows
from mainspring.cli.session import (
    DEFAULT_HOME,
    DEFAULTS,
    Common,
    home_of,
    opened,
    project_directory,
    settings,
    what_is_up,
)
from mainspring.core.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from mainspring.core.config import Setting

STARTER = Path(__file__).parent / "starter"


def init(directory: Path = Path(), /, *, common: Common = DEFAULTS) -> None:
    """Write a small project that works as it is.

    Args:
        directory: Where; made if it is not there. Files that are there are never overwritten.
        common: Options of every command.
    """
    from mainspring.cli.starter.rows import write_rows

    target = directory / "project.py"
    if target.exists():
        raise AlreadyExists(f"{target}: a project is here already; choose another directory")
    # An empty home makes this the project's directory, whatever lies in those above it.
    (directory / DEFAULT_HOME).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(STARTER / "project.py", target)
    written = [target.name, *write_rows(directory)]
    if not common.json:
        print(f"wrote {', '.join(written)} in {directory.resolve()}; next:\n")
        for line in (STARTER / "next.txt").read_text("utf-8").splitlines():
            print(f"  {line}")
        return
    print_rows([{"file": name} for name in written], ["file"], as_json=True, empty="")


def apply(file: Path | None = None, /, *, common: Common = DEFAULTS) -> None:
    """Record what a project file declares.

    Args:
        file: The project file; default: project.py in the project's directory.
        common: Options of every command.
    """
    chosen = file or project_directory(Path.cwd()) / "project.py"
    if not chosen.is_file():
        raise NotFound(f"project file {chosen} does not exist; give its path, or `mainspring init`")
    with opened(common, make=True) as client:
        print_answer(client.apply(chosen), as_json=common.json)


def status(*, common: Common = DEFAULTS) -> None:
    """Say what is up, and what every endpoint serves, does and waits for."""
    config, _, directory = settings(common)
    home = home_of(config, directory)
    roster = what_is_up(home)
    if roster is not None and not common.json:
        # Before the endpoints: while control restarts, those have to wait.
        print_platform(roster, home)
    with opened(common) as client:
        answer = client.status()
    if common.json:
        print_json(answer, {} if roster is None else {"platform": platform_fields(roster, home)})
        return
    columns = ["endpoint", "live", "now", "rollout", "alarms", "waiting", "error"]
    print_rows(
        answer.endpoints, columns, as_json=False,
        empty="nothing is declared yet: `mainspring apply project.py`",
    )  # fmt: skip


def config(*, common: Common = DEFAULTS) -> None:
    """Print each setting, its value and where it came from."""
    _, listed, _ = settings(common)
    rows = [
        {"setting": s.name, "value": _shown(s), "from": s.origin, "meaning": s.doc} for s in listed
    ]
    print_rows(rows, ["setting", "value", "from", "meaning"], as_json=common.json, empty="")


def _shown(setting: "Setting") -> Any:
    """A secret is not printed, only whether there is one."""
    if setting.name == "token":
        return "given" if setting.value else "none"
    return setting.value


def demo(
    directory: Path = Path("mainspring-demo"),
    /,
    *,
    days: Annotated[int, Parameter(help="Stop after so many days; 0 = the whole year")] = 0,
    exit: Annotated[bool, Parameter(negative="")] = False,
    kills: bool = True,
    common: Common = DEFAULTS,
) -> int:
    """Close the loop on the flights that left New York in 2013.

    Args:
        directory: A fresh directory for the demo's project and home.
        days: Days to replay after 31 March.
        exit: End when all is shown; otherwise the platform and its console stay until Ctrl-C.
        kills: Kill the control process once and a worker once on the way.
        common: Options of every command.

    Returns:
        0 when every claim of the demo held, else 1.
    """
    from mainspring.demo.show import Wishes, run_demo

    wishes = Wishes(days=days or None, json=common.json, exit=exit, kills=kills)
    return run_demo(directory, wishes)
