"""The rows a verdict rests on: labels, blocks, groups, and what each version answered there."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput

ROUNDING = 1e-6
"""Scores this far outside 0 to 1 are float32 rounding, not errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Labelled rows newer than every compared version's training rows.

    Attributes:
        y: 1 or 0 per row.
        blocks: Integer id of each row's block, such as its day.
        groups: Column to each row's group, for the fairness bars.
        start: Event time of the first row, RFC 3339.
        end: Event time of the last row.
    """

    y: NDArray[np.int64]
    blocks: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        sizes = {"y": self.y.size, "blocks": self.blocks.size}
        sizes.update({name: values.size for name, values in self.groups.items()})
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise InvalidInput(f"slice: found {found} rows, expected the same number in each")
        other = np.setdiff1d(self.y, (0, 1))
        if other.size:
            raise InvalidInput(
                f"slice: found label {other[0]}, expected 0 or 1; leave out rows without a label"
            )

    @property
    def rows(self) -> int:
        """Labelled rows."""
        return int(self.y.size)

    @property
    def block_count(self) -> int:
        """Distinct blocks."""
        return int(np.unique(self.blocks).size)

    @property
    def positives(self) -> int:
        """Rows labelled 1."""
        return int(np.count_nonzero(self.y == 1))


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What one version answered on the slice, in its order."""

    version: str
    probability: NDArray[np.float64]

    @property
    def unusable(self) -> int:
        """Answers that are not finite or not a probability."""
        p = np.asarray(self.probability, np.float64)
        return int(p.size - np.count_nonzero((p >= -ROUNDING) & (p <= 1 + ROUNDING)))

    @property
    def clipped(self) -> NDArray[np.float64]:
        """The answers as doubles within 0 to 1."""
        return np.clip(np.asarray(self.probability, np.float64), 0.0, 1.0)
