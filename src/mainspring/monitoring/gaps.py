"""The watch over the request log itself: answers that it has no record of are never judged."""

from mainspring.core.home import Home
from mainspring.core.ids import digest_of
from mainspring.formats.worker import alive, read_states
from mainspring.monitoring.losses import Signal

MONITOR = "request_log"
"""Name under which its alarms stand; no project declares it, every endpoint has it."""

_PREFIX = "request log"


def signal(home: Home, version: str | None) -> Signal | None:
    """Say whether a worker leaves answers out of its request log now.

    It fires while the disk refuses records, before anything of the gap is compacted. None without
    a version to speak of, and where no worker runs: then nobody answers.
    """
    states = [state for state in read_states(home) if alive(state)]
    if version is None or not states:
        return None
    troubled = {
        state.worker: problem
        for state in states
        for problem in state.problems
        if problem.startswith(_PREFIX)
    }
    left_out = sum(state.left_out for state in states)
    told = "; ".join(f"{worker}: {problem}" for worker, problem in sorted(troubled.items()))
    return Signal(
        monitor=MONITOR,
        version=version,
        firing=bool(troubled),
        quiet=not troubled,
        message=f"answers go on without a record, {left_out} rows so far; {told}",
        evidence=float(left_out),
        threshold=None,
        since_us=None,
        digest=digest_of([told, left_out]),
    )
