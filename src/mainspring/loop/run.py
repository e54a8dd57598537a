"""Settle an endpoint's loop by taking steps until none is named."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from mainspring.core.errors import StaleSubject
from mainspring.core.ids import Id
from mainspring.loop.act import act
from mainspring.loop.decide import decide, waiting
from mainspring.loop.observe import observe
from mainspring.loop.routes import publish_routes
from mainspring.loop.stages import Stages
from mainspring.loop.steps import Step
from mainspring.loop.tables import LOOP_ERROR, to_us

PASSES = 200
"""Steps one settling takes at most; more means that a step does not change its world."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How a settling ended.

    Attributes:
        run: The open run that the loop waits for, if there is one.
    """

    steps: tuple[str, ...]
    waiting: str
    error: str | None
    run: Id | None = None


def settle(
    stages: Stages, endpoint: str, *, after_step: Callable[[Step], None] | None = None
) -> Looked:
    """Take steps until the loop has nothing to do, or one fails. One thread at a time each.

    A step that fails is recorded and left for the next look: the loop goes on with everything
    else, and nothing half done stays, because each step commits whole or not at all.

    Args:
        stages: The stages to drive.
        endpoint: Name of the endpoint.
        after_step: Called after each step.
    """
    taken: list[str] = []
    for _ in range(PASSES):
        world = observe(stages, endpoint)
        if world is None:
            return Looked(tuple(taken), "its source has not advanced the watermark yet", None)
        step = decide(world)
        if step is None:
            _mend(stages, endpoint)
            run = None if world.run is None else world.run.run
            return Looked(tuple(taken), waiting(world), None, run)
        try:
            act(stages, world, step)
        except StaleSubject:
            continue
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            record_error(stages, endpoint, type(step).__name__, message)
            return Looked(tuple(taken), "a step failed; it is tried again", message)
        taken.append(type(step).__name__)
        if after_step is not None:
            after_step(step)
    last = taken[-1] if taken else "none"
    message = f"{PASSES} passes without rest; the last step taken was {last}"
    record_error(stages, endpoint, last, message)
    return Looked(tuple(taken), "stopped", message)


def failed_times(stages: Stages, endpoint: str) -> int:
    """Count the looks in a row that failed, 0 when the last one did not."""
    with stages.database.read() as connection:
        chosen = select(LOOP_ERROR.c.times).where(*_mine(stages, endpoint))
        return connection.scalar(chosen) or 0


def record_error(stages: Stages, endpoint: str, step: str, message: str) -> None:
    """Keep what went wrong, for people to see until a look succeeds."""
    now = to_us(stages.clock.now())
    mine = _mine(stages, endpoint)

    def write(connection: Connection) -> None:
        before = connection.scalar(select(LOOP_ERROR.c.times).where(*mine)) or 0
        connection.execute(delete(LOOP_ERROR).where(*mine))
        connection.execute(
            insert(LOOP_ERROR).values(
                project=stages.project,
                endpoint=endpoint,
                at_us=now,
                step=step,
                message=message,
                times=before + 1,
            )
        )

    stages.database.write(write)


def _mend(stages: Stages, endpoint: str) -> None:
    """Forget the error of an earlier look; what failed may have been the publishing itself."""
    if not failed_times(stages, endpoint):
        return
    publish_routes(stages)
    mine = _mine(stages, endpoint)
    stages.database.write(
        lambda connection: connection.execute(delete(LOOP_ERROR).where(*mine)).rowcount
    )


def _mine(stages: Stages, endpoint: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return LOOP_ERROR.c.project == stages.project, LOOP_ERROR.c.endpoint == endpoint
