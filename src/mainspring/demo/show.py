"""Run the demo from beginning to end, and print what it shows."""

import gc
import json
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mainspring.api.client import Client
from mainspring.api.http import HttpCaller
from mainspring.api.ledger import FactLine
from mainspring.core.config import Config, load
from mainspring.data.writing import RowWriter
from mainspring.demo.asking import Predictions
from mainspring.demo.ending import ending
from mainspring.demo.phases import Phases
from mainspring.demo.replay import ENDPOINT, LANES, START, Replay, days, load_flights, prepare
from mainspring.demo.report import Claim, Month, claims, months
from mainspring.demo.running import RunningPlatform
from mainspring.store.tables import DeltaTables

LEDGER_AT_MOST = 10_000
WORKERS = 2
KILLS = (("control", 0.4), ("inference", 0.6))
"""What is killed, and after which share of the days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How the demo shall be run.

    Attributes:
        days: Days to replay; None = the year. A part of it is not held to the claims.
        json: Print one JSON object and nothing else; implies `exit`.
        exit: End when all is shown, instead of leaving the platform up.
        kills: Kill processes on the way.
    """

    days: int | None = None
    json: bool = False
    exit: bool = False
    kills: bool = True


@dataclass(slots=True)
class Killer:
    """Kills each process once, in the midst of a day's traffic."""

    platform: RunningPlatform
    plan: dict[datetime, list[str]]
    done: list[str] = field(default_factory=list)

    def at(self, hour: datetime) -> None:
        """Kill what is due on an hour's day."""
        for role in self.plan.pop(hour.replace(hour=0), ()):
            self.platform.kill(role)
            self.done.append(f"{role} on {hour:%d %B}")


def run_demo(directory: Path, wishes: Wishes) -> int:
    """Replay the year through a fresh platform and check every claim.

    Returns:
        0 when every claim held, else 1.
    """
    file = prepare(directory)
    config, _ = load(directory)
    phases = Phases()
    with phases.of("start"):
        platform = RunningPlatform(directory, directory / config.home, workers=WORKERS)
    with _ended_by_signals(), platform:
        if not wishes.json:
            print(f"the platform is up: console at {platform.started.url}", flush=True)
        with phases.of("read the year"):
            flights, broken = load_flights()
        # The year stays to the end, and so do the answers: looking through them at every
        # collection costs seconds.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        client = _client(platform, config)
        client.apply(file)
        spans = days(wishes.days)
        plan: dict[datetime, list[str]] = {}
        for role, share in KILLS if wishes.kills else ():
            plan.setdefault(spans[int(share * len(spans))].start, []).append(role)
        killer = Killer(platform, plan)
        request = list(client.endpoint(ENDPOINT).spec["request"])
        with ThreadPoolExecutor(LANES, thread_name_prefix="lane") as lanes:
            replay = Replay(
                client=client,
                predictions=Predictions(platform.started.inference_url, ENDPOINT, request),
                flights=flights,
                broken=broken,
                phases=phases,
                lanes=lanes,
                at_noon=killer.at,
            )
            _replay(replay, wishes)
        code = _report(replay, killer, wishes)
        if not wishes.exit and not wishes.json:
            print(f"\nthe console stays at {platform.started.url} until Ctrl-C", flush=True)
            with suppress(KeyboardInterrupt):
                platform.wait()
        return code


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, so that the platform is stopped with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _client(platform: RunningPlatform, config: Config) -> Client:
    caller = HttpCaller(platform.started.url, config.token or None)
    tables = DeltaTables(platform.home.tables(config.project))
    return Client(caller, RowWriter(tables), config.project)


def _replay(replay: Replay, wishes: Wishes) -> None:
    spans = days(wishes.days)
    with _progress(len(spans) + 10, quiet=wishes.json) as advance:
        advance(0, "January to March: commit, train, judge")
        replay.begin()
        advance(10, "")
        for span in spans:
            replay.replay_day(span)
            advance(
                1, f"{span.end:%d %b}: version {replay.predictions.served.versions[-1]} answers"
            )
    replay.predictions.close()


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Any]:
    """Show a bar to a person, plain lines to a file, nothing to a program."""
    if quiet:
        yield lambda _, __: None
        return
    if not sys.stdout.isatty():
        done = 0

        def line(steps: int, text: str) -> None:
            nonlocal done
            done += steps
            if text and (steps == 0 or done % 30 == 0):
                print(f"{100 * done // total:3d} %  {text}", flush=True)

        yield line
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:44}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=total)

        def step(steps: int, text: str) -> None:
            progress.advance(task, steps)
            if text:
                progress.update(task, description=text)

        yield step


def _report(replay: Replay, killer: Killer, wishes: Wishes) -> int:
    with replay.phases.of("report"):
        facts = list(replay.client.events(limit=LEDGER_AT_MOST).facts)
        table = months(replay, facts, killer.platform.home)
        held = claims(replay, table, facts)
        if wishes.kills:
            held.append(_survived(replay, killer))
        traced = replay.client.trace(_interesting(replay))
    ok = all(claim.held for claim in held) or wishes.days is not None
    if wishes.json:
        print(json.dumps(_as_json(replay, killer, table, held, facts, ok), indent=2))
        return 0 if ok else 1
    _print_table(table)
    print(f"\nmainspring trace {traced.prediction}")
    for section in traced.sections:
        print(f"  {section.title}")
        for text in section.lines:
            print(f"      {text}")
    print()
    for claim in held:
        print(f"{'held    ' if claim.held else 'NOT HELD'}  {claim.text}\n          {claim.found}")
    print(f"\nwhat was decided, as one digest: {ending(facts)[:16]}")
    _print_phases(replay, killer)
    return 0 if ok else 1


def _survived(replay: Replay, killer: Killer) -> Claim:
    restarts = killer.platform.restarts()
    again = {name: count for name, count in restarts.items() if count}
    repeated = replay.predictions.served.repeated
    return Claim(
        "control and a worker were killed on the way, and came back by themselves",
        not killer.plan and sum(again.values()) >= len(KILLS),
        f"killed {' and '.join(killer.done) or 'nothing'}; started again: {again}; "
        f"{repeated} requests sent again by the client",
    )


def _interesting(replay: Replay) -> str:
    """Choose a prediction worth tracing: of the version that went live last."""
    served = replay.predictions.served
    return next(
        prediction
        for prediction, version in zip(
            reversed(served.predictions), reversed(served.versions), strict=True
        )
        if version == served.versions[-1]
    )


def _print_table(table: list[Month]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("month", "rows", "late", "AUC live", "frozen", "log loss live", "frozen", "why"):
        shown.add_column(name, justify="left" if name in ("month", "why") else "right")
    for month in table:
        shown.add_row(
            month.month,
            f"{month.rows:,}",
            f"{month.late_share:.3f}",
            f"{month.auc_live:.4f}",
            f"{month.auc_frozen:.4f}",
            f"{month.loss_live:.4f}",
            f"{month.loss_frozen:.4f}",
            "; ".join(month.decided) or "-",
        )
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(shown)


def _print_phases(replay: Replay, killer: Killer) -> None:
    phases = replay.phases
    print("\nseconds of wall by phase:")
    for name, wall in phases.wall_s.items():
        print(f"    {name:22} {wall:7.1f}")
    print(f"    {'all':22} {sum(phases.wall_s.values()):7.1f}")
    print(f"peak memory of all processes and this client: {killer.platform.peak_mib:.0f} MiB")
    for name, mib in killer.platform.memory_mib().items():
        print(f"    {name:22} {mib:7.1f}")
    print(f"replayed from {START:%d %B %Y} to {replay.until:%d %B %Y}")


def _as_json(
    replay: Replay,
    killer: Killer,
    table: list[Month],
    held: list[Claim],
    facts: list[FactLine],
    ok: bool,
) -> dict[str, Any]:
    phases, served = replay.phases, replay.predictions.served
    return {
        "ok": ok,
        "months": [asdict(month) for month in table],
        "claims": [asdict(claim) for claim in held],
        "ending": ending(facts),
        "killed": killer.done,
        "wall_s": phases.wall_s,
        "cpu_s": phases.cpu_s,
        "peak_memory_mib": killer.platform.peak_mib,
        "memory_mib": killer.platform.memory_mib(),
        "rows": len(served.scores),
        "requests": served.requests,
        "requests_repeated": served.repeated,
    }
