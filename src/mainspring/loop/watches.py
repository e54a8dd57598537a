"""What monitoring shall watch: the loop's declarations and open rollouts, in its terms."""

from mainspring.core.clock import duration
from mainspring.core.ids import Id
from mainspring.loop import state
from mainspring.monitoring.watch import GuardedRollout, Watch
from mainspring.store.database import Database


class LoopWatches:
    """Tells monitoring what is declared and open in one project."""

    def __init__(self, project: str, database: Database) -> None:
        self._project = project
        self._database = database

    def watch(self, endpoint: str) -> Watch:
        """Say what to watch of an endpoint."""
        with self._database.read() as connection:
            spec = state.endpoint(connection, self._project, endpoint)
            live = state.live_version(connection, self._project, endpoint)
            rollout = state.open_rollout(connection, self._project, endpoint)
        guarded = None
        if rollout is not None:
            guarded = GuardedRollout(
                rollout=Id(rollout.id),
                candidate=rollout.candidate,
                live=rollout.live,
                guards=spec.rollout.guards,
            )
        return Watch(
            live=None if live is None else live.version,
            label_wait=duration(spec.label.wait),
            monitors=spec.monitors,
            rollout=guarded,
        )
