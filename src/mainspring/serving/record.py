"""The records of the request log, made from what an answer rests on."""

from collections.abc import Mapping
from dataclasses import dataclass

from mainspring.core.ids import Id
from mainspring.formats.routes import Arm
from mainspring.formats.segment import ArmOutput, Block
from mainspring.serving.lookup import LookedUp
from mainspring.serving.replay import Answer
from mainspring.serving.shelf import Served
from mainspring.serving.vectors import Rows


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request with everything it was answered from."""

    served: Served
    rows: Rows
    request_id: str | None
    looked_up: LookedUp
    picked: list[Arm]
    asked: bytes = b""
    """Digest of what was asked, where there is a request id."""
    pinned: bool = False
    """The caller named the version; no key chose it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of an answer went."""

    queue_s: float
    features_s: float
    compute_s: float


def answer_block(
    exchange: Exchange,
    answer: Answer,
    outputs: Mapping[str, ArmOutput],
    timing: Timing,
    *,
    at_us: int,
    missing: int,
    sampled: int,
) -> Block:
    """Make the record of an answer."""
    route, vectors = exchange.served.route, exchange.looked_up.vectors
    share = exchange.served.propensity
    return Block(
        prediction=answer.prediction,
        request=exchange.request_id,
        at_us=at_us,
        project=route.project,
        endpoint=route.endpoint,
        routes=exchange.served.number,
        rollout=route.rollout,
        keys=list(exchange.rows.keys),
        event_times_us=list(exchange.rows.event_times_us),
        float_names=vectors.float_names,
        floats=vectors.floats.tobytes(),
        strings=vectors.strings,
        views=exchange.looked_up.views,
        chosen=[arm.version for arm in exchange.picked],
        arms=answer.arms,
        versions=answer.versions,
        propensity=[1.0 if exchange.pinned else share[arm.version] for arm in exchange.picked],
        outputs=dict(outputs),
        queue_us=int(timing.queue_s * 1e6),
        features_us=int(timing.features_s * 1e6),
        compute_us=int(timing.compute_s * 1e6),
        missing_before=missing,
        sampled_before=sampled,
        asked=exchange.asked,
    )


def shadow_block(
    exchange: Exchange,
    prediction: Id,
    outputs: Mapping[str, ArmOutput],
    *,
    at_us: int,
    missing: int,
    sampled: int,
) -> Block:
    """Make the record of what the plain shadows gave for an answer; it has no rows of its own."""
    route = exchange.served.route
    return Block(
        prediction=prediction,
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
