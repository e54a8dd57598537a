"""Wall and CPU seconds by phase, for the report and the benchmark."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Phase:
    """The phase being measured; it may be renamed when it turns out to be another."""

    name: str

    def rename(self, name: str) -> None:
        """Book what is being measured under another name."""
        self.name = name


@dataclass(slots=True)
class Phases:
    """Adds up seconds by name."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[Phase]:
        """Measure a block."""
        phase = Phase(name)
        wall, cpu = time.monotonic(), time.process_time()
        try:
            yield phase
        finally:
            self._add(self.wall_s, phase.name, time.monotonic() - wall)
            self._add(self.cpu_s, phase.name, time.process_time() - cpu)

    @staticmethod
    def _add(sums: dict[str, float], name: str, seconds: float) -> None:
        sums[name] = sums.get(name, 0.0) + seconds


def peak_memory_mib() -> float:
    """Give the most memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
