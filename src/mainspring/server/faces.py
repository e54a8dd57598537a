"""The protocols that the control process speaks beside its own."""

from collections.abc import Sequence

from mainspring.platform import Platform
from mainspring.server.control import Control
from mainspring.server.mlflow.face import faces as mlflow
from mainspring.server.routing import Face
from mainspring.server.ui.face import face as console


def all_faces(platform: Platform, control: Control) -> Sequence[Face]:
    """Give every face but the native one."""
    return (console(platform, control), *mlflow())
