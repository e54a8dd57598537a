"""What happened, told to whoever asked to hear of it: webhooks today."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Notice:
    """One happening in one project.

    Attributes:
        project: Where it happened.
        topic: What, as subscribers name it: `<entity>.<action>`, in the past tense.
        content: What is told of it, as JSON.
    """

    project: str
    topic: str
    content: dict[str, Any]


class Tell(Protocol):
    """Notes a notice inside the write that made it happen: neither is there without the other."""

    def __call__(self, connection: "Connection", notice: Notice) -> None: ...


def silent(connection: "Connection", notice: Notice) -> None:
    """Tell nobody."""
