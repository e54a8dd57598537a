"""A verb: one thing a user or a program may ask, with its route and its permission."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar

import msgspec

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Subject

if TYPE_CHECKING:
    # A run's process asks verbs, and needs neither the platform nor its database for it.
    from mainspring.platform import Platform, Project

Q = TypeVar("Q", bound="Request")
A = TypeVar("A")


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of all requests; every verb speaks of one project."""

    project: str = "default"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Root of all answers."""


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks what of which project."""

    platform: "Platform"
    project: "Project"
    actor: str

    def subject(self, kind: str, name: str) -> Subject:
        """Name a subject of the project."""
        return Subject(self.project.name, kind, name)


@dataclass(frozen=True, slots=True)
class Question(Generic[Q, A]):
    """What may be asked, without the function that answers: enough for a caller on a wire.

    `resource` and `action` are what a role must allow; a verb without them cannot be written.
    A caller whose connection broke asks again, unless doing it twice could be wrong: then
    `repeatable` is false.
    """

    name: str
    method: Literal["GET", "POST"]
    resource: str
    action: str
    request: type[Q]
    answer: type[A]
    repeatable: bool = field(default=True, kw_only=True)

    @property
    def path(self) -> str:
        """The native route, below `/api/v1`."""
        return "/" + self.name.replace(".", "/")


@dataclass(frozen=True, slots=True)
class Verb(Question[Q, A]):
    """One row of the table: a question and what answers it."""

    function: Callable[[Call, Q], A]

    @classmethod
    def answering(cls, question: Question[Q, A], function: Callable[[Call, Q], A]) -> Self:
        """Give a question its function."""
        return cls(
            question.name,
            question.method,
            question.resource,
            question.action,
            question.request,
            question.answer,
            function,
            repeatable=question.repeatable,
        )


def bounded(name: str, value: int, low: int, high: int) -> int:
    """Give a number of a request back, if it is one that can be.

    Raises:
        InvalidInput: It is not; a number too large for the database would be no answer but a crash.
    """
    if not low <= value <= high:
        raise InvalidInput(f"{name} {value}: expected {low} to {high}")
    return value


LARGEST = (1 << 53) - 1
"""The largest whole number that every reader of JSON keeps."""

AnyVerb = Verb[Any, Any]
