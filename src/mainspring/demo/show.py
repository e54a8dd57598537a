"""Run the demo from beginning to end, and print what it shows."""

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mainspring.api.local import local_client
from mainspring.core.clock import SystemClock
from mainspring.core.config import load
from mainspring.core.ids import IdSource
from mainspring.demo.phases import Phases, peak_memory_mib
from mainspring.demo.replay import ENDPOINT, START, Replay, days, load_flights, prepare
from mainspring.demo.report import Claim, Month, claims, months
from mainspring.platform import Platform
from mainspring.serving.engine import Engine

LEDGER_AT_MOST = 10_000


def run_demo(directory: Path, *, days_at_most: int | None, as_json: bool) -> int:
    """Replay the year in a fresh directory and check every claim.

    Returns:
        0 when every claim held, else 1. A replay of part of the year is not held to the claims.
    """
    file = prepare(directory)
    config, _ = load(directory)
    phases = Phases()
    clock = SystemClock()
    with phases.of("read the year"):
        flights, broken = load_flights()
    # The year stays to the end, and so do the answers: looking through them at every collection
    # costs seconds.
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with Platform.open(config, directory / config.home, clock=clock) as platform:
        client = local_client(platform, config)
        client.apply(file)
        engine = Engine(platform.home, worker="demo", clock=clock, ids=IdSource(clock))
        replay = Replay(
            client=client,
            engine=engine,
            home=platform.home,
            stages=platform.project(config.project).stages,
            flights=flights,
            broken=broken,
            phases=phases,
            request=list(client.endpoint(ENDPOINT).spec["request"]),
        )
        _replay(replay, days_at_most, quiet=as_json)
        return _report(replay, whole=days_at_most is None, as_json=as_json)


def _replay(replay: Replay, limit: int | None, *, quiet: bool) -> None:
    spans = days(limit)
    with _progress(len(spans) + 10, quiet=quiet) as advance:
        advance(0, "January to March: commit, train, judge")
        replay.begin()
        advance(10, "")
        for span in spans:
            replay.replay_day(span)
            advance(1, f"{span.end:%d %b}: version {replay.served.versions[-1]} answers")
    replay.engine.close()


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


def _report(replay: Replay, *, whole: bool, as_json: bool) -> int:
    facts = list(replay.client.events(limit=LEDGER_AT_MOST).facts)
    with replay.phases.of("report"):
        table = months(replay, facts)
        held = claims(replay, table, facts)
        traced = replay.client.trace(_interesting(replay))
    ok = all(claim.held for claim in held) or not whole
    if as_json:
        print(json.dumps(_as_json(replay, table, held, ok), indent=2))
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
    _print_phases(replay)
    return 0 if ok else 1


def _interesting(replay: Replay) -> str:
    """Choose a prediction worth tracing: of the version that went live last."""
    served = replay.served
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


def _print_phases(replay: Replay) -> None:
    phases = replay.phases
    print("\nseconds of wall (of CPU) by phase:")
    for name, wall in phases.wall_s.items():
        print(f"    {name:18} {wall:7.1f} ({phases.cpu_s[name]:.1f})")
    print(f"    {'all':18} {sum(phases.wall_s.values()):7.1f} ({sum(phases.cpu_s.values()):.1f})")
    print(
        f"peak memory {peak_memory_mib():.0f} MiB, from {START:%d %B %Y} to {replay.until:%d %B %Y}"
    )


def _as_json(replay: Replay, table: list[Month], held: list[Claim], ok: bool) -> dict[str, Any]:
    phases = replay.phases
    return {
        "ok": ok,
        "months": [asdict(month) for month in table],
        "claims": [asdict(claim) for claim in held],
        "wall_s": phases.wall_s,
        "cpu_s": phases.cpu_s,
        "peak_memory_mib": peak_memory_mib(),
        "rows": len(replay.served.scores),
        "requests": replay.served.requests,
    }
