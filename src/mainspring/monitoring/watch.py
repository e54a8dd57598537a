"""What monitoring must be told by others: what is declared, which versions there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from mainspring.core.ids import Id
from mainspring.monitoring.spec import Guard, Monitor
from mainspring.stats.calibration import CalibrationMap
from mainspring.stats.categories import CategoryProfile
from mainspring.stats.profile import NumericProfile

Profile = NumericProfile | CategoryProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedRollout:
    """An open rollout whose arms are compared on the requests that both scored.

    Attributes:
        alpha_fail: Chance that any guard fails a candidate within its margins, whenever one looks.
        alpha_pass: Chance that a guard passes a candidate beyond its margin.
    """

    rollout: Id
    candidate: str
    live: str
    guards: tuple[Guard, ...]
    alpha_fail: float = 0.05
    alpha_pass: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What is to be watched of one endpoint now.

    Attributes:
        live: Version that answers; None before the first.
        label_wait: Time after the event by which labels are complete. A pair of losses is taken
            in no earlier, else whichever outcome is reported sooner would speak first.
    """

    live: str | None
    label_wait: timedelta
    monitors: tuple[Monitor, ...] = ()
    rollout: GuardedRollout | None = None


class Watches(Protocol):
    """Gives what is declared and open: the loop's knowledge, handed in."""

    def watch(self, endpoint: str) -> Watch:
        """Say what to watch; raises NotFound for an endpoint nobody declared."""
        ...


class References(Protocol):
    """Gives what a version's model folder says of the data it was made on."""

    def calibration(self, endpoint: str, version: str) -> CalibrationMap | None:
        """Map from score to probability, fitted on held-out rows; None = the score itself."""
        ...

    def profiles(self, endpoint: str, version: str) -> Mapping[str, Profile]:
        """Profiles of the training rows by feature column; empty = none kept."""
        ...
