"""The pages of the record: runs, the ledger, datasets."""

from collections import Counter
from pathlib import Path
from typing import Any

from starlette.responses import Response

from mainspring.api import data
from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id, Seq, checked_name
from mainspring.server.routing import Asked
from mainspring.server.ui import charts
from mainspring.server.ui.page import page

RUNS = 100
FACTS = 50
VERSIONS = 40
REFUSED_ROWS = 30
LOG_BYTES = 48 * 1024
KINDS = (
    "project", "dataset", "run", "model", "version", "endpoint", "rollout", "alarm", "actor",
    "records",
)  # fmt: skip


def all_runs(asked: Asked) -> Response:
    """List runs, newest first."""
    found = asked.call.project.stages.runs.list(limit=RUNS)
    return page(asked.call, "runs.html", runs=found, now=asked.call.platform.clock.now())


def one_run(asked: Asked) -> Response:
    """Show one run: what it read, logged and made."""
    run = asked.call.project.stages.runs.get(Id(asked.params["run"]))
    # The name of the file is the stored run's, not what was asked for.
    log = asked.call.platform.home.runs(asked.call.project.name) / f"{run.run}.log"
    text, cut = _tail(log)
    return page(
        asked.call,
        "run.html",
        run=run,
        tracked=asked.call.project.tracking.get(run.run),
        log=text,
        cut=cut,
        now=asked.call.platform.clock.now(),
    )


def _tail(path: Path) -> tuple[str, bool]:
    """Read a log's last lines; whether earlier ones were left out."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - LOG_BYTES))
            content = file.read()
    except OSError:
        return "", False
    if length <= LOG_BYTES:
        return content.decode("utf-8", "replace"), False
    return content.partition(b"\n")[2].decode("utf-8", "replace"), True


def ledger(asked: Asked) -> Response:
    """Show facts, newest first, of one subject if asked for."""
    asks = asked.request.query_params
    kind, name = asks.get("kind") or None, asks.get("name", "").strip() or None
    if kind is not None and kind not in KINDS:
        raise InvalidInput(f"kind {kind[:40]!r}: expected one of {', '.join(KINDS)}")
    if kind is not None and name is not None:
        checked_name(name, what=kind)
    before = _number(asks.get("before"))
    found = asked.call.platform.ledger.facts(
        project=asked.call.project.name,
        kind=kind,
        name=name if kind else None,
        before=None if before is None else Seq(before),
        limit=FACTS + 1,
        newest_first=True,
    )
    return page(
        asked.call,
        "ledger.html",
        facts=found[:FACTS],
        older=found[FACTS - 1].seq if len(found) > FACTS else None,
        newest=before is None,
        kinds=KINDS,
        kind=kind or "",
        name=name or "",
    )


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput(f"before {text[:20]!r}: expected the number of a fact")
    return int(text)


def datasets(asked: Asked) -> Response:
    """List the declared datasets with their newest version."""
    stages = asked.call.project.stages
    views = stages.features.views()
    shown = []
    for name, spec in stages.datasets.specs().items():
        versions = stages.datasets.versions(name)
        shown.append(
            {
                "spec": spec,
                "versions": versions,
                "quarantined": sum(one.quarantined for one in versions),
                "views": [view for view in views.values() if view.source == name],
            }
        )
    return page(asked.call, "datasets.html", datasets=shown, pushed=stages.features.pushed())


def dataset(asked: Asked) -> Response:
    """Show a dataset: its versions, its checks and what they refused."""
    call, name = asked.call, asked.params["name"]
    named = data.Named(project=call.project.name, dataset=name)
    versions = data.versions(call, named).versions
    wanted = data.Rows(project=call.project.name, dataset=name, limit=REFUSED_ROWS)
    refused = data.quarantined(call, wanted)
    reasons: Counter[str] = Counter()
    for one in versions:
        reasons.update(one.reasons)
    return page(
        call,
        "dataset.html",
        name=name,
        spec=call.project.stages.datasets.specs().get(name),
        versions=list(reversed(versions))[:VERSIONS],
        many=len(versions),
        refused=refused,
        reasons=_reasons(reasons),
        columns=_columns(refused.columns),
    )


def _reasons(reasons: Counter[str]) -> list[dict[str, Any]]:
    total = max(reasons.values(), default=1)
    return [
        {"reason": reason, "rows": rows, "bar": charts.bar(reason, [("bad", rows / total)])}
        for reason, rows in reasons.most_common()
    ]


def _columns(columns: tuple[str, ...]) -> list[str]:
    """Put the reason first: it is what one looks for."""
    rest = [name for name in columns if name not in ("reason", "dataset_version")]
    return ["reason", "dataset_version", *rest]
