"""What a worker scores: one request's rows, read and checked, and several of them together."""

from collections.abc import Sequence

import msgspec
import numpy as np

from mainspring.formats.model import Column
from mainspring.serving.replay import asked_digest
from mainspring.serving.vectors import Rows, Vectors, checked

_LARGE_ROWS = 64
_MOST_ROWS = 512


class Sent(msgspec.Struct, frozen=True, gc=False):
    """One request, checked against the endpoint's columns."""

    keys: Sequence[str]
    times_us: Sequence[int]
    floats: bytes
    """float64, column after column, of the columns that are numbers."""
    strings: dict[str, list[str]]
    request_id: str | None = None
    asked: bytes = b""
    """Digest of what was asked, where there is a request id."""


def sent_rows(
    rows: Rows,
    columns: Sequence[Column],
    *,
    subject: str,
    request_id: str | None = None,
    version: str | None = None,
) -> Sent:
    """Check rows and put them into the form that is scored; raises as `checked` does."""
    vectors = checked(rows, columns, subject=subject)
    asked = b"" if request_id is None else asked_digest(rows, version)
    floats = vectors.floats.tobytes()
    keys, times = list(rows.keys), list(rows.event_times_us)
    return Sent(keys, times, floats, vectors.strings, request_id, asked)


def joined(sents: Sequence[Sent], names: list[str]) -> Vectors:
    """Put the rows of requests behind each other.

    Args:
        sents: Requests of one endpoint.
        names: Of its columns that are numbers.
    """
    first = sents[0]
    count = sum(len(sent.keys) for sent in sents)
    flat = np.frombuffer(b"".join([sent.floats for sent in sents]), np.float64)
    if len(sents) == 1:
        return Vectors(count, names, flat.reshape(len(names), count), first.strings)
    if count == len(sents):
        # One row each: behind each other they are the table already, row by row.
        floats = flat.reshape(count, len(names)).T
    else:
        ends = np.cumsum([len(sent.floats) // 8 for sent in sents])[:-1]
        parts = np.split(flat, ends)
        floats = np.concatenate([part.reshape(len(names), -1) for part in parts], axis=1)
    strings = {
        name: [text for sent in sents for text in sent.strings[name]] for name in first.strings
    }
    return Vectors(count, names, floats, strings)


def batches(sents: Sequence[Sent]) -> list[list[Sent]]:
    """Cut requests, in their order, into those scored together: large ones stand alone."""
    if not sents:
        return []
    if sum(len(sent.keys) for sent in sents) <= _LARGE_ROWS:
        return [list(sents)]
    found: list[list[Sent]] = []
    batch: list[Sent] = []
    rows = 0
    for sent in sents:
        count = len(sent.keys)
        if batch and (count > _LARGE_ROWS or rows + count > _MOST_ROWS):
            found.append(batch)
            batch, rows = [], 0
        if count > _LARGE_ROWS:
            found.append([sent])
        else:
            batch.append(sent)
            rows += count
    return [*found, batch] if batch else found
