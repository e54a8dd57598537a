"""`python -m mainspring.attempt --supervisor-fd N`: started by the supervisor, never by hand."""

import argparse
import sys

from mainspring.attempt.process import run_process
from mainspring.formats.wire import Wire


def main() -> int:
    """Do the work of the attempt that the supervisor names."""
    parser = argparse.ArgumentParser(prog="python -m mainspring.attempt", allow_abbrev=False)
    parser.add_argument("--supervisor-fd", type=int, required=True, metavar="N")
    # The supervisor starts all its children alike; a run listens to nobody.
    parser.add_argument("--listen-fd", type=int, metavar="M", help=argparse.SUPPRESS)
    given = parser.parse_args()
    return run_process(Wire.inherited(given.supervisor_fd))


if __name__ == "__main__":
    sys.exit(main())
