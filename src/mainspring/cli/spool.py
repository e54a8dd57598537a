"""Commands of spools: what training processes logged and no server has yet."""

from pathlib import Path
from typing import Any

from cyclopts import App

from mainspring.cli.printing import print_answer, print_rows
from mainspring.cli.session import DEFAULTS, Common

spool = App(name="spool", help="Look at what was logged and is not sent yet, and send it.")


@spool.command(name="list")
def list_spools(folder: Path | None = None, /, *, common: Common = DEFAULTS) -> None:
    """List the spools below a folder: what waits, for which server, and what was refused.

    Args:
        folder: The one that MAINSPRING_SPOOL names; default: as the environment says.
        common: Options of every command.
    """
    from mainspring.spool.folder import spools

    rows = []
    for one in spools(_root(folder)):
        waiting, size = one.pending()
        mine = one.adopt()
        rows.append(
            {
                "spool": one.name,
                "server": one.target,
                "waiting": waiting,
                "bytes": size,
                "torn_bytes": one.torn_bytes() if mine else 0,
                "refused": len(one.refusals()),
                "writer": "gone" if mine else "runs",
            }
        )
        one.release()
    columns = ["spool", "server", "waiting", "bytes", "torn_bytes", "refused", "writer"]
    print_rows(rows, columns, as_json=common.json, empty="nothing waits")


@spool.command
def flush(folder: Path | None = None, /, *, common: Common = DEFAULTS) -> int:
    """Send what processes that are gone have left; those that run send their own.

    Args:
        folder: The one that MAINSPRING_SPOOL names; default: as the environment says.
        common: Options of every command.

    Returns:
        0 when nothing is left, 1 when a server did not take all.
    """
    from mainspring.core.errors import Unavailable
    from mainspring.spool.folder import spools
    from mainspring.spool.plugin import line_to
    from mainspring.spool.sender import send_all

    told: dict[str, Any] = {"sent": 0, "refused": 0, "left": 0, "running": 0, "failed": []}

    def count(outcome: Any) -> None:
        told["refused"] += len(outcome.refused)

    for one in spools(_root(folder)):
        if not one.adopt():
            told["running"] += 1
            continue
        try:
            told["sent"] += send_all(one, line_to(one.target), count)
            one.remove()
        except Unavailable as error:
            told["failed"].append(f"{one.target}: {error}")
            told["left"] += one.pending()[0]
        finally:
            one.release()
    print_answer(told, as_json=common.json)
    return 1 if told["failed"] else 0


def _root(folder: Path | None) -> Path:
    from mainspring.core.errors import Misconfigured
    from mainspring.spool.settings import FOLDER, SpoolSettings

    if folder is not None:
        return folder
    settings = SpoolSettings.of_environment()
    if settings is None:
        raise Misconfigured(f"no spool: name its folder, or set {FOLDER}")
    return settings.root
