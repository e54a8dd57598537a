"""The sending end of a spool: a thread that has the server take all of it, in order."""

import random
import threading
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from mainspring.core.errors import NotFound, Unavailable
from mainspring.spool.folder import Numbered, Refused, SpoolFolder, SpoolReader, spools
from mainspring.spool.line import Line, Outcome, TellsRefusal
from mainspring.spool.writer import SpoolWriter

AT_ONCE = 2_000
BYTES_AT_ONCE = 4 << 20
SYNC_S = 1.0
LINGER_S = 0.2
"""What is logged meanwhile goes in one request: each costs training more than all that is in it."""
KEPT_REFUSALS = 1_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 15.0

Warn = Callable[[str], None]


def send_all(folder: SpoolFolder, line: Line, on_sent: Callable[[Outcome], None]) -> int:
    """Send what a spool holds until nothing is left.

    Returns:
        How many requests were sent, refused ones included.

    Raises:
        Unavailable: The server does not take more now; what it took is marked.
    """
    reader, sent = SpoolReader(folder), 0
    while some := reader.read(AT_ONCE):
        outcome = send(folder, line, some)
        on_sent(outcome)
        sent += outcome.next - some[0].number
        if outcome.next <= some[-1].number:
            reader = SpoolReader(folder)
    return sent


def send(folder: SpoolFolder, line: Line, some: list[Numbered]) -> Outcome:
    """Send some requests and note what came of them."""
    size = 0

    def fits(one: Numbered) -> bool:
        nonlocal size
        size += len(one.request.body)
        return size <= BYTES_AT_ONCE

    outcome = line.send(folder.name, list(takewhile(fits, some)) or some[:1])
    by_number = {one.number: one.request for one in some}
    for refusal in outcome.refused:
        request = by_number.get(refusal.number)
        if request is not None:
            body = request.body.decode("utf-8", "replace")
            folder.refuse(
                Refused(refusal.number, request.path, body, refusal.error_code, refusal.message)
            )
    folder.mark(outcome.next)
    return outcome


class Sender:
    """Sends one process's spool, and before it what processes that ended have left.

    Args:
        folder, writer: The spool of this process.
        line: The way to the server.
        warn: Told what the user should know; may be called from the sender's thread.
    """

    def __init__(self, folder: SpoolFolder, writer: SpoolWriter, line: Line, *, warn: Warn) -> None:
        self._folder = folder
        self._writer = writer
        self._line = line
        self._warn = warn
        self._changed = threading.Condition()
        self._sent = 0
        self._refused: dict[int, TellsRefusal] = {}
        self._told = ""
        self._ended = False
        self._waiting = 0
        self.reachable = True
        """Whether the server answered when it was last asked."""
        self._thread = threading.Thread(target=self._run, name="mainspring-spool", daemon=True)
        self._thread.start()

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until all requests before a number are sent; tells whether they are."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._sent >= after, timeout_s)
            finally:
                self._waiting -= 1

    def refusal(self, number: int) -> TellsRefusal | None:
        """Give what the server said to a request that it refused."""
        return self._refused.get(number)

    def end(self, timeout_s: float) -> int:
        """Send what is left, within a time.

        Returns:
            How many requests wait still.
        """
        self.wait(self._writer.next, timeout_s)
        self._writer.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            left = self._writer.next - self._sent
        self._thread.join(timeout=0 if left else 5)
        if left == 0:
            self._folder.remove()
        self._folder.release()
        return left

    def _run(self) -> None:
        self._send_what_others_left()
        reader, pause_s, synced = SpoolReader(self._folder), FIRST_PAUSE_S, time.monotonic()
        while not self._ended:
            if time.monotonic() - synced > SYNC_S:
                self._writer.sync()
                synced = time.monotonic()
            self._linger(reader.next)
            try:
                some = reader.read(AT_ONCE)
                outcome = send(self._folder, self._line, some) if some else None
            except (Unavailable, OSError) as error:
                self._stay_away(error, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                reader = SpoolReader(self._folder)
                continue
            if outcome is None:
                continue
            self._took(some, outcome)
            if outcome.next <= some[-1].number:
                reader = SpoolReader(self._folder)
            if pause_s > FIRST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
                self._send_what_others_left()

    def _linger(self, read: int) -> None:
        """Let requests gather, unless many have or somebody waits for them."""

        def enough() -> bool:
            gathered = self._writer.next - read
            return self._ended or gathered >= AT_ONCE or (self._waiting > 0 and gathered > 0)

        with self._changed:
            self._changed.wait_for(enough, LINGER_S)

    def _took(self, some: list[Numbered], outcome: Outcome) -> None:
        self._writer.free(sum(len(o.request.body) for o in some if o.number < outcome.next))
        for refusal in outcome.refused:
            if len(self._refused) < KEPT_REFUSALS:
                self._refused[refusal.number] = refusal
            self._say(
                f"the server refused what was logged: {refusal.message[:300]}; it is kept in "
                f"{self._folder.path / 'refused.jsonl'}"
            )
        with self._changed:
            self.reachable = True
            self._sent = max(self._sent, outcome.next)
            self._changed.notify_all()

    def _stay_away(self, error: Exception, pause_s: float) -> None:
        self.reachable = False
        self._say(f"{error}; what is logged waits in {self._folder.path} and is sent again")
        with self._changed:
            # Not the whole crowd in the same moment when a server comes back.
            self._changed.wait_for(lambda: self._ended, pause_s * random.uniform(0.7, 1.3))

    def _send_what_others_left(self) -> None:
        for folder in _left_behind(self._folder.path.parent, self._folder.target):
            try:
                send_all(folder, self._line, lambda _: None)
                folder.remove()
            except (Unavailable, OSError):
                # Tried again when the server answers, or by the next process.
                return
            finally:
                folder.release()

    def _say(self, what: str) -> None:
        if what != self._told:
            self._told = what
            self._warn(what)


def _left_behind(root: Path, target: str) -> list[SpoolFolder]:
    """Take over the spools whose processes are gone, of one server."""
    try:
        found = [one for one in spools(root) if one.target == target]
    except NotFound:
        return []
    return [one for one in found if one.parts() and one.adopt()]
