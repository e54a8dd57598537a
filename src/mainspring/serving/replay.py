"""Answers by request id, so that a repeated request gets the same one without a new record."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from mainspring.core.errors import InvalidInput
from mainspring.core.ids import Id
from mainspring.serving.vectors import Rows


@dataclass(frozen=True, slots=True)
class Answer:
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
    """The newest answers of this worker, a bounded number. Thread-safe."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._lock = Lock()
        self._kept: OrderedDict[tuple[str, str, str], tuple[object, Answer]] = OrderedDict()

    def find(self, place: tuple[str, str, str], rows: Rows) -> Answer | None:
        """Give the answer of (project, endpoint, request id); None if it is not kept.

        Raises:
            InvalidInput: The id was used for other rows.
        """
        with self._lock:
            kept = self._kept.get(place)
        if kept is None:
            return None
        if kept[0] != _asked(rows):
            raise InvalidInput(
                f"request id {place[2]!r} was used for other rows; give each request its own id"
            )
        return kept[1]

    def keep(self, place: tuple[str, str, str], rows: Rows, answer: Answer) -> None:
        """Keep an answer; the oldest goes when there are too many."""
        with self._lock:
            self._kept[place] = (_asked(rows), answer)
            if len(self._kept) > self._at_most:
                self._kept.popitem(last=False)


def _asked(rows: Rows) -> object:
    return (list(rows.keys), list(rows.event_times_us))
