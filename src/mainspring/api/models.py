"""Verbs of registered models."""

from mainspring.api.verb import Call, Request, Verb
from mainspring.governance.card import ModelCard, card_of
from mainspring.registry.catalog import Catalog


class OfVersion(Request, frozen=True, kw_only=True):
    """A version of a model."""

    model: str
    version: str


def card(call: Call, request: OfVersion) -> ModelCard:
    """Write the card of a version out of all that is recorded of it."""
    stages = call.project.stages
    catalog = Catalog(stages.registry, call.platform.clock)
    return card_of(stages, call.project.tracking, catalog, request.model, request.version)


CARD = Verb("model.card", "GET", "model", "read", OfVersion, ModelCard, card)
