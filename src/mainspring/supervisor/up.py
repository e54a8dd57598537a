"""Take a home and its sockets, and keep the platform up in the foreground."""

import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from mainspring.core.clock import Clock
from mainspring.core.errors import Misconfigured
from mainspring.store.lock import HomeLock
from mainspring.supervisor.launch import Plan, open_log
from mainspring.supervisor.roster import SUPERVISOR, Roster, remove_roster
from mainspring.supervisor.signals import Signals
from mainspring.supervisor.sockets import listen
from mainspring.supervisor.supervisor import Announce, Supervisor


def supervise(plan: Plan, *, clock: Clock, announce: Announce) -> int:
    """Keep a platform up until SIGTERM or SIGINT; a home that is not there is made.

    To be called in the main thread of a process with no other thread.

    Args:
        plan: What is to be up.
        clock: Wall time.
        announce: Told once, when everything is ready.

    Returns:
        0 when all ended in order, 1 when a second signal cut that short.

    Raises:
        Unavailable: Another process owns the home, a port is in use, or a process does not start.
        Refused: The host would let others in although no token exists.
    """
    config = plan.config
    if config.workers < 1:
        raise Misconfigured(f"setting 'workers': found {config.workers}, expected at least 1")
    with Signals() as signals, HomeLock(plan.home.lock, role=SUPERVISOR):
        remove_roster(plan.home)
        notices = _Notices(plan.home.logs / f"{SUPERVISOR}.log", clock)

        def ready(roster: Roster) -> None:
            notices.starting = False
            # Whoever waited for the line may have gone.
            with suppress(OSError):
                announce(roster)

        with (
            closing(listen(config.host, config.port, setting="port", public=plan.public)) as one,
            closing(
                listen(
                    config.host,
                    config.inference_port,
                    setting="inference_port",
                    public=plan.public,
                )
            ) as other,
            ExitStack() as stack,
        ):
            calls = None
            if config.grpc_port >= 0:
                calls = stack.enter_context(
                    listen(config.host, config.grpc_port, setting="grpc_port", public=plan.public)
                )
            supervisor = Supervisor(
                plan,
                listener=one,
                inference_listener=other,
                grpc_listener=calls,
                clock=clock,
                say=notices.say,
                announce=ready,
            )
            try:
                return supervisor.run(signals)
            finally:
                remove_roster(plan.home)


class _Notices:
    """What the supervisor has to say: always to its log, and to a person who watches."""

    def __init__(self, log: Path, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self.starting = True
        """Whoever waits for the start is told why it takes long, person or not."""

    def say(self, text: str) -> None:
        """Say one line; nothing may come of it that ends the supervisor."""
        line = f"{self._clock.now().isoformat(timespec='milliseconds')} {text}\n"
        with suppress(OSError), open_log(self._log) as log:
            log.write(line.encode("utf-8", "replace"))
        # Not to a pipe for good: one that nobody empties would stop the supervisor.
        if self.starting or sys.stderr.isatty():
            with suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)
