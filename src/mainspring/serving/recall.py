"""What a restarted worker still knows: its predecessor's answers, read from the segments."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from mainspring.formats.frame import frames
from mainspring.formats.segment import Block, decode_block, segments
from mainspring.serving.replay import Answer, Place

_WINDOW_US = 10 * 60 * 1_000_000
_READ_BYTES = 128 << 20

Remembered = tuple[Place, bytes, Answer]


def remembered(folder: Path, worker: str, *, now_us: int) -> Iterator[Remembered]:
    """Read the answers that a worker of this name gave under request ids, oldest first.

    Of the last ten minutes, out of at most 128 MiB of segments: a client that waits longer with
    its repeat is answered afresh, and compaction marks the repeat.
    """
    since_us = now_us - _WINDOW_US
    for path in reversed(_newest(folder, worker, since_us)):
        # Taken away meanwhile: the memory is a courtesy, serving goes on without.
        with suppress(OSError):
            for block in _blocks(path):
                if block.request is not None and block.asked and block.at_us >= since_us:
                    place = (block.project, block.endpoint, block.request)
                    yield place, block.asked, _answer(block)


def _newest(folder: Path, worker: str, since_us: int) -> list[Path]:
    found: list[Path] = []
    left = _READ_BYTES
    for path in reversed([file.path for file in segments(folder) if file.worker == worker]):
        try:
            stat = path.stat()
        except OSError:
            continue
        left -= stat.st_size
        if left < 0 or stat.st_mtime * 1e6 < since_us:
            break
        found.append(path)
    return found


def _blocks(path: Path) -> Iterator[Block]:
    for payload, _ in frames(path.read_bytes()):
        try:
            yield decode_block(payload)
        except msgspec.MsgspecError:
            return


def _answer(block: Block) -> Answer:
    values = {version: output.array() for version, output in block.outputs.items()}
    errors = {
        i: "; ".join(f"version {v}: {output.error}" for v, output in block.outputs.items())
        for i, version in enumerate(block.versions)
        if not version
    }
    outputs = [
        float(values[version][i]) if version else float("nan")
        for i, version in enumerate(block.versions)
    ]
    return Answer(block.prediction, outputs, block.versions, block.arms, block.fallback, errors)
