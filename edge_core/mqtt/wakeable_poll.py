"""Waits for a socket; other threads can end the wait."""

from __future__ import annotations

import contextlib
import select
import socket
import weakref

#: Bits of a poll event: the socket has data, or the next read raises an error.
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
#: Bit of a poll event: the socket takes more data.
WRITABLE = select.POLLOUT


class WakeablePoll:
    """Waits for at most one socket, with ``poll``.

    One thread at a time may wait. Any thread may end the wait (:meth:`wake`).
    """

    def __init__(self) -> None:
        """Start without a socket; open a pair of sockets for :meth:`wake`."""
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.settimeout(0)
        self._wake_out.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self._wake_in, select.POLLIN)
        self._socket: socket.socket | None = None
        self._wanted = 0
        self._least_bytes = 1
        # No method closes the pair, because a thread may still wait when the connection closes.
        weakref.finalize(self, _close, self._wake_in, self._wake_out)

    def watch(self, sock: socket.socket) -> None:
        """Set the socket for which :meth:`wait` waits."""
        self._socket, self._wanted, self._least_bytes = sock, select.POLLIN, 1
        self._poll.register(sock, self._wanted)

    def forget(self) -> None:
        """Stop watching the socket. The caller must do this before it closes the socket."""
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket = None

    def wake(self) -> None:
        """End the present wait; if no thread waits, end the next wait at once."""
        with contextlib.suppress(OSError):  # If the pair is full, it ends the wait already.
            self._wake_out.send(b"!")

    def wait(self, timeout_s: float, *, for_room: bool = False, least_bytes: int = 1) -> int:
        """Wait until the socket has data, another thread calls :meth:`wake`, or time is up.

        Args:
            timeout_s: Longest wait, in seconds.
            for_room: Whether the wait also ends when the socket takes more data to send.
            least_bytes: Least number of arrived bytes that ends the wait (``SO_RCVLOWAT``,
                socket(7)). The end of the connection ends the wait with fewer bytes too.

        Returns:
            Bits of :data:`READABLE` and :data:`WRITABLE` for the socket; 0: the socket had no
            event.
        """
        wanted = select.POLLIN | (select.POLLOUT if for_room else 0)
        if self._socket is not None and wanted != self._wanted:
            self._poll.modify(self._socket, wanted)
            self._wanted = wanted
        if self._socket is not None and least_bytes != self._least_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least_bytes)
            self._least_bytes = least_bytes
        ready = 0
        for descriptor, events in self._poll.poll(timeout_s * 1000):
            if descriptor == self._wake_in.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(4096)
            else:
                ready = events
        return ready


def _close(*sockets: socket.socket) -> None:
    for sock in sockets:
        sock.close()
