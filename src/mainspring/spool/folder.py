"""One spool on disk: requests in numbered files, how far they were sent, and which were refused.

<root>/<name>/owner          locked by the process that writes it; a free lock means it is gone
<root>/<name>/target         the server's address
<root>/<name>/<first>.part   frames (`formats/frame.py`), the first request's number in its name
<root>/<name>/sent           number of the request that is sent next
<root>/<name>/refused.jsonl  what the server will never take, and why
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import msgspec

from mainspring.core.errors import NotFound
from mainspring.formats.frame import frames

PART_BYTES = 16 << 20
READ_BYTES = 4 << 20
_SUFFIX = ".part"


class Request(msgspec.Struct, frozen=True, array_like=True):
    """What would have been posted at once: path below the protocol's prefix, and JSON body."""

    path: str
    body: bytes


class Numbered(msgspec.Struct, frozen=True):
    """A request with its place in the spool."""

    number: int
    request: Request


class Refused(msgspec.Struct, frozen=True):
    """A request that the server will never take."""

    number: int
    path: str
    body: str
    error_code: str
    message: str


class SpoolFolder:
    """The files of one spool. Reading and marking are for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self._owner = -1

    @classmethod
    def create(cls, root: Path, target: str) -> "SpoolFolder":
        """Make a spool that belongs to this process."""
        found = cls(root / uuid4().hex)
        found.path.mkdir(parents=True, mode=0o700)
        found.adopt()
        (found.path / "target").write_text(target, "utf-8")
        return found

    @property
    def target(self) -> str:
        """The address of the server that gets it."""
        with suppress(FileNotFoundError):
            return (self.path / "target").read_text("utf-8")
        return ""

    def adopt(self) -> bool:
        """Make it this process's, unless the one that writes it still runs."""
        try:
            owner = os.open(self.path / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(owner)
            return False
        self._owner = owner
        return True

    def release(self) -> None:
        """Let another process have it; again is allowed."""
        if self._owner >= 0:
            os.close(self._owner)
            self._owner = -1

    # --- reading

    def parts(self) -> list[tuple[int, Path]]:
        """List the files, each with the number of its first request, in order."""
        found = [path for path in self.path.glob(f"*{_SUFFIX}") if path.stem.isdigit()]
        return sorted((int(path.stem), path) for path in found)

    def sent(self) -> int:
        """Give the number of the request that is sent next."""
        try:
            return int((self.path / "sent").read_text("ascii"))
        except (FileNotFoundError, ValueError):
            # Nothing is lost by sending again: the server knows what it had.
            parts = self.parts()
            return parts[0][0] if parts else 0

    def pending(self) -> tuple[int, int]:
        """Count requests and bytes that wait, without the torn tail of a process that died."""
        sent, count, size = self.sent(), 0, 0
        for first, path in self.parts():
            with suppress(FileNotFoundError):
                for number, (payload, _) in enumerate(frames(path.read_bytes()), first):
                    if number >= sent:
                        count += 1
                        size += len(payload)
        return count, size

    def torn_bytes(self) -> int:
        """Give the size of what a process that died had not written whole."""
        torn = 0
        for _, path in self.parts():
            content = path.read_bytes()
            torn += len(content) - max((end for _, end in frames(content)), default=0)
        return torn

    # --- marking

    def mark(self, after: int) -> None:
        """Note that all before a number need not be sent again, and free their files."""
        fresh = self.path / "sent.new"
        fresh.write_text(str(after), "ascii")
        fresh.replace(self.path / "sent")
        for (_, path), (following, _) in pairwise(self.parts()):
            if following <= after:
                path.unlink(missing_ok=True)

    def refuse(self, refused: Refused) -> None:
        """Keep aside what the server will never take."""
        with (self.path / "refused.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(refused) + b"\n")

    def refusals(self) -> list[Refused]:
        """Read what was kept aside."""
        try:
            lines = (self.path / "refused.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Refused) for line in lines]

    def remove(self) -> None:
        """Remove a spool that is sent; what was refused stays to be looked at."""
        for _, path in self.parts():
            path.unlink(missing_ok=True)
        if not (self.path / "refused.jsonl").exists():
            shutil.rmtree(self.path, ignore_errors=True)


class SpoolReader:
    """Reads a spool's requests from the one that is sent next, also while it is being written."""

    def __init__(self, folder: SpoolFolder) -> None:
        self._folder = folder
        self.next = folder.sent()
        self._first = -1
        self._offset = 0
        self._number = 0

    def read(self, most: int) -> list[Numbered]:
        """Give the next requests, so many at most; none when all are read."""
        found: list[Numbered] = []
        for numbered in self._following():
            if numbered.number >= self.next:
                found.append(numbered)
                self.next = numbered.number + 1
                if len(found) == most:
                    break
        return found

    def _following(self) -> Iterator[Numbered]:
        while True:
            path = self._place()
            if path is None:
                return
            with path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(READ_BYTES)
                if len(content) >= 4 and len(content) == READ_BYTES:
                    # One request may be larger than what is read at once.
                    content += file.read(int.from_bytes(content[:4], "little"))
            begun = self._offset
            for payload, end in frames(content):
                number, self._number = self._number, self._number + 1
                self._offset = begun + end
                yield Numbered(number, _decode(payload))
            if self._offset == begun and not self._turn_over():
                return

    def _place(self) -> Path | None:
        by_first = dict(self._folder.parts())
        if self._first < 0 and by_first:
            behind = [first for first in by_first if first <= self.next]
            self._enter(max(behind, default=min(by_first)))
        # A file that is gone was sent whole.
        if self._first not in by_first and not self._turn_over():
            return None
        return by_first.get(self._first)

    def _turn_over(self) -> bool:
        """Go on with the file behind this one, if it is there: only then is this one whole."""
        behind = [first for first, _ in self._folder.parts() if first > self._first]
        if not behind:
            return False
        self._enter(behind[0])
        return True

    def _enter(self, first: int) -> None:
        self._first, self._number, self._offset = first, first, 0


def part_path(folder: Path, first: int) -> Path:
    """Name the file that begins with a request."""
    return folder / f"{first:020d}{_SUFFIX}"


def spools(root: Path) -> list[SpoolFolder]:
    """List the spools below a root, oldest first.

    Raises:
        NotFound: There is no such folder.
    """
    if not root.is_dir():
        raise NotFound(f"spool {root}: no such folder; name the one that MAINSPRING_SPOOL names")
    found = [path for path in root.iterdir() if (path / "target").is_file()]
    return [SpoolFolder(path) for path in sorted(found, key=_begun)]


def _begun(path: Path) -> tuple[float, str]:
    with suppress(FileNotFoundError):
        return (path / "target").stat().st_mtime, path.name
    return 0.0, path.name


_decode = msgspec.msgpack.Decoder(Request).decode
