"""What writer and readers of an online table share: its generations and the frames of its delta."""

from pathlib import Path

import msgspec
import numpy as np

from mainspring.core.errors import Corrupt
from mainspring.formats.snapshot import Rows


class Generation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `current` says."""

    number: int
    features: tuple[str, ...]

    def snapshot(self, folder: Path) -> Path:
        """Give the file of the snapshot."""
        return folder / f"{self.number}.snapshot"

    def delta(self, folder: Path) -> Path:
        """Give the file of the pushes since."""
        return folder / f"{self.number}.delta"


class Push(msgspec.Struct, frozen=True, array_like=True):
    """One frame of the delta: rows, and the token and state that hold once it is there."""

    entities: list[str]
    times: bytes
    arrivals: bytes
    values: bytes
    token: str | None
    state: bytes | None

    def rows(self, features: int) -> Rows:
        """Give the rows as arrays."""
        return Rows(
            self.entities,
            np.frombuffer(self.times, "<i8"),
            np.frombuffer(self.arrivals, "<i8"),
            np.frombuffer(self.values, "<f8").reshape(-1, features),
        )


def current(folder: Path) -> Generation | None:
    """Read which generation holds; None if the table does not exist yet."""
    try:
        return msgspec.json.decode((folder / "current").read_bytes(), type=Generation)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Corrupt(
            f"online table {folder.name!r}: 'current' is not readable ({error}); remove the "
            "folder and push the rows again"
        ) from error


encode_push = msgspec.msgpack.Encoder().encode
decode_push = msgspec.msgpack.Decoder(Push).decode
