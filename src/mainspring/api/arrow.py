"""Tables on the wire: Arrow IPC streams, bounded before they are parsed."""

import io

import polars as pl

from mainspring.core.errors import InvalidInput

LIMIT_BYTES = 64 << 20
"""A larger table is to be sent in parts, or committed by its own process."""


def encode(frame: pl.DataFrame) -> bytes:
    """Write a table as an Arrow IPC stream."""
    sink = io.BytesIO()
    frame.write_ipc_stream(sink)
    return sink.getvalue()


def decode(content: bytes, *, subject: str) -> pl.DataFrame:
    """Read an Arrow IPC stream.

    Raises:
        InvalidInput: It is too large, or not such a stream.
    """
    if len(content) > LIMIT_BYTES:
        raise InvalidInput(
            f"{subject}: {len(content)} bytes of rows, at most {LIMIT_BYTES} in one call; "
            "send them in parts"
        )
    try:
        return pl.read_ipc_stream(content)
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise InvalidInput(f"{subject}: rows are not an Arrow IPC stream ({error})") from error
