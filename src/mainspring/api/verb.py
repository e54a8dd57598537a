"""A verb: one thing a user or a program may ask, with its route and its permission."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import msgspec

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Subject
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

    platform: Platform
    project: Project
    actor: str

    def subject(self, kind: str, name: str) -> Subject:
        """Name a subject of the project."""
        return Subject(self.project.name, kind, name)


@dataclass(frozen=True, slots=True)
class Verb(Generic[Q, A]):
    """One row of the table.

    `resource` and `action` are what a role must allow; a verb without them cannot be written.
    """

    name: str
    method: Literal["GET", "POST"]
    resource: str
    action: str
    request: type[Q]
    answer: type[A]
    function: Callable[[Call, Q], A]

    @property
    def path(self) -> str:
        """The native route, below `/api/v1`."""
        return "/" + self.name.replace(".", "/")


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
