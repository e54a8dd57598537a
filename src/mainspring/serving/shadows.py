"""Plain shadows: scored between turns for answers that are out, recorded beside them.

They never delay or fail an answer. What was answered together is scored together.
"""

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from mainspring.core.ids import Id
from mainspring.formats.segment import ArmOutput, Block
from mainspring.serving.request_log import RequestLog
from mainspring.serving.salvage import ScoringFailed
from mainspring.serving.scoring import ArmScore, Scorer
from mainspring.serving.shelf import Served
from mainspring.serving.vectors import Vectors

AT_MOST = 256
"""Answers that wait; with more, the next to answer scores them first: memory is bounded."""


class Shadowed(NamedTuple):
    """One answered request: its rows in what was scored together."""

    request_id: str | None
    prediction: Id
    begin: int
    end: int


class _Waiting(NamedTuple):
    served: Served
    vectors: Vectors
    answers: list[Shadowed]


class Shadows:
    """The answers whose shadows are to be asked yet; for the thread that answers."""

    def __init__(self, scorer: Scorer, log: RequestLog, now_us: Callable[[], int]) -> None:
        self._scorer = scorer
        self._log = log
        self._now_us = now_us
        self._queue: deque[_Waiting] = deque()
        self.waiting = 0
        """Answers whose shadows were not asked yet."""

    def ask(self, served: Served, vectors: Vectors, answers: list[Shadowed]) -> None:
        """Have the shadows of answers asked later, which were scored together."""
        if not answers:
            return
        self._queue.append(_Waiting(served, vectors, answers))
        self.waiting += len(answers)
        if self.waiting > AT_MOST:
            self.score()

    def score(self) -> int:
        """Ask all that wait and append their records; gives the number of answers done."""
        done = 0
        while self._queue:
            one = self._queue.popleft()
            self.waiting -= len(one.answers)
            self._score(one)
            done += len(one.answers)
        return done

    def _score(self, one: _Waiting) -> None:
        served, vectors, answers = one
        asked = sum(answer.end - answer.begin for answer in answers)
        rows = None
        if asked < vectors.count:
            # The others are not in the sample.
            ranges = [np.arange(answer.begin, answer.end) for answer in answers]
            rows = np.concatenate(ranges)
        try:
            scores = {
                arm.version: self._scorer.arm(
                    served.route, served.models, arm, vectors, rows, whole=len(answers) > 1
                )
                for arm in served.shadows
            }
        except ScoringFailed:
            # So that a failure and its reason stay with their answer.
            for answer in answers:
                self._score(_Waiting(served, vectors, [answer]))
            return
        make = partial(_encoded, _middle(served, self._now_us()), scores)
        self._log.append_all([(0, partial(make, answer)) for answer in answers])


def _middle(served: Served, at_us: int) -> bytes:
    """Encode what the records of one batch have in common, between request and outputs."""
    route = served.route
    head = (at_us, route.project, route.endpoint, served.number, route.rollout)
    return b"".join([_encode(part) for part in head]) + _NO_ROWS


def _encoded(
    middle: bytes,
    scores: Mapping[str, ArmScore],
    answer: Shadowed,
    missing: int,
    sampled: int,
) -> bytes:
    """Encode the record of one answer: the bytes of a `Block` that has no rows of its own."""
    outputs = {version: _output(score, answer) for version, score in scores.items()}
    spent = sum(output.latency_us for output in outputs.values())
    return b"".join(
        (
            _HEAD,
            _encode(answer.prediction),
            _encode(answer.request_id),
            middle,
            _encode(outputs),
            _NOTHING,
            _NOTHING,
            _encode(spent),
            _encode(missing),
            _encode(sampled),
            _ENDING,
        )
    )


def _output(score: ArmScore, answer: Shadowed) -> ArmOutput:
    """Give what an arm gave for the rows of an answer."""
    begin, end = answer.begin, answer.end
    failed = [row - begin for row in sorted(score.scored.failed) if begin <= row < end]
    return ArmOutput(
        score.values[begin:end].tobytes(),
        failed,
        score.scored.error if failed else None,
        score.latency_us,
        score.timed_out,
    )


_encode = msgspec.msgpack.Encoder().encode
_FIELDS = len(Block.__struct_fields__)
_HEAD = _encode((None,) * _FIELDS)[:-_FIELDS]
_NOTHING = _encode(0)
# Keys, event times, float names, floats, strings, views, chosen, arms, versions, propensities.
_EMPTY: tuple[object, ...] = ([], [], [], b"", {}, {}, [], [], [], [])
_NO_ROWS = b"".join([_encode(part) for part in _EMPTY])
_ENDING = _encode("shadow") + _encode(b"")
