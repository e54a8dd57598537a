"""The common case straight through: rows of one request each, numbers only, and nothing goes wrong.

What leaves the common case is no error: it is left to the long way (`Engine.answer`), before
anything was recorded or counted. Answers, records and counts are those of the long way.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from mainspring.core.clock import Clock
from mainspring.core.ids import Id, IdSource
from mainspring.formats.routes import Arm
from mainspring.serving.choice import Choice
from mainspring.serving.record import RowRecords, ScoredRows, Timing
from mainspring.serving.request_log import RequestLog
from mainspring.serving.router import chosen
from mainspring.serving.salvage import ScoringFailed
from mainspring.serving.scoring import ArmScore, Scorer
from mainspring.serving.tally import Tally
from mainspring.serving.vectors import Vectors

_CLOSED_S = 5.0


class OneRows(NamedTuple):
    """Requests of one row each, without request ids, of one endpoint: item i is request i."""

    keys: Sequence[str | None]
    """None: the caller gave none, one is made up."""
    times_us: Sequence[int | None]
    """None: now."""
    floats: Sequence[bytes]
    """float64 in the order of the endpoint's columns; NaN = missing."""


class Given(NamedTuple):
    """What the requests get: item i is request i's."""

    predictions: list[Id]
    outputs: list[float]
    arms: Sequence[Arm]


class Straight:
    """Answers one choice's requests; made for each choice anew."""

    def __init__(self, choice: Choice, clock: Clock, ids: IdSource, log: RequestLog) -> None:
        self._choice = choice
        self._clock = clock
        self._ids = ids
        self._log = log
        self._scorer = Scorer(clock)
        self._records = RowRecords(choice)
        self._closed_until_s = -math.inf

    def answer(self, rows: OneRows, tally: Tally, *, started_s: float, now_us: int) -> Given | None:
        """Answer requests together; their records are written when it returns.

        Returns:
            None if one of them needs the long way: then nothing was recorded.
        """
        before = self._clock.monotonic_s()
        if before < self._closed_until_s:
            return None
        choice, count = self._choice, len(rows.floats)
        keys = self._filled(rows.keys)
        vectors = self.vectors(rows)
        picked = chosen(choice.route, keys)
        try:
            scores = self._scorer.score(
                choice.scored_by, choice.served.models, vectors, picked, whole=True
            )
        except ScoringFailed:
            return None
        if any(score.timed_out for score in scores.values()):
            # Scored again the long way: not to be doubled for as long as the arm is slow.
            self._closed_until_s = self._clock.monotonic_s() + _CLOSED_S
            return None
        done = self._clock.monotonic_s()
        given = Given(self._ids.several(count), _outputs(picked, scores), picked)
        timing = Timing(before - started_s, 0.0, done - before)
        batch = ScoredRows(
            now_us, keys, rows.times_us, rows.floats, given.predictions, picked, scores, timing
        )
        self._log.append_together(count, partial(self._records.encoded, batch))
        _count(tally, choice, picked, scores)
        return given

    def vectors(self, rows: OneRows) -> Vectors:
        """Put the rows into the form that is scored."""
        count = len(rows.floats)
        table = np.frombuffer(b"".join(rows.floats), np.float64).reshape(count, -1).T
        return Vectors(count, self._choice.float_names, table, {})

    def _filled(self, keys: Sequence[str | None]) -> Sequence[str]:
        left_out = keys.count(None)
        if not left_out:
            return cast(Sequence[str], keys)
        made_up = iter(self._ids.several(left_out))
        return [next(made_up) if key is None else key for key in keys]


def _outputs(picked: Sequence[Arm], scores: Mapping[str, ArmScore]) -> list[float]:
    values = {version: score.values.tolist() for version, score in scores.items()}
    if len(values) == 1:
        return next(iter(values.values()))
    return [values[arm.version][i] for i, arm in enumerate(picked)]


def _count(
    tally: Tally, choice: Choice, picked: Sequence[Arm], scores: Mapping[str, ArmScore]
) -> None:
    route = choice.route
    for arm in route.arms:
        rows = len(picked) if len(route.arms) == 1 else picked.count(arm)
        if rows:
            name = (route.project, route.endpoint, arm.version, arm.role)
            tally.add(name, rows, rows, rows * scores[arm.version].latency_us)
