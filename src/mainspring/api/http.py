"""Call verbs over HTTP: the same requests, answers and errors as in memory."""

import http.client
import select
import threading
import time
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from mainspring.api.verb import Question, Request
from mainspring.core import errors
from mainspring.core.errors import MainspringError, Misconfigured, TimedOut, Unavailable
from mainspring.core.ids import DEFAULT_PROJECT

Q = TypeVar("Q", bound=Request)
A = TypeVar("A")

API = "/api/v1"
NOT_BEGUN = "Mainspring-Starting"
"""Header of a refusal that says: nothing was done, the control process is on its way."""

MSGPACK = "application/msgpack"

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_CLASSES: dict[str, type[MainspringError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, MainspringError)
}


class _Gone(Exception):
    """The connection broke. `sent`: the server may have taken the request and done it."""

    def __init__(self, error: BaseException, *, sent: bool) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.sent = sent


class HttpCaller:
    """Calls the platform that is up, over connections that are kept: one for each thread.

    A control process that restarts is waited for: the supervisor holds the socket, so calls queue,
    and those that broke are made again. One whose verb is not `repeatable` is made again only when
    the server cannot have begun it.

    Args:
        url: Address of the control process, such as `http://127.0.0.1:8700`.
        token: What to show; nothing for the local user of a home without tokens.
        patience_s: How long a control process may be away.
        timeout_s: How long one answer may take.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience_s: float = 30.0,
        timeout_s: float = 150.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misconfigured(f"address {url!r}: expected http://host:port")
        self.url = url.rstrip("/")
        self._parts = parts
        self._patience_s = patience_s
        self._timeout_s = timeout_s
        self._headers = {"Accept": MSGPACK}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._all: set[http.client.HTTPConnection] = set()

    def __call__(self, verb: Question[Q, A], request: Q) -> A:
        """Give the verb's answer, or raise its error.

        Raises:
            Unavailable: Nobody answered for longer than the patience, or the connection broke and
                the verb may not be repeated; the message says which.
            TimedOut: The answer did not come in time; the work may go on.
        """
        path, body = _request(verb, request)
        ends = time.monotonic() + self._patience_s
        pause_s = 0.0
        while True:
            try:
                status, not_begun, content = self._send(verb, path, body)
            except _Gone as gone:
                if gone.sent and not verb.repeatable:
                    raise Unavailable(
                        f"{verb.name}: the connection to {self.url} broke before the answer came "
                        f"({gone}); it may have been done: look, then decide"
                    ) from gone
                error: MainspringError = Unavailable(
                    f"{verb.name}: {self.url} does not answer ({gone}); see `mainspring status`"
                )
            else:
                if status == http.client.OK:
                    return msgspec.msgpack.decode(content, type=verb.answer)
                error = error_of(verb, status, content)
                if not not_begun:
                    raise error
            if time.monotonic() + pause_s >= ends:
                raise error
            time.sleep(pause_s)
            pause_s = min(max(pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._mine = threading.local()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(
        self, verb: Question[Any, Any], path: str, body: bytes | None
    ) -> tuple[int, bool, bytes]:
        connection = self._connection(fresh=not verb.repeatable)
        headers = self._headers if body is None else {**self._headers, "Content-Type": MSGPACK}
        sent = False
        try:
            connection.request(verb.method, path, body, headers)
            sent = True
            answer = connection.getresponse()
            length = answer.length
            content = answer.read()
        except TimeoutError as error:
            self._drop(connection)
            if not sent:
                raise _Gone(error, sent=False) from error
            raise TimedOut(
                f"{verb.name}: no answer from {self.url} in {self._timeout_s:g} s; "
                "the work may go on: look, then decide"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._drop(connection)
            raise _Gone(error, sent=sent) from error
        if length is None:
            # A head that was cut off reads like one without a length.
            self._drop(connection)
            raise _Gone(ConnectionError("the answer was cut off"), sent=True)
        if answer.will_close:
            self._drop(connection)
        return answer.status, answer.headers.get(NOT_BEGUN) is not None, content

    def _connection(self, *, fresh: bool) -> http.client.HTTPConnection:
        held: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if held is not None and (fresh or _ended(held)):
            self._drop(held)
            held = None
        if held is None:
            https = self._parts.scheme == "https"
            kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
            held = kind(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)
            self._mine.connection = held
            with self._lock:
                self._all.add(held)
        return held

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._mine.connection = None
        with self._lock:
            self._all.discard(connection)


def _ended(connection: http.client.HTTPConnection) -> bool:
    """Say whether the server closed a kept connection: nothing else makes it readable."""
    if connection.sock is None:
        return True
    return bool(select.select([connection.sock], [], [], 0)[0])


def _request(verb: Question[Q, Any], request: Q) -> tuple[str, bytes | None]:
    prefix = "" if request.project == DEFAULT_PROJECT else f"/p/{quote(request.project, safe='')}"
    path = f"{prefix}{API}{verb.path}"
    if verb.method == "POST":
        return path, msgspec.msgpack.encode(request)
    given = {
        name: _text(value)
        for name, value in msgspec.structs.asdict(request).items()
        if value is not None and name != "project"
    }
    return (f"{path}?{urlencode(given)}" if given else path), None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


class _Told(msgspec.Struct):
    code: str
    message: str


class _Refusal(msgspec.Struct):
    error: _Told


def error_of(verb: Question[Any, Any], status: int, content: bytes) -> MainspringError:
    """Give the error that the server raised, of the class it had there."""
    try:
        told = msgspec.json.decode(content, type=_Refusal).error
    except msgspec.MsgspecError:
        return Unavailable(f"{verb.name}: answered with status {status} and no reason; try later")
    return _CLASSES.get(told.code, MainspringError)(told.message)
