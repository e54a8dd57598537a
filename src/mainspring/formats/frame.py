"""Frames: length and CRC-32, four bytes each, little-endian, then the payload.

The request log and the online table's delta file are sequences of frames. A writer that dies
leaves at most one incomplete frame, at the end: the torn tail. It was never acknowledged.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator

_HEAD = struct.Struct("<II")
HEAD_BYTES = _HEAD.size
LARGEST_PAYLOAD_BYTES = 1 << 30


def framed(payload: bytes) -> bytes:
    """Put a payload into its frame."""
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def frames(content: bytes | memoryview, start: int = 0) -> Iterator[tuple[memoryview, int]]:
    """Give each whole frame's payload and the offset behind it; stop at the first torn one."""
    view, size = memoryview(content), len(content)
    while size - start >= HEAD_BYTES:
        length, crc = _HEAD.unpack_from(view, start)
        end = start + HEAD_BYTES + length
        if length == 0 or length > LARGEST_PAYLOAD_BYTES or end > size:
            return
        payload = view[start + HEAD_BYTES : end]
        if zlib.crc32(payload) != crc:
            return
        yield payload, end
        start = end


def damaged_inside(content: bytes | memoryview, end: int) -> bool:
    """Tell whether bytes behind the last whole frame are more than one interrupted write.

    A frame that is complete by its length but not by its CRC, with more bytes behind it, was
    altered after it was written: cutting it off would lose acknowledged frames.
    """
    if len(content) - end < HEAD_BYTES:
        return False
    length, _ = _HEAD.unpack_from(content, end)
    return end + HEAD_BYTES + int(length) < len(content)


class FrameFile:
    """An append-only file of frames with one writer.

    A frame is written by one `os.write` before `append` returns, so it survives the death of
    the process; `sync` makes it survive power loss. Not thread-safe.
    """

    def __init__(self, descriptor: int, end: int) -> None:
        self._descriptor = descriptor
        self.end = end
        """Offset behind the last whole frame."""
        self._broken: OSError | None = None

    def append(self, payload: bytes) -> int:
        """Write one frame.

        Returns:
            The offset at which it begins.

        Raises:
            OSError: The disk refused it, now or at an earlier sync; the file ends as before.
        """
        return self.append_all((payload,))

    def append_all(self, payloads: Iterable[bytes]) -> int:
        """Write frames in one write: all of them or none; returns and raises as `append`."""
        if self._broken is not None:
            raise self._broken
        frame = b"".join([framed(payload) for payload in payloads])
        start = self.end
        try:
            if os.write(self._descriptor, frame) != len(frame):
                raise OSError(f"short write at offset {start}: the disk is full")
        except OSError:
            self._cut_back()
            raise
        self.end = start + len(frame)
        return start

    def _cut_back(self) -> None:
        # A half-written frame in front of later ones would hide them from every reader.
        try:
            os.ftruncate(self._descriptor, self.end)
        except OSError as error:
            self._broken = error

    def sync(self) -> None:
        """Fsync. A failure is final for this file: the kernel may have dropped the pages."""
        if self._broken is not None:
            raise self._broken
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self._broken = error
            raise

    def close(self) -> None:
        """Close the file without syncing it; again is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
