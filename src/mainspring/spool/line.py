"""The way to the server: Mainspring takes whole pieces of a spool, another one each request."""

import json
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from mainspring.core.errors import Unavailable
from mainspring.spool.folder import Numbered

PREFIX = "/api/2.0/mlflow/"
REPLAY = f"{PREFIX}mainspring/spool"
_METRICS_AT_ONCE = 1000
_TOO_MUCH = {400, 413, 422}
_LATER = {401, 403, 408, 425, 429}
"""Of the caller or the moment, not of what is sent: it is sent again."""

Kind = Literal["mainspring", "other"]


class TellsRefusal(msgspec.Struct, frozen=True):
    """What a server says of a request that it will never take."""

    number: int
    error_code: str = "INVALID_PARAMETER_VALUE"
    message: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """How far a server has a spool."""

    next: int
    refused: tuple[TellsRefusal, ...] = ()
    unseen: int = 0


class Line(Protocol):
    """Sends requests of a spool. Its errors are `Unavailable`: what is sent stays to be sent."""

    def send(self, spool: str, requests: Sequence[Numbered]) -> Outcome: ...


class HttpLine:
    """Over HTTP, with the credentials of the mlflow client."""

    def __init__(self, credentials: Callable[[], Any], *, timeout_s: float) -> None:
        self._credentials = credentials
        self._timeout_s = timeout_s
        self.kind: Kind | None = None
        """What answers; None until it has."""

    def ask(self) -> Kind:
        """Find out what answers; raises Unavailable."""
        status, _ = self._call("GET", f"{REPLAY}?spool={'0' * 32}", None)
        if status in _LATER or status >= 500:
            raise Unavailable(f"the server answers {status}")
        self.kind = "mainspring" if status == 200 else "other"
        return self.kind

    def send(self, spool: str, requests: Sequence[Numbered]) -> Outcome:
        """Send requests that follow each other; gives how far the server has them."""
        if (self.kind or self.ask()) == "mainspring":
            return self._replay(spool, requests)
        return self._one_by_one(requests)

    def _replay(self, spool: str, requests: Sequence[Numbered]) -> Outcome:
        entries = [[one.request.path, msgspec.Raw(one.request.body)] for one in requests]
        first = requests[0].number
        body = msgspec.json.encode({"spool": spool, "first": first, "entries": entries})
        status, content = self._call("POST", REPLAY, body)
        if status == 200:
            return msgspec.json.decode(content, type=Outcome)
        self._check(status, content)
        if len(requests) > 1:
            # One of them spoils the rest: halves, until it stands alone.
            return self._replay(spool, requests[: len(requests) // 2])
        return Outcome(first + 1, (_refusal(first, content),))

    def _one_by_one(self, requests: Sequence[Numbered]) -> Outcome:
        """Send them as they would have been sent at once: after a lost answer, twice."""
        refused: list[TellsRefusal] = []
        after = requests[0].number
        for path, body, last in merged(requests):
            try:
                status, content = self._call("POST", PREFIX + path, body)
                if status != 200:
                    self._check(status, content)
            except Unavailable:
                if after == requests[0].number:
                    raise
                break
            if status != 200:
                refused += [_refusal(number, content) for number in range(after, last + 1)]
            after = last + 1
        return Outcome(after, tuple(refused))

    def _check(self, status: int, content: bytes) -> None:
        if status in _LATER or status >= 500 or status not in _TOO_MUCH | {404, 409}:
            said = content[:200].decode("utf-8", "replace")
            raise Unavailable(f"the server answers {status}: {said}")

    def _call(self, method: str, endpoint: str, body: bytes | None) -> tuple[int, bytes]:
        from mlflow.utils import rest_utils

        http_request: Any = rest_utils.http_request
        try:
            answer = http_request(
                host_creds=self._credentials(),
                endpoint=endpoint,
                method=method,
                max_retries=0,
                timeout=self._timeout_s,
                raise_on_status=False,
                extra_headers={"Content-Type": "application/json"},
                data=body,
            )
        except Exception as error:  # the client's errors share no root but this
            raise Unavailable(f"the server does not answer: {error}") from error
        return int(answer.status_code), bytes(answer.content)


def merged(requests: Sequence[Numbered]) -> list[tuple[str, bytes, int]]:
    """Put metrics of one run that follow each other into one batch.

    Returns:
        Path, body and the number of the last request in it.
    """
    found: list[tuple[str, bytes, int]] = []
    points: list[Any] = []
    run, last = "", -1

    def end() -> None:
        if points:
            found.append(("runs/log-batch", _json({"run_id": run, "metrics": points}), last))
            points.clear()

    for one in requests:
        body = json.loads(one.request.body) if one.request.path == "runs/log-metric" else None
        if body is None or body.get("run_id") != run or len(points) == _METRICS_AT_ONCE:
            end()
        if body is None:
            found.append((one.request.path, one.request.body, one.number))
            run = ""
        else:
            run, last = body.pop("run_id"), one.number
            points.append(body)
    end()
    return found


def _json(value: object) -> bytes:
    # Of the standard library, because a point may be NaN.
    return json.dumps(value).encode()


def _refusal(number: int, content: bytes) -> TellsRefusal:
    try:
        said = json.loads(content)
        return TellsRefusal(number, str(said["error_code"]), str(said.get("message", "")))
    except (ValueError, KeyError, TypeError):
        return TellsRefusal(number, message=content[:500].decode("utf-8", "replace"))
