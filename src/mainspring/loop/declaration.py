"""A project's declaration as one value: read from a project file, checked, recorded."""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import InvalidDeclaration
from mainspring.core.ids import Digest, digest_of
from mainspring.data.spec import Dataset
from mainspring.features.spec import FeatureView
from mainspring.loop.spec import Endpoint, OnAlarm
from mainspring.pipelines.environment import Commit, capture
from mainspring.pipelines.pipeline import Pipeline
from mainspring.pipelines.project import load

SOURCES = {".py", ".sql"}
_NOT_SOURCES = {"__pycache__", "node_modules", "build", "dist"}


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a project file declares; `files` are its sources as they were, by path."""

    source: str
    files: dict[str, str]
    code: Commit | None = None
    datasets: tuple[Dataset, ...] = ()
    views: tuple[FeatureView, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    pipelines: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """Equal for equal declarations and sources."""
        return digest_of(self)

    def check(self) -> None:
        """Refuse names that are taken twice or lead nowhere.

        Raises:
            InvalidDeclaration: Naming the declaration, what it names and what there is.
        """
        if not self.datasets:
            raise InvalidDeclaration(
                f"project file {self.source!r} declares no dataset at its top level; bind at least "
                "one to a name there, or give the right file"
            )
        for kind, names in (
            ("dataset", [one.name for one in self.datasets]),
            ("feature view", [one.name for one in self.views]),
            ("endpoint", [one.name for one in self.endpoints]),
            ("pipeline", list(self.pipelines)),
        ):
            _once(kind, names)
        datasets = {one.name for one in self.datasets}
        for view in self.views:
            _there(f"feature view {view.name!r}", "dataset", [view.source], datasets)
        for endpoint in self.endpoints:
            self._check_endpoint(endpoint, datasets)

    def _check_endpoint(self, endpoint: Endpoint, datasets: set[str]) -> None:
        subject = f"endpoint {endpoint.name!r}"
        views = {one.name: one for one in self.views}
        _there(subject, "dataset", [endpoint.rows, endpoint.label.source], datasets)
        _there(subject, "feature view", endpoint.features, set(views))
        _there(subject, "pipeline", [endpoint.pipeline], set(self.pipelines))
        monitors = {monitor.name for monitor in endpoint.monitors}
        watched = [one.monitor for one in endpoint.retrain if isinstance(one, OnAlarm)]
        _there(subject, "monitor", watched, monitors)
        _once(f"{subject}: request column", list(endpoint.request))
        _once(f"{subject}: monitor", [monitor.name for monitor in endpoint.monitors])
        columns = [*endpoint.request]
        for view in (views[name] for name in endpoint.features):
            columns += view.names
            if view.entity not in endpoint.request:
                raise InvalidDeclaration(
                    f"{subject}: feature view {view.name!r} is looked up by {view.entity!r}, which "
                    f"a request does not carry; add it to request, now {', '.join(columns)}"
                )
        _once(f"{subject}: input", columns)


def read_declaration(file: Path) -> Declaration:
    """Run a project file and gather what it declares at its top level.

    Raises:
        NotFound: There is no such file.
        InvalidDeclaration: It raises, or declares something that cannot be.
    """
    project = load(file)
    environment, _ = capture(project.root)
    declared = Declaration(
        source=project.path.name,
        files={str(path.relative_to(project.root)): _text(path) for path in _sources(project.path)},
        code=environment.code,
        datasets=tuple(project.of(Dataset)),
        views=tuple(project.of(FeatureView)),
        endpoints=tuple(project.of(Endpoint)),
        pipelines=tuple(pipeline.name for pipeline in project.of(Pipeline)),
    )
    declared.check()
    # As whoever reads it back has it: 9 for a float becomes 9.0, here and over a wire alike.
    return msgspec.json.decode(msgspec.json.encode(declared), type=Declaration)


def unpack(files: dict[str, str], folder: Path) -> None:
    """Write a declaration's sources into a folder that is not there yet, all or nothing.

    Paths come from the ledger's own blob, which `read_declaration` made; anything that would
    leave the folder is refused all the same.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}.{os.urandom(8).hex()}.new")
    for name, text in files.items():
        path = made / name
        if not path.resolve().is_relative_to(made.resolve()):
            raise InvalidDeclaration(f"source file {name!r} lies outside the project; move it in")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    try:
        made.rename(folder)
    except OSError:
        # Another attempt was first; what it wrote is the same.
        shutil.rmtree(made, ignore_errors=True)
        if not folder.is_dir():
            raise


def _sources(file: Path) -> Iterator[Path]:
    """Walk a project's folder for its code: no hidden folder, environment, build result or home."""
    for root, folders, names in os.walk(file.parent):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _NOT_SOURCES
            and not (here / name / "pyvenv.cfg").exists()
            and not (here / name / "mainspring.db").exists()
        )
        yield from (here / name for name in sorted(names) if Path(name).suffix in SOURCES)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDeclaration(f"source file {path.name}: not UTF-8 text ({error})") from error


def _once(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidDeclaration(f"{kind} {name!r} is declared twice; give each its own name")
        seen.add(name)


def _there(subject: str, kind: str, named: Iterable[str], known: Any) -> None:
    for name in named:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InvalidDeclaration(
                f"{subject} names the {kind} {name!r}, which the project does not declare; "
                f"declared: {listed}"
            )
