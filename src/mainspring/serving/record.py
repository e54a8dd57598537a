"""The records of the request log, made from what an answer rests on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from mainspring.core.ids import Id
from mainspring.formats.segment import ArmOutput, Block, ViewUse
from mainspring.serving.choice import Choice
from mainspring.serving.replay import Answer
from mainspring.serving.sent import Sent
from mainspring.serving.shelf import Served
from mainspring.serving.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answered request whose plain shadows are to be asked."""

    served: Served
    request_id: str | None
    vectors: Vectors
    prediction: Id


class Timing(NamedTuple):
    """Where the time of an answer went."""

    queue_s: float
    features_s: float
    compute_s: float


class Scored(NamedTuple):
    """One request of a batch, with what was used and given for its rows."""

    sent: Sent
    answer: Answer
    floats: bytes
    """With the features looked up."""
    views: Mapping[str, ViewUse]
    chosen: Sequence[str]
    propensity: Sequence[float]
    outputs: Mapping[str, ArmOutput]


class Recorder:
    """Makes the records of the answers of one batch: the same bytes as of a `Block` each."""

    def __init__(
        self, choice: Choice, float_names: list[str], timing: Timing, *, at_us: int
    ) -> None:
        route = choice.served.route
        self._head = (at_us, route.project, route.endpoint, choice.served.number, route.rollout)
        # Long and always the same: encoded once.
        self._names = msgspec.Raw(_encode(float_names))
        self._spent = tuple(int(seconds * 1e6) for seconds in timing)

    def __call__(self, scored: Scored, missing: int, sampled: int) -> bytes:
        """Encode a record, field by field in the order of `Block`."""
        sent, answer, floats, views, chosen, propensity, outputs = scored
        return _encode(
            (
                answer.prediction,
                sent.request_id,
                *self._head,
                sent.keys,
                sent.times_us,
                self._names,
                floats,
                sent.strings,
                views,
                chosen,
                answer.arms,
                answer.versions,
                propensity,
                outputs,
                *self._spent,
                missing,
                sampled,
                "answer",
                sent.asked,
            )
        )


def shadow_block(
    exchange: Exchange,
    outputs: Mapping[str, ArmOutput],
    *,
    at_us: int,
    missing: int,
    sampled: int,
) -> Block:
    """Make the record of what the plain shadows gave for an answer; it has no rows of its own."""
    route = exchange.served.route
    return Block(
        prediction=exchange.prediction,
        request=exchange.request_id,
        at_us=at_us,
        project=route.project,
        endpoint=route.endpoint,
        routes=exchange.served.number,
        rollout=route.rollout,
        keys=[],
        event_times_us=[],
        float_names=[],
        floats=b"",
        strings={},
        views={},
        chosen=[],
        arms=[],
        versions=[],
        propensity=[],
        outputs=dict(outputs),
        queue_us=0,
        features_us=0,
        compute_us=sum(output.latency_us for output in outputs.values()),
        missing_before=missing,
        sampled_before=sampled,
        kind="shadow",
    )


_encode = msgspec.msgpack.Encoder().encode
