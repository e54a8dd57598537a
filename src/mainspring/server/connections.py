"""A connection that is not patient without end: uvicorn's, with limits on the head of a request."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT_BYTES = 64 << 10
HEAD_PATIENCE_S = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """Bounds how long, and how large, the lines before a body may become.

    The parser bounds neither: one header without an end would fill the memory.
    """

    _head_bytes = 0
    _in_head = True
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for a head, not for ever."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes until the head is whole."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_LIMIT_BYTES:
            self.logger.warning("The head of a request is too large.")
            self.send_400_response("The head of the request is too large.")

    def on_headers_complete(self) -> None:
        """Go on to the body, for which the application has its own limits."""
        self.head_is_whole()
        super().on_headers_complete()

    def head_is_whole(self) -> None:
        """Stop counting until the next head begins."""
        self._in_head = False
        self._head_came()

    def on_message_complete(self) -> None:
        """Count the next head from its beginning."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_PATIENCE_S, self.transport.close)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
