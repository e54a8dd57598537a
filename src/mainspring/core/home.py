"""Where things lie in a home: the one place that knows the directory layout.

The data plane reads models, routes and the online table by these paths without asking the
control plane, so the layout is a contract.
"""

from dataclasses import dataclass
from pathlib import Path

from mainspring.core.ids import Digest


@dataclass(frozen=True, slots=True)
class Home:
    """A state directory, `.mainspring/` unless configured otherwise."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by the one process that owns the home."""
        return self.root / "lock"

    @property
    def database(self) -> Path:
        """The SQLite file: ledger, derived and record tables."""
        return self.root / "mainspring.db"

    @property
    def ledger_head(self) -> Path:
        """Number and hash of the newest fact, kept apart so that a cut-off ledger shows."""
        return self.root / "ledger.head"

    @property
    def routes(self) -> Path:
        """The published route table."""
        return self.root / "routes.json"

    @property
    def tokens(self) -> Path:
        """The accepted tokens, as hashes, for the inference workers."""
        return self.root / "tokens.json"

    @property
    def segments(self) -> Path:
        """One append-only request log per worker start."""
        return self.root / "segments"

    @property
    def roster(self) -> Path:
        """Addresses and processes of the platform while it is up, written by the supervisor."""
        return self.root / "up.json"

    @property
    def workers(self) -> Path:
        """What each inference worker serves and has counted, a file per worker."""
        return self.root / "workers"

    @property
    def logs(self) -> Path:
        """What the platform's own processes print, a file per role."""
        return self.root / "logs"

    def blobs(self, project: str) -> Path:
        """The content-addressed store of one project."""
        return self.root / "projects" / project / "blobs"

    def blob(self, project: str, digest: Digest) -> Path:
        """The file of one blob."""
        return self.blobs(project) / digest[:2] / digest[2:]

    def tables(self, project: str) -> Path:
        """The Delta tables of one project: datasets, quarantine, predictions."""
        return self.root / "projects" / project / "tables"

    def online(self, project: str) -> Path:
        """The online feature tables of one project, a folder per feature view."""
        return self.root / "projects" / project / "online"

    def runs(self, project: str) -> Path:
        """Logs of pipeline runs."""
        return self.root / "projects" / project / "runs"

    def sources(self, project: str, digest: Digest) -> Path:
        """A declaration's source files, unpacked from their blob for runs to load."""
        return self.root / "projects" / project / "sources" / digest
