"""Makes request logs as workers write them."""

from collections.abc import Sequence

import numpy as np

from mainspring.core.ids import Id
from mainspring.formats.segment import ArmOutput, Block, SegmentWriter, ViewUse

EVENT_US = 1_364_774_400_000_000
ROLLOUT = Id("9" * 32)


def output(values: Sequence[float], failed: Sequence[int] = ()) -> ArmOutput:
    return ArmOutput(
        values=np.array(values, "<f8").tobytes(),
        failed=list(failed),
        error="raised: no such origin" if failed else None,
        latency_us=90,
    )


def block(
    number: int,
    keys: Sequence[str],
    *,
    request: str | None = None,
    project: str = "default",
    endpoint: str = "delay",
    feature: str = "wind",
    missing: int = 0,
    rollout: bool = False,
    candidate_failed: Sequence[int] = (),
    kind: str = "answer",
) -> Block:
    """One answered request; in a rollout the candidate, version 2, answers what it can."""
    n = len(keys)
    event_times = [EVENT_US + (number * 10 + place) * 60_000_000 for place in range(n)]
    versions, roles = ["1"] * n, ["live"] * n
    outputs = {"1": output([0.25] * n)}
    if rollout:
        outputs["2"] = output([0.75] * n, candidate_failed)
        answered = [place not in candidate_failed for place in range(n)]
        versions = ["2" if yes else "1" for yes in answered]
        roles = ["canary" if yes else "live" for yes in answered]
    if kind == "shadow":
        outputs = {"3": output([0.5, 0.5])}
    return Block(
        prediction=Id(f"{number:032x}"),
        request=request,
        at_us=EVENT_US + number,
        project=project,
        endpoint=endpoint,
        routes=7,
        rollout=ROLLOUT if rollout else None,
        keys=list(keys),
        event_times_us=event_times,
        float_names=[feature, "hour"],
        floats=np.array([[float(number)] * n, [float("nan")] * n], "<f8").tobytes(),
        strings={"origin": ["JFK"] * n},
        views={"weather": ViewUse([EVENT_US] * n, [-1] * n)},
        chosen=["2" if rollout else "1"] * n,
        arms=roles,
        versions=versions,
        propensity=[1.0] * n,
        outputs=outputs,
        queue_us=1,
        features_us=2,
        compute_us=3,
        missing_before=missing,
        sampled_before=0,
        kind="shadow" if kind == "shadow" else "answer",
    )


def write(writer: SegmentWriter, blocks: Sequence[Block]) -> None:
    for one in blocks:
        writer.append(one)
