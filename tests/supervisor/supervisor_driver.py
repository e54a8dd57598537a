"""Keeps stand-ins up as `mainspring up` does the real ones; prints a line when all are ready."""

import os
import sys
from pathlib import Path

import msgspec

from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.errors import MainspringError
from mainspring.core.home import Home
from mainspring.supervisor.launch import Commands, Plan
from mainspring.supervisor.up import supervise

CHILD = (str(Path(__file__).with_name("supervisor_child.py")),)


class Asked(msgspec.Struct):
    home: str
    config: Config
    start_limit_s: float = 20.0


def main() -> int:
    asked = msgspec.json.decode(sys.argv[1], type=Asked)
    plan = Plan(
        config=asked.config,
        home=Home(Path(asked.home)),
        directory=Path(asked.home).parent,
        environment=os.environ,
        commands=Commands(CHILD, CHILD, CHILD),
        start_limit_s=asked.start_limit_s,
    )
    try:
        return supervise(
            plan,
            clock=SystemClock(),
            announce=lambda roster: print(msgspec.json.encode(roster).decode(), flush=True),
        )
    except MainspringError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    if "--modules" in sys.argv:
        print(*sys.modules)
    else:
        sys.exit(main())
