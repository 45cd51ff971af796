"""Waiting for a socket, in a way that another thread can end."""

from __future__ import annotations

import contextlib
import select
import socket
import weakref

#: The events of a socket that has data, or an error that the next read raises.
READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
#: The event of a socket that takes data.
WRITABLE = select.POLLOUT


class WakeablePoll:
    """``poll`` on at most one socket. One thread at a time waits; any thread may wake it."""

    def __init__(self) -> None:
        """Open the pair of sockets that :meth:`wake` uses."""
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.settimeout(0)
        self._wake_out.settimeout(0)
        self._poll = select.poll()
        self._poll.register(self._wake_in, select.POLLIN)
        self._socket: socket.socket | None = None
        self._wanted = 0
        self._least_bytes = 1
        # Not in a method: a thread may still wait when the connection closes.
        weakref.finalize(self, _close, self._wake_in, self._wake_out)

    def watch(self, sock: socket.socket) -> None:
        """Wait for this socket from now on."""
        self._socket, self._wanted, self._least_bytes = sock, select.POLLIN, 1
        self._poll.register(sock, self._wanted)

    def forget(self) -> None:
        """Wait for no socket. Called before the socket is closed."""
        if self._socket is not None:
            self._poll.unregister(self._socket)
            self._socket = None

    def wake(self) -> None:
        """End the wait in progress, or the next one."""
        with contextlib.suppress(OSError):  # A full socket wakes too.
            self._wake_out.send(b"!")

    def wait(self, timeout_s: float, *, for_room: bool = False, least_bytes: int = 1) -> int:
        """Wait for the socket's data, for :meth:`wake` or for the timeout.

        Args:
            timeout_s: Longest wait, in seconds.
            for_room: Whether to wait also until the socket takes data.
            least_bytes: Number of bytes to wait for (``SO_RCVLOWAT``, socket(7)). The end of the
                connection is an event with fewer bytes too.

        Returns:
            The socket's events, bits of :data:`READABLE` and :data:`WRITABLE`; 0 if there are none.
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
