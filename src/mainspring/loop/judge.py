"""Bring candidate, champion and kept versions before the gate on the held-back slice."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from mainspring.core.clock import duration
from mainspring.core.events import Judged
from mainspring.core.ids import canonical, digest_of
from mainspring.loop import state
from mainspring.loop.rows import labelled_rows, pins
from mainspring.loop.scoring import model_of
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import Stages
from mainspring.loop.tables import from_us
from mainspring.serving.runtime import OnnxModel
from mainspring.validation.judge import judge
from mainspring.validation.slice import Scores, Slice
from mainspring.validation.spec import Gate
from mainspring.validation.verdict import Verdict


def judge_candidate(stages: Stages, spec: Endpoint, version: str, *, now: datetime) -> Judged:
    """Compare a candidate with the champion and the kept versions; store the whole verdict.

    The slice runs from the candidate's `until` to the last time by which labels are complete,
    so that rows whose outcome comes early do not stand for those whose outcome comes late.
    """
    with stages.database.read() as connection:
        row = next(
            row
            for row in state.candidates(connection, stages.project, spec.name)
            if row.version == version
        )
        live = state.live_version(connection, stages.project, spec.name)
        history = state.live_history(connection, stages.project, spec.name)
    champion = None if live is None else live.version
    kept = kept_versions([one.version for one in history], champion, spec.kept)
    start, end = from_us(row.until_us), now - duration(spec.label.wait)
    pinned = pins(stages, spec)
    rows = labelled_rows(stages, spec, start=start, end=end, as_of=now, pinned=pinned)
    verdict = _compare(stages, spec, rows, version, champion, [v for v in kept if v != version])
    evidence = stages.blobs.put(canonical(verdict))
    patience = now + duration(spec.gate.deadline)
    return Judged(
        verdict=stages.ids.new(),
        endpoint=spec.name,
        candidate=version,
        champion=champion,
        compared=verdict.compared,
        outcome=verdict.outcome,
        reason=verdict.reason,
        better=verdict.better_version,
        rows=rows.height,
        slice_start=start,
        slice_end=end,
        planning_sd=verdict.planning_sd,
        evidence=evidence,
        inputs=digest_of([version, champion, kept, pinned, start, end]),
        deadline=patience if verdict.outcome == "inconclusive" else None,
    )


def kept_versions(history: Sequence[str], champion: str | None, last: int) -> list[str]:
    """Choose the earlier versions a candidate must not be worse than.

    The first that was ever live, and the last `last` ones, without the champion.

    >>> kept_versions(["1", "2", "4", "2", "5", "7"], "7", 2)
    ['1', '2', '5']
    """
    earlier = [v for v in dict.fromkeys(reversed(history)) if v != champion]
    chosen = {*earlier[:last], *(v for v in history[:1] if v != champion)}
    return sorted(chosen, key=list(history).index)


def _compare(
    stages: Stages,
    spec: Endpoint,
    rows: pl.DataFrame,
    candidate: str,
    champion: str | None,
    kept: list[str],
) -> Verdict:
    challenger = model_of(stages, spec.name, candidate)

    def scores(version: str) -> Scores:
        return Scores(version, model_of(stages, spec.name, version).score_frame(rows))

    return judge(
        spec.gate,
        _slice(spec.gate, rows),
        Scores(candidate, challenger.score_frame(rows)),
        None if champion is None else scores(champion),
        [scores(version) for version in kept],
        _answers(spec.gate, challenger),
        seed=stages.config.bootstrap_seed,
    )


def _slice(gate: Gate, rows: pl.DataFrame) -> Slice:
    block_us = duration(gate.block) // timedelta(microseconds=1)
    blocks = rows["event_time"].dt.epoch("us").to_numpy() // block_us
    return Slice(
        y=rows["label"].cast(pl.Float64).to_numpy(),
        blocks=blocks.astype(np.int64),
        groups={
            bar.column: rows[bar.column].cast(pl.String).fill_null("").to_numpy()
            for bar in gate.fairness
        },
        start=str(rows["event_time"].min()),
        end=str(rows["event_time"].max()),
    )


def _answers(gate: Gate, model: OnnxModel) -> dict[str, float]:
    return {
        case.name: float(model.score({name: [value] for name, value in case.row.items()})[0])
        for case in gate.cases
    }
