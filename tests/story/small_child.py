"""One life of the small driver in a process of its own; it may end itself at a transition.

    python small_child.py HOME DAYS [KILL_AT before|after]

A transition is an append to the ledger; they are counted from 1 within this life. `KILL_AT` 0
lets it live. When it ends by itself it prints the first event of each transition.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from small_driver import SmallDriver
from small_world import SmallWorld

from mainspring.api.local import local_client
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.events import Fact
from mainspring.platform import Platform
from mainspring.store.ledger import Draft, Ledger


class DyingLedger(Ledger):
    """Kills its process right before or after the n-th append."""

    seen: ClassVar[list[str]] = []
    kill_at = 0
    when = "after"

    def append_all(self, drafts: Sequence[Draft], **rest: Any) -> tuple[Fact, ...]:
        self.seen.append(type(drafts[0].event).__name__)
        fatal = len(self.seen) == self.kill_at
        if fatal and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        facts = super().append_all(drafts, **rest)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return facts


def live(home: Path, days: int) -> None:
    """Drive the small project up to a day."""
    clock, config = SystemClock(), Config()
    with Platform.open(config, home, clock=clock) as platform:
        platform.ledger.__class__ = DyingLedger
        client = local_client(platform, config)
        SmallDriver(platform, client, SmallWorld(), clock).run(days)
    print(*DyingLedger.seen)


if __name__ == "__main__":
    DyingLedger.kill_at = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    DyingLedger.when = sys.argv[4] if len(sys.argv) > 4 else "after"
    live(Path(sys.argv[1]), int(sys.argv[2]))
