"""Load registered versions to score tables with, as the data plane would score the same rows."""

from mainspring.core.errors import Refused
from mainspring.loop.stages import Stages
from mainspring.serving.runtime import OnnxModel


def model_of(stages: Stages, endpoint: str, version: str) -> OnnxModel:
    """Load a registered version with its goldens replayed.

    Raises:
        Refused: It is opaque: it was logged without a converted model.
    """
    registered = stages.registry.get(endpoint, version)
    if registered.opaque:
        raise Refused(
            f"version {endpoint}:{version} was logged without a converted model; "
            "convert it before it is judged"
        )
    return OnnxModel.load(stages.home, stages.project, registered.manifest)
