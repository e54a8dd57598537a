"""Floor 8: verbs for the terminal. A command parses, calls one verb, prints a table or JSON."""

import errno
import sys
from typing import Any

from mainspring.core.errors import MainspringError


def main(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    sys.exit(execute(arguments))


def execute(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit code."""
    from cyclopts import CycloptsError

    from mainspring.cli.app import app

    try:
        result: Any = app(arguments, exit_on_error=False, result_action="return_value")
    except CycloptsError:
        return 2
    except MainspringError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`head`, a pager) has gone; there is nobody to tell.
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"storage_full: {error}; free space and repeat", file=sys.stderr)
            return 1
        print(f"unavailable: {error}; check the path, its rights and the disk", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0
