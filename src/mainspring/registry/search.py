"""Searches of models and versions: filter, order and page, all of it in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, cast, func, select
from sqlalchemy.types import BigInteger

from mainspring.core.errors import InvalidInput
from mainspring.registry.notes import MODEL_ITSELF
from mainspring.registry.tables import MODEL, MODEL_NOTE, MODEL_TAG, MODEL_VERSION
from mainspring.store.filters import Term, number_condition, order, terms, text_condition

PROMPT = "mlflow.prompt.is_prompt"
"""The tag of prompts, which share the catalogue's names and are not models."""

ENTITIES = {
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "model"), "attribute"),
}


@dataclass(frozen=True, slots=True)
class Page:
    """Which of the found to give."""

    offset: int
    limit: int


def _later(fact_us: ColumnElement[int], note_ms: ColumnElement[int]) -> ColumnElement[int]:
    noted_us = func.coalesce(note_ms, 0) * 1000
    return cast(case((noted_us > fact_us, noted_us), else_=fact_us), BigInteger)


_MODEL_UPDATED = _later(MODEL.c.updated_us, MODEL_NOTE.c.updated_ms) // 1000
_VERSION_UPDATED = _later(MODEL_VERSION.c.registered_us, MODEL_NOTE.c.updated_ms) // 1000

_MODEL_TEXTS = {"name": MODEL.c.model}
_MODEL_KEYS: Mapping[str, ColumnElement[Any]] = {
    "name": MODEL.c.model,
    **dict.fromkeys(("timestamp", "last_updated_timestamp"), _MODEL_UPDATED),
    "creation_timestamp": MODEL.c.created_us,
}
_VERSION_TEXTS: Mapping[str, ColumnElement[Any]] = {
    "name": MODEL_VERSION.c.model,
    "run_id": MODEL_VERSION.c.run,
    "source_path": MODEL_VERSION.c.source,
}
_VERSION_NUMBERS: Mapping[str, ColumnElement[Any]] = {
    "version_number": MODEL_VERSION.c.number,
    "creation_timestamp": MODEL_VERSION.c.registered_us // 1000,
    "last_updated_timestamp": _VERSION_UPDATED,
}


def search_models(
    connection: Connection,
    project: str,
    *,
    text: str | None,
    orders: Sequence[str],
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of models that match; prompts only when the filter speaks of them."""
    noted = (
        (MODEL_NOTE.c.project == MODEL.c.project)
        & (MODEL_NOTE.c.model == MODEL.c.model)
        & (MODEL_NOTE.c.version == MODEL_ITSELF)
    )
    query = select(MODEL).outerjoin(MODEL_NOTE, noted).where(MODEL.c.project == project)
    for term in _found(text):
        query = query.where(_model_condition(project, term))
    query = query.order_by(*_orders(orders, _MODEL_KEYS), MODEL.c.model)
    return connection.execute(query.offset(page.offset).limit(page.limit)).all()


def search_versions(
    connection: Connection,
    project: str,
    *,
    text: str | None,
    orders: Sequence[str],
    page: Page,
) -> Sequence[Row[Any]]:
    """Give the rows of versions that match."""
    noted = (
        (MODEL_NOTE.c.project == MODEL_VERSION.c.project)
        & (MODEL_NOTE.c.model == MODEL_VERSION.c.model)
        & (MODEL_NOTE.c.version == MODEL_VERSION.c.version)
    )
    query = select(MODEL_VERSION).outerjoin(MODEL_NOTE, noted)
    query = query.where(MODEL_VERSION.c.project == project)
    for term in _found(text):
        query = query.where(_version_condition(project, term))
    default = (_VERSION_UPDATED.desc(), MODEL_VERSION.c.model, MODEL_VERSION.c.number.desc())
    keys = {**_VERSION_TEXTS, **_VERSION_NUMBERS}
    query = query.order_by(*_orders(orders, keys), *default)
    return connection.execute(query.offset(page.offset).limit(page.limit)).all()


def _found(text: str | None) -> list[Term]:
    """Read a filter; one that does not speak of prompts asks for none."""
    found = terms(text, ENTITIES, default="attribute")
    if not any(term.key == PROMPT for term in found):
        found.append(Term("tag", PROMPT, "!=", "true", True, ""))
    return found


def _is_prompt(project: str, term: Term, model: ColumnElement[str]) -> ColumnElement[bool]:
    """Unlike another tag's, this one's absence is unlike `true`."""
    prompts = _tagged(project, PROMPT, MODEL_ITSELF)
    wanted = (term.operator == "=") == (str(term.value).lower() == "true")
    return model.in_(prompts) if wanted else model.not_in(prompts)


def _model_condition(project: str, term: Term) -> ColumnElement[bool]:
    if term.entity == "tag" and term.key == PROMPT:
        return _is_prompt(project, term, MODEL.c.model)
    if term.entity == "tag":
        return MODEL.c.model.in_(_tagged(project, term.key, MODEL_ITSELF, term))
    if term.key not in _MODEL_TEXTS:
        raise InvalidInput(f"Invalid attribute name: {term.key[:60]}; valid ones are ['name']")
    return text_condition(_MODEL_TEXTS[term.key], term)


def _version_condition(project: str, term: Term) -> ColumnElement[bool]:
    if term.entity == "tag" and term.key == PROMPT:
        return _is_prompt(project, term, MODEL_VERSION.c.model)
    if term.entity == "tag":
        same = (
            (MODEL_TAG.c.project == project)
            & (MODEL_TAG.c.model == MODEL_VERSION.c.model)
            & (MODEL_TAG.c.version == MODEL_VERSION.c.version)
            & (MODEL_TAG.c.key == term.key)
        )
        return select(MODEL_TAG.c.key).where(same, text_condition(MODEL_TAG.c.value, term)).exists()
    if term.key in _VERSION_TEXTS:
        return text_condition(_VERSION_TEXTS[term.key], term)
    if term.key in _VERSION_NUMBERS:
        return number_condition(_VERSION_NUMBERS[term.key], term)
    raise InvalidInput(
        f"Invalid attribute name: {term.key[:60]}; valid ones are "
        f"{sorted({*_VERSION_TEXTS, *_VERSION_NUMBERS})}"
    )


def _tagged(project: str, key: str, version: str, term: Term | None = None) -> Any:
    holds = [MODEL_TAG.c.project == project, MODEL_TAG.c.key == key, MODEL_TAG.c.version == version]
    if term is not None:
        holds.append(text_condition(MODEL_TAG.c.value, term))
    return select(MODEL_TAG.c.model).where(and_(*holds))


def _orders(
    orders: Sequence[str], keys: Mapping[str, ColumnElement[Any]]
) -> list[ColumnElement[Any]]:
    read = [order(one, ENTITIES, default="attribute") for one in orders]
    names = [one.key for one in read]
    if len(set(names)) != len(names):
        raise InvalidInput(f"`order_by` contains duplicate fields: {list(orders)}")
    for one in read:
        if one.entity != "attribute" or one.key not in keys:
            raise InvalidInput(
                f"Invalid order by key '{one.key[:60]}' specified. Valid keys are {sorted(keys)}"
            )
    return [keys[one.key].asc() if one.ascending else keys[one.key].desc() for one in read]
