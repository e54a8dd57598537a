"""The supervisor's end of a wire: it never blocks, whatever the child does."""

import socket

import msgspec

from mainspring.formats.wire import Message, decode, encode

_CHUNK = 1 << 16
_CHUNKS = 16
_LONGEST_LINE = 1 << 20


class Channel:
    """Messages to and from one child."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._in = bytearray()
        self._out = bytearray()
        self.open = True
        """False once the child closed its end, or said what is no message."""

    def fileno(self) -> int:
        """Give the descriptor, to wait on."""
        return self._sock.fileno()

    @property
    def blocked(self) -> bool:
        """Whether something waits until the child reads."""
        return self.open and bool(self._out)

    def send(self, message: Message) -> None:
        """Send a message, now or when the child reads; to one that is gone it is dropped."""
        self._out += encode(message)
        self.flush()

    def flush(self) -> None:
        """Send as much of what waits as the child takes."""
        try:
            while self.open and self._out:
                del self._out[: self._sock.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self.open = False

    def receive(self) -> list[Message]:
        """Give what the child said since the last time; of a flood, a part at a time."""
        try:
            for _ in range(_CHUNKS):
                if not self.open:
                    break
                chunk = self._sock.recv(_CHUNK)
                self._in += chunk
                self.open = bool(chunk)
        except BlockingIOError:
            pass
        except OSError:
            self.open = False
        *lines, rest = self._in.split(b"\n")
        self._in = rest
        if len(rest) > _LONGEST_LINE:
            self.open = False
        try:
            return [decode(bytes(line)) for line in lines]
        except msgspec.MsgspecError:
            # A child that talks nonsense is one that cannot be talked to; its owner ends it.
            self.open = False
            return []

    def close(self) -> None:
        """Close this end: the child reads an end of the stream."""
        self.open = False
        self._sock.close()
