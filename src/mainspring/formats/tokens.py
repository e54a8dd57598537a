"""Who may call the data plane: the tokens that control publishes beside the routes.

A worker has no database. It reads this file, which holds hashes and no secret.
"""

import os

import msgspec

from mainspring.core.errors import Corrupt
from mainspring.core.home import Home
from mainspring.core.ids import digest_bytes
from mainspring.formats.durable import replace_file


class PublishedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token that is accepted in one project."""

    hash: str
    """SHA-256 of the secret."""
    project: str
    name: str
    """Of the actor."""
    role: str | None
    permissions: tuple[str, ...]
    """What the role allows of the data plane, each as `resource/action`."""


class PublishedTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tokens of a home."""

    tokens: tuple[PublishedToken, ...]


def publish_tokens(home: Home, tokens: PublishedTokens) -> None:
    """Replace the published tokens, atomically and durably. One writer: the home's owner."""
    replace_file(home.tokens, msgspec.json.encode(tokens))


class TokenBook:
    """The published tokens as a reader holds them; sees a new file at the next question."""

    def __init__(self, home: Home) -> None:
        self._path = os.fspath(home.tokens)
        self._seen: tuple[int, int] | None = None
        self._by_hash: dict[tuple[str, str], PublishedToken] = {}
        self._problem: str | None = None
        self._any = False

    def exist(self) -> bool:
        """Tell whether the home has a token, of whatever project.

        Raises:
            Corrupt: The file is not readable: nobody is let in until it is published again.
        """
        self._refresh()
        return self._any

    def find(self, project: str, secret: str) -> PublishedToken | None:
        """Give the token of a secret in a project; None if it is not accepted there.

        Raises:
            Corrupt: As `exist`.
        """
        self._refresh()
        # Looked up by its hash: how long that takes says nothing of the secret.
        return self._by_hash.get((project, digest_bytes(secret.encode("utf-8", "replace"))))

    def _refresh(self) -> None:
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            self._seen, self._any, self._by_hash, self._problem = None, False, {}, None
            return
        seen = (stat.st_ino, stat.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._problem = seen, None
            self._read()
        if self._problem is not None:
            raise Corrupt(self._problem)

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as file:
                found = msgspec.json.decode(file.read(), type=PublishedTokens).tokens
        except (OSError, msgspec.MsgspecError) as error:
            self._problem = f"tokens: the file is not readable ({error}); publish it again"
            return
        self._any = bool(found)
        self._by_hash = {(token.project, token.hash): token for token in found}
