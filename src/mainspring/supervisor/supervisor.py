"""The supervisor's loop: hears its children and the signals, and keeps up what is to be up."""

import os
import select
import socket
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import assert_never

from mainspring.core.clock import Clock
from mainspring.core.errors import Unavailable
from mainspring.formats.wire import (
    Drain,
    Loaded,
    Message,
    Process,
    Processes,
    Ready,
    RunEnded,
    StartRun,
    StopRun,
    Welcome,
)
from mainspring.supervisor.child import Child, Say
from mainspring.supervisor.launch import Launched, Launcher, Plan
from mainspring.supervisor.roster import Roster, write_roster
from mainspring.supervisor.runs import RunChildren
from mainspring.supervisor.signals import Signals
from mainspring.supervisor.sockets import url_of
from mainspring.supervisor.spare import Spare
from mainspring.supervisor.stopping import Stopping

FAILED_STARTS = 5
"""So many failed starts in a row, before all was ready once, and `up` gives up."""

Announce = Callable[[Roster], None]


class Supervisor:
    """Keeps control, workers and runs as they are to be, until it is told to stop.

    Args:
        plan: What is to be up.
        listener: Where control serves.
        inference_listener: Where the workers serve, all of them.
        grpc_listener: Where they serve gRPC, if they do.
        clock: Wall time.
        say: Told of every end and restart.
        announce: Told once, when everything is ready for the first time.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        listener: socket.socket,
        inference_listener: socket.socket,
        grpc_listener: socket.socket | None = None,
        clock: Clock,
        say: Say,
        announce: Announce,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._say = say
        self._announce: Announce | None = announce
        self._started: datetime = clock.now()
        for_workers = [("--listen-fd", inference_listener)]
        if grpc_listener is not None:
            for_workers.append(("--grpc-fd", grpc_listener))
        self._listeners = (listener, *(one for _, one in for_workers))
        self._grpc_url = "" if grpc_listener is None else url_of(grpc_listener)
        self._launcher = launcher = Launcher(plan, url_of(listener), url_of(inference_listener))
        self._spare = spare = Spare(
            launcher.start_spare, clock=clock, life_s=plan.config.spare_run_s
        )
        self._runs = runs = RunChildren(
            lambda assignment: launcher.start_run(assignment, spare.take(assignment.interpreter)),
            clock=clock,
            say=say,
        )
        kept = partial(Child, clock=clock, say=say, start_limit_s=plan.start_limit_s)
        self._control = kept(
            "control",
            "control",
            launch=lambda: launcher.start(
                "control", "control", listeners=(("--listen-fd", listener),), runs=runs.alive
            ),
        )
        names = [f"inference-{number}" for number in range(1, plan.config.workers + 1)]
        self._workers = [
            kept(
                "inference",
                name,
                launch=partial(launcher.start, "inference", name, listeners=tuple(for_workers)),
            )
            for name in names
        ]
        self._written: tuple[Process, ...] | None = None
        self._told: tuple[Process, ...] | None = None
        self._stopping: Stopping | None = None
        self._failure: Unavailable | None = None
        self._forced = False

    def run(self, signals: Signals) -> int:
        """Keep everything up until a signal, then end it in order.

        Returns:
            0, or 1 when a second signal cut the order short.

        Raises:
            Unavailable: A process could not be started at all; the message says where to look.
        """
        for child in self._children:
            child.start()
        self._publish()
        while self._stopping is None or not self._stopping.done:
            self._wait(signals)
            self._heed(signals.stops())
            self._hear()
            self._act()
            self._publish()
        if self._failure is not None:
            raise self._failure
        return int(self._forced)

    @property
    def _children(self) -> list[Child]:
        return [self._control, *self._workers]

    def _wait(self, signals: Signals) -> None:
        """Wait until somebody says something, a signal comes or something is due."""
        poll = select.poll()
        poll.register(signals.fileno(), select.POLLIN)
        for launched in self._launched():
            if launched.channel.open:
                blocked = select.POLLOUT if launched.channel.blocked else 0
                poll.register(launched.channel.fileno(), select.POLLIN | blocked)
        dues = [child.due_s for child in self._children]
        dues += [self._runs.due_s, self._spare.due_s]
        dues += [self._stopping.due_s if self._stopping else None]
        due_s = min((due for due in dues if due is not None), default=None)
        # Up by a millisecond: poll rounds, and a turn too early does nothing.
        wait = None if due_s is None else max(0.0, due_s - self._clock.monotonic_s()) * 1000 + 1
        poll.poll(wait)

    def _launched(self) -> list[Launched]:
        kept = [child.launched for child in self._children if child.launched is not None]
        return kept + [run.launched for run in self._runs] + self._spare.launched

    def _heed(self, stops: int) -> None:
        for _ in range(stops):
            if self._stopping is None:
                self._stop()
            else:
                self._forced = True
                self._stopping.kill()

    def _stop(self) -> None:
        self._spare.end()
        # From here on nobody is to come: with ours closed, theirs decide.
        for listener in self._listeners:
            listener.close()
        self._stopping = Stopping(
            control=self._control,
            workers=self._workers,
            runs=self._runs,
            clock=self._clock,
            drain_s=self._plan.config.drain_s,
        )

    def _hear(self) -> None:
        """Take in what children said, and which of them are gone."""
        for child in self._children:
            if child.launched is None:
                continue
            # Asked before reading: whatever it said before its end is then read.
            code = child.launched.ended()
            for message in child.launched.channel.receive():
                self._on_message(child, message)
            if code is not None:
                child.gone(code)
                if child is self._control:
                    self._runs.control_is_gone()
            elif not child.launched.channel.open:
                child.mute()
            else:
                child.launched.channel.flush()
        for run in self._runs:
            code = run.launched.ended()
            for message in run.launched.channel.receive():
                run.ready = run.ready or isinstance(message, Ready)
                if isinstance(message, Loaded):
                    self._spare.remember(run.assignment.interpreter, message)
            if code is not None:
                self._runs.gone(run, code)
                if self._stopping is None:
                    self._spare.prepare()
        self._spare.hear()

    def _on_message(self, child: Child, message: Message) -> None:
        match message:
            case Ready():
                child.ready()
                if child is self._control:
                    self._told = None
            case StartRun() if child is self._control:
                if self._stopping is None:
                    self._runs.start(message.assignment)
            case StopRun() if child is self._control:
                self._runs.stop(message.run, message.grace_s)
            case StartRun() | StopRun() | Welcome() | Drain() | RunEnded() | Processes() | Loaded():
                self._say(f"{child.name}: said {type(message).__name__}, which is not its to say")
            case _:
                assert_never(message)

    def _act(self) -> None:
        for child in self._children:
            child.act()
            if self._announce is not None and child.failed_starts >= FAILED_STARTS:
                self._give_up(child)
        self._runs.act()
        self._spare.act()
        if self._stopping is not None:
            self._stopping.act()

    def _give_up(self, child: Child) -> None:
        if self._failure is None and self._stopping is None:
            log = self._plan.home.logs / f"{child.role}.log"
            self._failure = Unavailable(
                f"process {child.name!r}: did not start in {child.failed_starts} attempts; its log "
                f"{log} says why"
            )
            self._stop()

    def _publish(self) -> None:
        """Tell whoever reads the roster, control, and the one who waits for the start."""
        processes = (
            *(child.process for child in self._children),
            *self._runs.processes,
            *self._spare.processes,
        )
        roster = Roster(
            os.getpid(),
            self._launcher.url,
            self._launcher.inference_url,
            self._started,
            processes,
            self._grpc_url.removeprefix("http://"),
        )
        if processes != self._written:
            self._written = processes
            self._write(roster)
        self._tell_control(processes)
        ready = all(child.state == "ready" for child in self._children)
        if ready and self._announce is not None and self._stopping is None:
            self._announce(roster)
            self._announce = None

    def _write(self, roster: Roster) -> None:
        try:
            write_roster(self._plan.home, roster)
        except OSError as error:
            # A full disk must not end what is up; the next change writes it again.
            self._say(f"{self._plan.home.roster.name}: not written ({error})")

    def _tell_control(self, processes: tuple[Process, ...]) -> None:
        launched = self._control.launched
        if launched is None or self._control.state != "ready":
            return
        for end in self._runs.take_ends():
            launched.channel.send(end)
        # Only the newest list counts: one is not queued behind another.
        if processes != self._told and not launched.channel.blocked:
            self._told = processes
            launched.channel.send(Processes(processes))
