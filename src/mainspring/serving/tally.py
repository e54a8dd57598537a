"""What an engine has answered, counted as it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mainspring.formats.segment import ArmOutput
from mainspring.serving.replay import Answer


@dataclass(slots=True)
class VersionTally:
    """One version in one role."""

    rows: int = 0
    """Answered by it."""
    requests: int = 0
    """With at least one row answered by it."""
    compute_us: int = 0
    """Its scoring in those requests."""


@dataclass(slots=True)
class Tally:
    """Counts since the engine's start. Rows answered from memory are not counted again."""

    by_version: dict[tuple[str, str, str, str], VersionTally] = field(default_factory=dict)
    """By project, endpoint, version and role."""
    fallbacks: int = 0
    failed_rows: int = 0

    @property
    def rows(self) -> int:
        """Rows answered by a version."""
        return sum(version.rows for version in self.by_version.values())

    def count(
        self, project: str, endpoint: str, answer: Answer, outputs: Mapping[str, ArmOutput]
    ) -> None:
        """Count an answer."""
        versions = answer.versions
        first, rows = versions[0], len(versions)
        if first and versions.count(first) == rows:
            self._add((project, endpoint, first, answer.arms[0]), rows, outputs)
        else:
            for version, arm in set(zip(versions, answer.arms, strict=True)):
                if version:
                    self._add((project, endpoint, version, arm), versions.count(version), outputs)
        if True in answer.fallback:
            self.fallbacks += sum(answer.fallback) - len(answer.errors)
            self.failed_rows += len(answer.errors)

    def _add(
        self, name: tuple[str, str, str, str], rows: int, outputs: Mapping[str, ArmOutput]
    ) -> None:
        self.add(name, rows, 1, outputs[name[2]].latency_us)

    def add(
        self, name: tuple[str, str, str, str], rows: int, requests: int, compute_us: int
    ) -> None:
        """Count rows of requests that one version answered whole, by its name in `by_version`."""
        tally = self.by_version.get(name)
        if tally is None:
            tally = self.by_version[name] = VersionTally()
        tally.rows += rows
        tally.requests += requests
        tally.compute_us += compute_us
