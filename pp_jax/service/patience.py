"""uvicorn's HTTP with bounds: on how long a client may take for headers and body, and on how many are connected."""

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def patient(*, header_s: float = 10.0, body_s: float = 30.0, most: int | None = None) -> type[H11Protocol]:
    """The protocol of one server.

    A connection beyond the bound takes the place of the one that has been idle for longest: first of those that have
    never sent a whole request, then of those between two requests. So who opens connections and says nothing keeps
    nobody out. Where all are busy, the new one is refused (uvicorn's `limit_concurrency`, one above the bound).

    Args:
        header_s: seconds for the headers of a request.
        body_s: seconds for its body.
        most: connections; None for any number.
    """
    return type(
        "Patient", (_Patient,), {"header_s": header_s, "body_s": body_s, "most": most, "silent": {}, "resting": {}}
    )


class _Patient(H11Protocol):
    header_s: float
    body_s: float
    most: int | None
    # Connections that are idle, the one that has been so for longest first.
    silent: dict["_Patient", None]
    resting: dict["_Patient", None]

    def connection_made(self, transport: Any) -> None:
        """Start the clock, and make room."""
        super().connection_made(transport)
        self._stage: tuple[Any, int] | None = None
        self._since = self.loop.time()
        self.silent[self] = None
        self._make_room()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Be idle no longer."""
        self._is_idle(False)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; whoever has sent a whole request is not idle."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._is_idle(False)

    def on_response_complete(self) -> None:
        """Be idle, unless the next request is here already."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._is_idle(True)

    def _is_idle(self, idle: bool) -> None:
        self.silent.pop(self, None)
        self.resting.pop(self, None)
        if idle:
            self.resting[self] = None

    def _make_room(self) -> None:
        while self.most is not None and len(self.connections) > self.most:
            oldest = next((each for idle in (self.silent, self.resting) for each in idle if each is not self), None)
            if oldest is None:
                return
            oldest._is_idle(False)
            self.connections.discard(oldest)
            oldest.transport.abort()

    def _look(self) -> None:
        """Close a connection that is where it was for too long; look again soon."""
        if self.transport.is_closing():
            return
        theirs, now = self.conn.their_state, self.loop.time()
        begun = self.cycle is None or bool(self.conn.trailing_data[0])
        stage = (theirs, id(self.cycle)) if theirs is h11.SEND_BODY or (theirs is h11.IDLE and begun) else None
        if stage != self._stage:
            self._stage, self._since = stage, now
        # The application itself refuses a slow body in words, so this one is later.
        bound = self.header_s if theirs is h11.IDLE else self.header_s + self.body_s
        if stage is not None and now - self._since >= bound:
            self.transport.close()
            return
        self.loop.call_later(min(1.0, self.header_s / 4), self._look)
