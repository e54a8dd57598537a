"""Call verbs in this process: the same routes, permissions and types as over the wire."""

from typing import TypeVar

import msgspec

from mainspring.access.actors import Actor
from mainspring.api.table import TABLE
from mainspring.api.verb import Call, Question, Request, Verb
from mainspring.core.errors import InvalidInput, NotFound
from mainspring.platform import Platform

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")


class MemoryCaller:
    """Calls the platform that this process built.

    Args:
        platform: The opened platform.
        actor: Who every fact will name.
    """

    def __init__(self, platform: Platform, actor: Actor) -> None:
        self._platform = platform
        self._actor = actor

    def __call__(self, verb: Question[Q, A], request: Q) -> A:
        """Check the permission, then do it.

        Raises:
            NotPermitted: The actor's role does not allow it.
        """
        project = self._platform.project(request.project)
        project.access.check(self._actor, verb.resource, verb.action)
        answering: Verb[Q, A] = verb if isinstance(verb, Verb) else TABLE[verb.name]
        return answering.function(Call(self._platform, project, self._actor.name), request)

    def by_name(self, name: str, body: bytes) -> bytes:
        """Call by the verb's name with JSON, as a wire would; errors in it are the caller's."""
        verb = TABLE.get(name)
        if verb is None:
            raise NotFound(f"verb {name!r} does not exist; see the table in docs/api.md")
        try:
            request = msgspec.json.decode(body, type=verb.request)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"{name}: {error}; see the request's fields") from error
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{name}: the body is not JSON ({error})") from error
        return msgspec.json.encode(self(verb, request))
