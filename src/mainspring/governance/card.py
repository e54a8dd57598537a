"""The card of a model version: everything that is recorded of it, on one page for people.

Made anew when it is asked for, out of the ledger, the registry, the run and the folder. What is not
recorded is said to be missing: a reader must be able to tell it from what is fine.
"""

from collections.abc import Iterator, Sequence
from html import escape

import msgspec

from mainspring.formats.model import read_environment, read_manifest
from mainspring.governance.trace import (
    Section,
    data_sections,
    gate_sections,
    rollout_sections,
    run_sections,
    version_section,
)
from mainspring.loop.stages import Stages
from mainspring.registry.catalog import Catalog, Model, Version
from mainspring.tracking.tracking import Tracking

_TOLD = {
    "owner": "owner",
    "intended_use": "intended use",
    "limitations": "limitations",
    "ethical_considerations": "ethical considerations",
}
"""Tags of a version, or of its model, that a card has a place for."""

_PACKAGES_SHOWN = 12
_OWN_TAGS = ("mlflow.", "mainspring.")


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of a version."""

    model: str
    version: str
    summary: str
    sections: tuple[Section, ...]
    missing: tuple[str, ...]
    """What a card should say and nobody recorded."""


def card_of(
    stages: Stages, tracking: Tracking, catalog: Catalog, model: str, version: str
) -> ModelCard:
    """Write the card of a version.

    Raises:
        NotFound: There is no such model or version.
    """
    found, about = catalog.version(model, version), catalog.get(model)
    sections = [
        _about(about, found),
        version_section(found.version),
        *_interface(stages, found),
        *_quality(tracking, found),
        *gate_sections(stages, model, found.version),
        *rollout_sections(stages, model, found.version),
        *run_sections(stages, tracking, found.version),
        *data_sections(stages, found.version),
        *_environment(stages, found),
    ]
    shown = tuple(section for section in sections if section.lines)
    return ModelCard(
        model=model,
        version=version,
        summary=found.note.description or about.description,
        sections=shown,
        missing=tuple(_missing(about, found, shown)),
    )


def _about(model: Model, found: Version) -> Section:
    tags = {**model.tags, **found.tags}
    lines = [f"{shown}: {tags[tag]}" for tag, shown in _TOLD.items() if tags.get(tag)]
    if found.aliases:
        lines.append(f"aliases: {', '.join(found.aliases)}")
    if found.note.stage != "None":
        lines.append(f"stage: {found.note.stage}")
    lines += [
        f"{name}: {value}"
        for name, value in sorted(tags.items())
        if name not in _TOLD and not name.startswith(_OWN_TAGS)
    ]
    return Section(title="about", lines=tuple(lines), data=tags)


def _interface(stages: Stages, found: Version) -> Iterator[Section]:
    signature = stages.registry.card(found.version.model, found.version.version).signature
    if signature is None:
        return
    columns = [f"{column.name}: {column.type}" for column in signature.inputs]
    yield Section(
        title="takes and gives",
        lines=(*columns, f"gives {signature.output}, one number for each row"),
        data=msgspec.to_builtins(signature),
    )


def _quality(tracking: Tracking, found: Version) -> Iterator[Section]:
    if found.version.run is None:
        return
    metrics = tracking.get(found.version.run).metrics
    lines = [f"{key} = {point.value:.5g}" for key, point in sorted(metrics.items())]
    yield Section(
        title="what its run measured", lines=tuple(lines), data=msgspec.to_builtins(metrics)
    )


def _environment(stages: Stages, found: Version) -> Iterator[Section]:
    manifest = read_manifest(stages.blobs.path, found.version.manifest)
    if found.version.opaque:
        return
    environment = read_environment(stages.blobs.path, manifest)
    packages = environment.get("distributions") or environment.get("packages") or {}
    lines = [
        f"{name}: {value}"
        for name, value in sorted(environment.items())
        if isinstance(value, str | int | float)
    ]
    if isinstance(packages, dict):
        named = [f"{name} {number}" for name, number in sorted(packages.items())]
        rest = f" and {len(named) - _PACKAGES_SHOWN} more" if len(named) > _PACKAGES_SHOWN else ""
        if named:
            lines.append(f"packages: {', '.join(named[:_PACKAGES_SHOWN])}{rest}")
    yield Section(title="environment", lines=tuple(lines), data=environment)


def _missing(model: Model, found: Version, sections: Sequence[Section]) -> Iterator[str]:
    tags = {**model.tags, **found.tags}
    if not (found.note.description or model.description):
        yield "a description"
    for tag, shown in _TOLD.items():
        if not tags.get(tag):
            yield f"{shown} (tag {tag!r})"
    titles = [section.title for section in sections]
    if not any(title.startswith("gate: ") for title in titles):
        yield "a verdict of the gate"
    elif not any("group" in line or "fair" in line for s in sections for line in s.lines):
        yield "a finding on fairness between groups"
    if found.version.run is None:
        yield "the run that made it"


def markdown(card: ModelCard) -> str:
    """Write a card as Markdown."""
    parts = [f"# {_plain(card.model)}, version {_plain(card.version)}"]
    if card.summary:
        parts.append(_plain(card.summary))
    for section in card.sections:
        lines = "\n".join(f"- {_plain(line)}" for line in section.lines)
        parts.append(f"## {_plain(section.title).capitalize()}\n\n{lines}")
    if card.missing:
        lines = "\n".join(f"- {_plain(one)}" for one in card.missing)
        parts.append(f"## Not recorded\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def html(card: ModelCard) -> str:
    """Write a card as a page that stands alone: no script, no other file."""
    body = [f"<h1>{escape(card.model)} <small>version {escape(card.version)}</small></h1>"]
    if card.summary:
        body.append(f"<p class='summary'>{escape(card.summary)}</p>")
    for section in card.sections:
        lines = "".join(f"<li>{escape(line)}</li>" for line in section.lines)
        body.append(f"<h2>{escape(section.title)}</h2><ul>{lines}</ul>")
    if card.missing:
        lines = "".join(f"<li>{escape(one)}</li>" for one in card.missing)
        body.append(f"<h2 class='missing'>not recorded</h2><ul class='missing'>{lines}</ul>")
    title = f"{escape(card.model)} {escape(card.version)}"
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>{title}</title>"
        f"<style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


_STYLE = (
    "body{margin:0;background:#f7f6f3;color:#22211f;font:16px/1.55 system-ui,sans-serif}"
    "main{max-width:46rem;margin:0 auto;padding:3rem 1.5rem 5rem;background:#fff;min-height:100vh}"
    "h1{font-size:2rem;line-height:1.2;margin:0 0 1rem}h1 small{color:#77736b;font-weight:400}"
    "h2{font-size:1.05rem;margin:2.2rem 0 .4rem;padding-top:.9rem;border-top:1px solid #e6e2da}"
    "h2::first-letter{text-transform:uppercase}.summary{font-size:1.15rem;color:#45423d}"
    "ul{margin:0;padding-left:1.1rem}li{margin:.15rem 0;overflow-wrap:anywhere}"
    ".missing{color:#8a5a00}"
)


def _plain(text: str) -> str:
    """Give text in which nothing is markup: what people wrote is shown as they wrote it."""
    for sign in ("\\", "`", "*", "_", "<", "[", "#", "|"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
