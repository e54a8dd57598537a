"""Answers by request id, so that a repeated request gets the same one without a new record."""

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b
from threading import Lock

import msgspec

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.serving.vectors import Rows

Place = tuple[str, str, str]
"""Project, endpoint and request id."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a caller gets, a value per row."""

    prediction: Id
    """Row i is the prediction `<prediction>:<i>`."""
    outputs: list[float]
    """NaN for a row in `errors`."""
    versions: list[str]
    arms: list[str]
    """Role of the version that answered."""
    fallback: list[bool]
    """Whether another version answered than the key chose."""
    errors: dict[int, str]
    """Rows that no arm could score, with the reasons."""


class Answers:
    """The newest answers of this worker, a bounded number of answers and rows. Thread-safe."""

    def __init__(self, at_most: int, rows_at_most: int) -> None:
        self._at_most = at_most
        self._rows_at_most = rows_at_most
        self._lock = Lock()
        self._rows = 0
        self._kept: OrderedDict[Place, tuple[bytes, Answer]] = OrderedDict()

    def recall(self, remembered: Iterable[tuple[Place, bytes, Answer]]) -> None:
        """Take over answers that a predecessor gave, oldest first."""
        for place, asked, answer in remembered:
            self.keep(place, asked, answer)

    def find(self, place: Place, asked: bytes) -> Answer | None:
        """Give the answer of a request id; None if it is not kept.

        Raises:
            InvalidInput: The id was used for other rows.
        """
        with self._lock:
            kept = self._kept.get(place)
        if kept is None:
            return None
        if kept[0] != asked:
            raise InvalidInput(
                f"request id {place[2]!r} was used for other rows; give each request its own id"
            )
        return kept[1]

    def keep(self, place: Place, asked: bytes, answer: Answer) -> None:
        """Keep an answer; the oldest goes when there are too many."""
        with self._lock:
            replaced = self._kept.pop(place, None)
            self._kept[place] = (asked, answer)
            self._rows += len(answer.outputs) - (len(replaced[1].outputs) if replaced else 0)
            while len(self._kept) > self._at_most or self._rows > self._rows_at_most:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._rows -= len(oldest.outputs)


def asked_digest(rows: Rows, version: str | None) -> bytes:
    """Digest what a caller asked, without what was filled in here."""
    keys = list(rows.keys) if rows.keys_given else len(rows.keys)
    times = list(rows.event_times_us) if rows.times_given else None
    asked = (keys, times, rows.columns, version)
    try:
        content = _encode(asked)
    except OverflowError:  # an integer of more than 64 bits
        content = repr(asked).encode("utf-8", "surrogatepass")
    return blake2b(content, digest_size=16).digest()


# Columns may hold whatever an in-process caller put there; a wrong type is refused later on.
_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode
