"""Open a run that trains a candidate: asked by a trigger or by a person, made the same way."""

from collections.abc import Mapping
from datetime import datetime
from statistics import median
from typing import Any

from mainspring.core.clock import duration
from mainspring.core.errors import Refused
from mainspring.core.events import RunOpened
from mainspring.core.ids import Digest, Id, Seq, checked_name, digest_of
from mainspring.loop import state
from mainspring.loop.rows import hold_back, pins
from mainspring.loop.spec import Endpoint
from mainspring.loop.stages import ACTOR, Stages
from mainspring.loop.world import Holdout
from mainspring.validation.spec import rows_needed

MANUAL = "manual:"

MEASURED = 5
"""Newest gates whose measured spread plans the next one."""


def held_back(
    stages: Stages, spec: Endpoint, now: datetime, parameters: Mapping[str, Any] | None = None
) -> Holdout:
    """Count the newest labelled rows that a run must leave to the gate.

    The first version is judged by its floors alone; later ones by a margin, for which the gate's
    own last measurements say how many rows it takes.
    """
    with stages.database.read() as connection:
        spoken = state.verdicts(connection, stages.project, spec.name)
        first = state.live_version(connection, stages.project, spec.name) is None
    measured = [row.planning_sd for row in spoken if row.planning_sd is not None][-MEASURED:]
    # The median, because one candidate that is broken differs from the champion beyond all plans.
    usual = median(measured) if measured else None
    needed = spec.gate.min_rows if first else rows_needed(spec.gate, measured_sd=usual)
    until, available = hold_back(stages, spec, rows=needed, as_of=now)
    if until is None:
        return Holdout(needed, available, None, None)
    inputs = digest_of([spec.pipeline, pins(stages, spec), until, dict(parameters or {})])
    return Holdout(needed, available, until, inputs)


def open_training(
    stages: Stages,
    spec: Endpoint,
    now: datetime,
    *,
    trigger: str,
    until: datetime,
    holdout_rows: int,
    inputs: Digest,
    parameters: Mapping[str, Any] | None = None,
    actor: str = ACTOR,
    cause: Seq | None = None,
) -> Id:
    """Append the fact that a pipeline shall run; the loop starts it."""
    opened = RunOpened(
        run=stages.ids.new(),
        pipeline=spec.pipeline,
        endpoint=spec.name,
        trigger=trigger,
        parameters=dict(parameters or {}),
        until=until,
        as_of=now,
        pins=pins(stages, spec),
        inputs=inputs,
        holdout_rows=holdout_rows,
        deadline=stages.clock.now() + duration(stages.config.run_deadline),
    )
    stages.runs.open(opened, actor=actor, cause=cause)
    return opened.run


def open_by_hand(
    stages: Stages,
    name: str,
    now: datetime | None,
    *,
    parameters: Mapping[str, Any],
    token: str,
    actor: str,
) -> Id:
    """Open a run for a person; the same token again gives the same run.

    Raises:
        Refused: A run of this endpoint is open, or there are too few labelled rows to hold back.
    """
    trigger = MANUAL + checked_name(token, what="token")
    with stages.database.read() as connection:
        spec = state.endpoint(connection, stages.project, name)
    for run in stages.runs.list(endpoint=name):
        if run.trigger == trigger:
            return run.run
        if run.state == "open":
            raise Refused(f"endpoint {name!r}: run {run.run} is open; wait until it ends")
    if now is None:
        raise Refused(
            f"endpoint {name!r}: its watermark was never advanced, so nothing is known to have "
            f"arrived; run `mainspring endpoint advance {name} --until ...`"
        )
    held = held_back(stages, spec, now, parameters)
    if held.until is None or held.inputs is None:
        raise Refused(
            f"endpoint {name!r}: the gate needs the {held.needed} newest labelled rows held back; "
            f"found {held.available} as of {now.isoformat()}"
        )
    return open_training(
        stages,
        spec,
        now,
        trigger=trigger,
        until=held.until,
        holdout_rows=held.needed,
        inputs=held.inputs,
        parameters=parameters,
        actor=actor,
    )
