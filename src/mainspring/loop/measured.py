"""Measured windows of an endpoint, kept in memory so that only what changed is measured again."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from mainspring.serving.runtime import OnnxModel

Key = tuple[Any, ...]
"""Endpoint, frozen version, length and start of the window, its labelled rows and their sum."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was served in one window and what the frozen version would have said to the same rows.

    Attributes:
        auc_error: Standard error of the difference of the two areas.
    """

    auc: float | None
    log_loss: float
    frozen_auc: float | None
    frozen_log_loss: float | None
    auc_error: float | None


@dataclass(slots=True)
class MeasuredWindows:
    """The windows measured so far and the frozen models they were measured with.

    `measuring` is held by whoever measures, so that two who look at once measure once.
    """

    measuring: Lock = field(default_factory=Lock)
    found: dict[Key, Measured] = field(default_factory=dict)
    models: dict[tuple[str, str], OnnxModel] = field(default_factory=dict)
    answers: dict[Key, Any] = field(default_factory=dict)
    """Whole histories by endpoint and length, each with the mark it rests on."""

    def keep(self, prefix: Key, keys: Iterable[Key]) -> None:
        """Forget the windows of an endpoint and length that are no more or have changed."""
        kept = set(keys)
        for key in [one for one in self.found if one[: len(prefix)] == prefix]:
            if key not in kept:
                del self.found[key]
