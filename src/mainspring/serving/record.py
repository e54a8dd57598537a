"""The records of the request log, made from what an answer rests on."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from mainspring.core.ids import Id
from mainspring.formats.routes import Arm
from mainspring.formats.segment import ArmOutput, Block, ViewUse
from mainspring.serving.choice import Choice
from mainspring.serving.replay import Answer
from mainspring.serving.scoring import ArmScore
from mainspring.serving.sent import Sent


class Timing(NamedTuple):
    """Where the time of an answer went."""

    queue_s: float
    features_s: float
    compute_s: float


class Scored(NamedTuple):
    """One request of a batch, with what was used and given for its rows."""

    sent: Sent
    answer: Answer
    floats: bytes
    """With the features looked up."""
    views: Mapping[str, ViewUse]
    chosen: Sequence[str]
    propensity: Sequence[float]
    outputs: Mapping[str, ArmOutput]


class Recorder:
    """Makes the records of the answers of one batch: the same bytes as of a `Block` each."""

    def __init__(
        self, choice: Choice, float_names: list[str], timing: Timing, *, at_us: int
    ) -> None:
        route = choice.served.route
        self._head = (at_us, route.project, route.endpoint, choice.served.number, route.rollout)
        # Long and always the same: encoded once.
        self._names = msgspec.Raw(_encode(float_names))
        self._spent = tuple(int(seconds * 1e6) for seconds in timing)

    def __call__(self, scored: Scored, missing: int, sampled: int) -> bytes:
        """Encode a record, field by field in the order of `Block`."""
        sent, answer, floats, views, chosen, propensity, outputs = scored
        return _encode(
            (
                answer.prediction,
                sent.request_id,
                *self._head,
                sent.keys,
                sent.times_us,
                self._names,
                floats,
                sent.strings,
                views,
                chosen,
                answer.arms,
                answer.versions,
                propensity,
                outputs,
                *self._spent,
                missing,
                sampled,
                "answer",
                sent.asked,
            )
        )


class ScoredRows(NamedTuple):
    """Requests of one row each that were scored together, none of which failed."""

    at_us: int
    keys: Sequence[str]
    times_us: Sequence[int | None]
    """None: `at_us`."""
    floats: Sequence[bytes]
    predictions: Sequence[Id]
    picked: Sequence[Arm]
    scores: Mapping[str, ArmScore]
    timing: Timing


class RowRecords:
    """Makes the records of `ScoredRows`, the same bytes as of a `Block` each.

    What differs between them is a few fields of MessagePack; the rest is encoded once.
    """

    def __init__(self, choice: Choice) -> None:
        route = choice.served.route
        size = 8 * len(choice.float_names)
        place = (route.project, route.endpoint, choice.served.number, route.rollout)
        self._place = b"".join([_encode(part) for part in place]) + _OF_ONE
        self._names = _encode(choice.float_names) + _encode(bytes(size))[: -size or None]
        self._arms: dict[str, bytes] = {}
        for arm in choice.route.arms:
            version = [arm.version]
            fields: tuple[object, ...] = (
                {},
                {},
                version,
                [arm.role],
                version,
                [choice.propensity(arm)],
            )
            self._arms[arm.version] = b"".join([_encode(field) for field in fields])

    def encoded(
        self, rows: ScoredRows, begin: int, end: int, missing: int, sampled: int
    ) -> list[bytes]:
        """Encode the records of some of the rows, the first with what is missing before it."""
        now, (_, keys, times, floats, predictions, picked, _, _) = _encode(rows.at_us), rows
        start = _NO_REQUEST + now + self._place
        names, present = self._names, _OF_ONE + now + self._names
        outputs = _outputs_of(rows)
        spent = b"".join([_encode(int(seconds * 1e6)) for seconds in rows.timing])
        last = b"".join([spent, _encode(missing), _encode(sampled), _ENDING])
        after = b"".join([spent, _NOTHING, _NOTHING, _ENDING])
        found = []
        for i in range(begin, end):
            at = times[i]
            parts = (
                _HEAD,
                predictions[i].encode(),
                start,
                _encode(keys[i]),
                present if at is None else b"".join((_OF_ONE, _encode(at), names)),
                floats[i],
                self._arms[picked[i].version],
                *outputs(i),
                last,
            )
            found.append(b"".join(parts))
            last = after
        return found


def _outputs_of(rows: ScoredRows) -> Callable[[int], tuple[bytes, ...]]:
    """Give what encodes a row's outputs: in a rollout of all arms, else of its own."""
    parts = {
        version: (
            _encode(version) + _VALUE,
            score.values.tobytes(),
            _encode(([], None, score.latency_us, False))[1:],
        )
        for version, score in rows.scores.items()
    }
    if len(parts) == 1:
        ((before, values, after),) = parts.values()
        before = _MAP_OF_ONE + before
        return lambda i: (before, values[8 * i : 8 * i + 8], after)
    if any(np.isnan(score.values).any() for score in rows.scores.values()):

        def own(i: int) -> tuple[bytes, ...]:
            before, values, after = parts[rows.picked[i].version]
            return (_MAP_OF_ONE, before, values[8 * i : 8 * i + 8], after)

        return own
    header = bytes([_MAP_OF_ONE[0] - 1 + len(parts)])
    return lambda i: (
        header,
        *(p for b, values, a in parts.values() for p in (b, values[8 * i : 8 * i + 8], a)),
    )


_encode = msgspec.msgpack.Encoder().encode
_FIELDS = len(Block.__struct_fields__)
# An array of all fields, and the mark of a prediction id: 32 letters.
_HEAD = _encode((None,) * _FIELDS)[:-_FIELDS] + _encode("0" * 32)[:-32]
_NO_REQUEST = _encode(None)
_OF_ONE = _encode([None])[:1]
_MAP_OF_ONE = _encode({"": None})[:1]
# The fields of an `ArmOutput`, up to the eight bytes of one value.
_VALUE = _encode(ArmOutput(bytes(8), [], None, 0))[:3]
_NOTHING = _encode(0)
_ENDING = _encode("answer") + _encode(b"")
