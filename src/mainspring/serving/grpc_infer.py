"""Predictions over gRPC: requests of a turn read, answered together, written as messages."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from mainspring.core.clock import Clock
from mainspring.core.errors import InvalidInput, MainspringError
from mainspring.core.ids import IdSource
from mainspring.serving.asking import OUTPUTS, InferBody, WantedOutput, understood
from mainspring.serving.choice import Choice
from mainspring.serving.engine import Engine, OneRows
from mainspring.serving.grpc_messages import RESPONSES
from mainspring.serving.http2 import INTERNAL, OK, Reply
from mainspring.serving.replay import Answer
from mainspring.serving.sent import sent_rows
from mainspring.serving.tensors import InputTensor, binary
from mainspring.serving.turn import Understood, answered

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the values of a datatype are; FP16 has no place but among the raw contents."""
_RESPONSE = RESPONSES["ModelInfer"]
_INFINITE = {float("inf"), float("-inf")}
_REASONS_SHOWN = 10


class Infer(msgspec.Struct, frozen=True):
    """One call for predictions."""

    number: int
    project: str
    endpoint: str
    request: Any


@dataclass(frozen=True, slots=True)
class _Read:
    understood: Understood
    id: str | None
    outputs: tuple[str, ...]
    raw: bool
    """The answer's values come as the request's did: as bytes, or as typed contents."""


Told = Callable[[Exception], Reply]


class GrpcInference:
    """Answers calls for predictions out of one engine."""

    def __init__(self, engine: Engine, *, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._clock = clock
        self._ids = ids

    def answer(
        self, calls: Sequence[Infer], *, started_s: float, told: Told
    ) -> list[tuple[Infer, Reply]]:
        """Answer the calls of a turn, in no order; an error is told by `told`."""
        found: list[tuple[Infer, Reply]] = []
        left: list[Infer] = []
        alike: dict[int, tuple[Choice, list[Infer], list[bytes], bool]] = {}
        for call in calls:
            plain = self._plain(call)
            if plain is None:
                left.append(call)
                continue
            choice, row, raw = plain
            _, some, rows, _ = alike.setdefault(id(choice) * 2 + raw, (choice, [], [], raw))
            some.append(call)
            rows.append(row)
        for choice, some, rows, raw in alike.values():
            nothing: list[None] = [None] * len(rows)
            given = self._engine.answer_rows(
                choice, OneRows(nothing, nothing, rows), started_s=started_s
            )
            if given is None:
                left += some
                continue
            for call, prediction, value, arm in zip(
                some, given.predictions, given.outputs, given.arms, strict=True
            ):
                body = _one(call.endpoint, arm.version, arm.role, prediction, value, raw=raw)
                found.append((call, Reply(OK, body)))
        return found + self._long(left, started_s, told) if left else found

    def _plain(self, call: Infer) -> tuple[Choice, bytes, bool] | None:
        """Give the packed row of a request of one row of numbers and nothing else."""
        request = call.request
        if request.id or request.outputs or request.parameters or request.model_version:
            return None
        try:
            choice = self._engine.choice(call.project, call.endpoint, None)
        except MainspringError:
            return None  # The long way says why.
        inputs, raws = request.inputs, request.raw_input_contents
        names = choice.float_names
        if not choice.rows_alone or len(inputs) != len(names):
            return None
        if [one.name for one in inputs] != names or any(one.datatype != "FP64" for one in inputs):
            return None
        if any(list(one.shape) not in ([1], [1, 1]) or one.parameters for one in inputs):
            return None
        try:
            if raws:
                row = b"".join(raws)
                values = struct.unpack(f"<{len(names)}d", row)
                if len(raws) != len(names):
                    return None
            else:
                values = tuple(value for one in inputs for value in one.contents.fp64_contents)
                row = struct.pack(f"<{len(names)}d", *values)
        except struct.error:
            return None
        return None if _INFINITE.intersection(values) else (choice, row, bool(raws))

    def _long(
        self, calls: Sequence[Infer], started_s: float, told: Told
    ) -> list[tuple[Infer, Reply]]:
        reads: list[_Read | MainspringError] = []
        for call in calls:
            try:
                reads.append(self._read(call))
            except MainspringError as error:
                reads.append(error)
        requests = [one.understood if isinstance(one, _Read) else one for one in reads]
        answers = answered(self._engine, requests, started_s=started_s)
        replies = []
        for call, read, answer in zip(calls, reads, answers, strict=True):
            if isinstance(read, _Read) and isinstance(answer, Answer):
                replies.append((call, _reply(call, read, answer)))
            else:
                assert isinstance(answer, Exception)
                replies.append((call, told(answer)))
        return replies

    def _read(self, call: Infer) -> _Read:
        request = call.request
        choice = self._engine.choice(call.project, call.endpoint, request.model_version or None)
        body, behind = _body(request)
        asked = understood(body, memoryview(behind), choice.route, clock=self._clock, ids=self._ids)
        sent = sent_rows(
            asked.rows,
            choice.route.request,
            subject=choice.subject,
            request_id=asked.id,
            version=choice.version,
        )
        raw = bool(request.raw_input_contents)
        return _Read(Understood(choice, sent), asked.id, asked.outputs, raw)


def _body(request: Any) -> tuple[InferBody, bytes]:
    """Give a request as that of REST is read, with the bytes of its inputs."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidInput(
            f"raw_input_contents: found {len(raws)} for {len(request.inputs)} inputs; send one for "
            "each, or none"
        )
    tensors = [
        _tensor(one, len(raws[place]) if raws else None) for place, one in enumerate(request.inputs)
    ]
    outputs = [WantedOutput(one.name) for one in request.outputs] or None
    parameters = {name: _value(one) for name, one in request.parameters.items()}
    return InferBody(tensors, request.id or None, parameters, outputs), b"".join(raws)


def _tensor(one: Any, raw_bytes: int | None) -> InputTensor:
    if raw_bytes is not None:
        parameters = {"binary_data_size": raw_bytes}
        return InputTensor(one.name, list(one.shape), one.datatype, None, parameters)
    place = _CONTENTS.get(one.datatype)
    if place is None:
        if one.datatype == "FP16":
            raise InvalidInput(f"input {one.name!r}: FP16 comes among raw_input_contents only")
        return InputTensor(one.name, list(one.shape), one.datatype, [])
    values: list[Any] = list(getattr(one.contents, place))
    if one.datatype == "BYTES":
        values = [_text(value, one.name) for value in values]
    elif one.datatype.startswith("FP"):
        # A missing number is NaN here: the protocol has no null.
        values = [None if value != value else value for value in values]
    return InputTensor(one.name, list(one.shape), one.datatype, values)


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input {name!r}: a text is not UTF-8 ({error})") from error


def _value(parameter: Any) -> Any:
    name = parameter.WhichOneof("parameter_choice")
    return None if name is None else getattr(parameter, name)


def _reply(call: Infer, read: _Read, answer: Answer) -> Reply:
    if len(answer.errors) == len(answer.outputs):
        return Reply(INTERNAL, told=f"endpoint {call.endpoint!r}: {_reasons(answer)}")
    version, arm = _common(answer.versions), _common(answer.arms)
    response = _RESPONSE(model_name=call.endpoint, model_version=version, id=read.id or "")
    told: dict[str, str] = {"prediction_id": answer.prediction, "version": version, "arm": arm}
    if answer.errors:
        told["failed_rows"] = ",".join(map(str, answer.errors))
        told["error"] = _reasons(answer)
    for name, text in told.items():
        if text:
            response.parameters[name].string_param = text
    if any(answer.fallback):
        response.parameters["fallback"].bool_param = True
    # Whatever was asked for: an answer names the versions that computed it.
    names = read.outputs if version else tuple(dict.fromkeys([*read.outputs, "version"]))
    values: dict[str, Sequence[Any]] = {
        "score": answer.outputs,
        "version": answer.versions,
        "arm": answer.arms,
    }
    for name in names:
        _add_output(response, name, values[name], raw=read.raw)
    return Reply(OK, response.SerializeToString())


def _add_output(response: Any, name: str, values: Sequence[Any], *, raw: bool) -> None:
    datatype = OUTPUTS[name]
    output = response.outputs.add(name=name, datatype=datatype, shape=[len(values)])
    if raw:
        response.raw_output_contents.append(binary(datatype, values))
    elif datatype == "BYTES":
        output.contents.bytes_contents.extend(str(value).encode() for value in values)
    else:
        output.contents.fp64_contents.extend(np.asarray(values, np.float64).tolist())


def _common(values: Sequence[str]) -> str:
    return values[0] if values.count(values[0]) == len(values) else ""


def _reasons(answer: Answer) -> str:
    rows = list(answer.errors.items())[:_REASONS_SHOWN]
    return "no version could score it; " + "; ".join(f"row {i}: {why}" for i, why in rows)


_MOST_PARTS = 256
_VALUE = 0.1234567890123456789
_parts: dict[tuple[str, str, str, bool], tuple[bytes, bytes, bytes]] = {}


def _one(
    endpoint: str, version: str, arm: str, prediction: str, value: float, *, raw: bool
) -> bytes:
    """Write the answer of one plain row out of what such answers share: only two places differ."""
    named = (endpoint, version, arm, raw)
    parts = _parts.get(named)
    if parts is None:
        if len(_parts) >= _MOST_PARTS:
            _parts.clear()
        parts = _parts[named] = _cut(*named)
    begin, middle, end = parts
    return b"".join((begin, prediction.encode(), middle, struct.pack("<d", value), end))


def _cut(endpoint: str, version: str, arm: str, raw: bool) -> tuple[bytes, bytes, bytes]:
    """Cut an answer at its prediction's id and its value, both always of one length."""
    placeholder = "?" * 32
    response = _RESPONSE(model_name=endpoint, model_version=version)
    for name, text in (("prediction_id", placeholder), ("version", version), ("arm", arm)):
        response.parameters[name].string_param = text
    _add_output(response, "score", [_VALUE], raw=raw)
    begin, _, rest = response.SerializeToString().partition(placeholder.encode())
    middle, _, end = rest.partition(struct.pack("<d", _VALUE))
    return begin, middle, end
