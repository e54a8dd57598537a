"""V2 infer requests: those of a turn of the event loop, read, answered together, encoded."""

from collections.abc import Sequence
from typing import Any

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, TimedOut
from mainspring.core.ids import IdSource
from mainspring.serving.app import Asked
from mainspring.serving.asking import OUTPUTS, parse, understood
from mainspring.serving.choice import Choice
from mainspring.serving.engine import Engine, Given, OneRows
from mainspring.serving.http import Request, Response, failed
from mainspring.serving.replay import Answer
from mainspring.serving.sent import Sent, sent_rows
from mainspring.serving.tensors import binary
from mainspring.serving.turn import Understood, answered

_REASONS_SHOWN = 10
_BINARY, _TIMEOUT = "inference-header-content-length", "x-request-timeout-us"
_LONG_WAY = frozenset({_BINARY, _TIMEOUT})


class Tensor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None = None
    parameters: dict[str, int] = {}


class InferAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An infer request's answer. Versions that differ between rows are an output, not a claim."""

    model_name: str
    parameters: dict[str, str | bool]
    outputs: tuple[Tensor, ...]
    model_version: str | None = None
    id: str | None = None


class _Wanted(msgspec.Struct, frozen=True, gc=False):
    """What is to be in an answer."""

    id: str | None = None
    outputs: tuple[str, ...] = ("score",)
    binary: frozenset[str] = frozenset()


_PLAIN = _Wanted()
_Place = tuple[str, str, str | None]
"""Project, endpoint, and the version if one was named."""


class _Alike:
    """Plain requests of one row each that are answered together."""

    __slots__ = ("choice", "floats", "keys", "numbers", "read", "times")

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.read = choice.reader.row
        self.numbers: list[int] = []
        self.floats: list[bytes] = []
        self.keys: list[str | None] = []
        self.times: list[int | None] = []


class Inference:
    """Answers infer requests out of one engine."""

    def __init__(self, engine: Engine, *, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

    def answer(
        self, requests: Sequence[Asked], *, started_s: float
    ) -> list[tuple[int, Response | Exception]]:
        """Answer the requests of a turn, those of one endpoint and version together.

        Returns:
            The number of each request with its answer, or with the error it is refused with; in
            no order.
        """
        found, left = self._straight(requests, started_s)
        return found + self._together(requests, left, started_s) if left else found

    def _straight(
        self, requests: Sequence[Asked], started_s: float
    ) -> tuple[list[tuple[int, Response | Exception]], list[int]]:
        """Answer what is of one row and plain; gives also the numbers of the others."""
        found: list[tuple[int, Response | Exception]] = []
        left: list[int] = []
        alike: dict[_Place, _Alike | None] = {}
        for number, request in enumerate(requests):
            place = (request.project, request.endpoint, request.version)
            if place not in alike:
                alike[place] = self._alike(place)
            group, asked = alike[place], request.request
            if group is None or not asked.headers.keys().isdisjoint(_LONG_WAY):
                left.append(number)
                continue
            row = group.read(asked.body)
            if row is None:
                left.append(number)
                continue
            group.numbers.append(number)
            floats, key, at = row
            group.floats.append(floats)
            group.keys.append(key)
            group.times.append(at)
        for group in alike.values():
            if group is None or not group.numbers:
                continue
            rows = OneRows(group.keys, group.times, group.floats)
            given = self._engine.answer_rows(group.choice, rows, started_s=started_s)
            if given is None:
                left += group.numbers
            else:
                texts = _texts(group.choice.route.endpoint, given)
                found += zip(group.numbers, [Response(200, text) for text in texts], strict=True)
        return found, sorted(left)

    def _alike(self, place: _Place) -> "_Alike | None":
        try:
            choice = self._engine.choice(*place)
        except Exception:
            return None  # The long way says why.
        return _Alike(choice) if choice.rows_alone else None

    def _together(
        self, requests: Sequence[Asked], numbers: Sequence[int], started_s: float
    ) -> list[tuple[int, Response | Exception]]:
        reads: list[tuple[Understood, _Wanted] | Exception] = []
        now_us = self._engine.now_us()
        for number in numbers:
            one = requests[number]
            try:
                choice = self._engine.choice(one.project, one.endpoint, one.version)
                sent, wanted = self._read(choice, one.request, now_us)
                reads.append((Understood(choice, sent), wanted))
            except Exception as error:  # whatever it is, it is no matter of the others
                reads.append(error)
        sents = [read if isinstance(read, Exception) else read[0] for read in reads]
        answers = answered(self._engine, sents, started_s=started_s)
        found: list[tuple[int, Response | Exception]] = []
        for number, read, answer in zip(numbers, reads, answers, strict=True):
            if isinstance(answer, Answer) and not isinstance(read, Exception):
                found.append((number, _encoded(read[0].choice.route.endpoint, read[1], answer)))
            elif isinstance(answer, Exception):
                found.append((number, answer))
        return found

    def _read(self, choice: Choice, request: Request, now_us: int) -> tuple[Sent, _Wanted]:
        size = _json_bytes(request)
        if size is None and _TIMEOUT not in request.headers:
            sent = choice.reader.read(request.body, now_us=now_us, ids=self._ids)
            if sent is not None:
                return sent, _PLAIN if sent.request_id is None else _Wanted(sent.request_id)
        body, behind = parse(request.body, size)
        asked = understood(body, behind, choice.route, clock=self._clock, ids=self._ids)
        self._check_time(request, asked.timeout_us)
        sent = sent_rows(
            asked.rows,
            choice.route.request,
            subject=choice.subject,
            request_id=asked.id,
            version=choice.version,
        )
        return sent, _Wanted(asked.id, asked.outputs, asked.binary)

    def _check_time(self, request: Request, timeout_us: int | None) -> None:
        """Refuse what has waited longer than its caller does."""
        text = request.headers.get(_TIMEOUT)
        if text is not None:
            if not (text.isascii() and text.isdigit() and 0 < len(text) < 16):
                raise InvalidInput(
                    f"header {_TIMEOUT}: found {text[:20]!r}, expected whole microseconds"
                )
            timeout_us = min(int(text), timeout_us or int(text))
        if timeout_us is None or request.came_s is None:
            return
        waited_us = int((self._clock.monotonic_s() - request.came_s) * 1e6)
        if waited_us > timeout_us:
            raise TimedOut(
                f"request: waited {waited_us} us, its timeout is {timeout_us} us; nothing was "
                "scored, repeat it with more time or later"
            )


def _encoded(endpoint: str, wanted: _Wanted, answer: Answer) -> Response:
    if len(answer.errors) == len(answer.outputs):
        return failed(500, f"endpoint {endpoint!r}: {_reasons(answer)}")
    if wanted.outputs == _PLAIN.outputs and not wanted.binary and not answer.errors:
        quick = _plain(endpoint, wanted.id, answer)
        if quick is not None:
            return quick
    version, arm = _common(answer.versions), _common(answer.arms)
    parameters: dict[str, str | bool] = {"prediction_id": answer.prediction}
    if version:
        parameters["version"] = version
    if arm:
        parameters["arm"] = arm
    failed_rows = len(answer.errors)
    if any(answer.fallback) and sum(answer.fallback) > failed_rows:
        parameters["fallback"] = True
    if failed_rows:
        parameters["failed_rows"] = ",".join(str(i) for i in answer.errors)
        parameters["error"] = _reasons(answer)
    # Whatever was asked for: an answer names the versions that computed it.
    names = wanted.outputs if version else tuple(dict.fromkeys([*wanted.outputs, "version"]))
    values: dict[str, Sequence[Any]] = {
        "score": answer.outputs,
        "version": answer.versions,
        "arm": answer.arms,
    }
    outputs, contents = [], []
    for name in names:
        datatype, shape = OUTPUTS[name], (len(answer.outputs),)
        if name in wanted.binary:
            contents.append(binary(datatype, values[name]))
            size = {"binary_data_size": len(contents[-1])}
            outputs.append(Tensor(name, datatype, shape, None, size))
        else:
            outputs.append(Tensor(name, datatype, shape, list(values[name])))
    text = msgspec.json.encode(
        InferAnswer(endpoint, parameters, tuple(outputs), version, wanted.id)
    )
    if not contents:
        return Response(200, text)
    length = ("Inference-Header-Content-Length", str(len(text)))
    return Response(200, b"".join([text, *contents]), "application/octet-stream", (length,))


def _common(values: list[str]) -> str | None:
    first = values[0]
    return first or None if values.count(first) == len(values) else None


def _reasons(answer: Answer) -> str:
    rows = list(answer.errors.items())
    shown = "; ".join(f"row {i}: {reason}" for i, reason in rows[:_REASONS_SHOWN])
    more = f"; and {len(rows) - _REASONS_SHOWN} more" if len(rows) > _REASONS_SHOWN else ""
    return f"no version could score it; {shown}{more}"


_MOST_PARTS = 256
_parts: dict[tuple[str, ...], tuple[bytes, bytes, bytes]] = {}


def _plain(endpoint: str, request_id: str | None, answer: Answer) -> Response | None:
    """Make the answer of one row that its own arm gave, out of what such answers share."""
    if len(answer.outputs) != 1 or answer.fallback[0]:
        return None
    begin, middle, end = _parts_of(endpoint, answer.versions[0], answer.arms[0])
    score = _encode(answer.outputs)
    last = b"}" if request_id is None else b',"id":%b}' % _encode(request_id)
    return Response(200, b"".join((begin, answer.prediction.encode(), middle, score, end, last)))


def _parts_of(*named: str) -> tuple[bytes, bytes, bytes]:
    parts = _parts.get(named)
    if parts is None:
        if len(_parts) >= _MOST_PARTS:
            _parts.clear()
        parts = _parts[named] = _shared(*named)
    return parts


def _texts(endpoint: str, given: Given) -> list[bytes]:
    """Encode the answers of plain requests, all scores at once."""
    scores = _encode(given.outputs)[1:-1].split(b",")
    by_arm = {arm.version: _parts_of(endpoint, arm.version, arm.role) for arm in set(given.arms)}
    texts = []
    for prediction, score, arm in zip(given.predictions, scores, given.arms, strict=True):
        begin, middle, end = by_arm[arm.version]
        texts.append(b"%b%b%b[%b]%b}" % (begin, prediction.encode(), middle, score, end))
    return texts


def _shared(endpoint: str, version: str, arm: str) -> tuple[bytes, bytes, bytes]:
    """Cut an answer at what differs: the prediction's id, the score, and the request's id."""
    parameters: dict[str, str | bool] = {"prediction_id": "?", "version": version, "arm": arm}
    score = Tensor("score", OUTPUTS["score"], (1,), [0.5])
    text = _encode(InferAnswer(endpoint, parameters, (score,), version))
    begin, _, rest = text.partition(b'"prediction_id":"?"')
    middle, _, end = rest.partition(b'"data":[0.5]')
    return begin + b'"prediction_id":"', b'"' + middle + b'"data":', end[:-1]


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get(_BINARY)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise InvalidInput(f"header Inference-Header-Content-Length: found {text[:20]!r}")
    return int(text)


_encode = msgspec.json.Encoder().encode
