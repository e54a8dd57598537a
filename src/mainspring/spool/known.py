"""What a server said of its experiments, kept so that training can begin while it is away."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mainspring.spool.line import Kind


class KnownExperiments:
    """A file of the experiments that were asked for at one server."""

    def __init__(self, root: Path, target: str) -> None:
        digest = hashlib.blake2b(target.encode(), digest_size=8).hexdigest()
        self._path = root / f"known-{digest}.json"

    def by_id(self, experiment: str) -> dict[str, str] | None:
        """Give an experiment that was noted."""
        found: dict[str, str] | None = self._read()["experiments"].get(experiment)
        return found

    def by_name(self, name: str) -> dict[str, str] | None:
        """Give an experiment that was noted."""
        experiments: dict[str, dict[str, str]] = self._read()["experiments"]
        return next((one for one in experiments.values() if one["name"] == name), None)

    def kind(self) -> Kind | None:
        """Give what answered at the address when it last did."""
        found: Kind | None = self._read()["kind"]
        return found

    def note(self, experiment: dict[str, str]) -> None:
        """Remember an experiment."""
        known = self._read()
        if known["experiments"].get(experiment["experiment_id"]) != experiment:
            known["experiments"][experiment["experiment_id"]] = experiment
            self._write(known)

    def note_kind(self, kind: Kind) -> None:
        """Remember what answers."""
        known = self._read()
        if known["kind"] != kind:
            self._write({**known, "kind": kind})

    def _read(self) -> dict[str, Any]:
        known: dict[str, Any] = {"kind": None, "experiments": {}}
        with suppress(OSError, ValueError):
            known |= json.loads(self._path.read_text("utf-8"))
        return known

    def _write(self, known: dict[str, Any]) -> None:
        # A help for bad days: without it the training only asks the server.
        with suppress(OSError):
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(known), "utf-8")
            fresh.replace(self._path)
