"""Finds when a connection must send a ping, and when its broker counts as lost.

This module reads no clock: callers pass all times, in seconds of the same clock.
"""

from __future__ import annotations


class KeepAlive:
    """The keep-alive of one connection (MQTT 5.0, section 3.1.2.10).

    A ping is due if the client has sent nothing, or received nothing, for half a keep-alive. The
    broker counts as lost after 1.5 keep-alives of silence. Brokers use the same limit for clients.

    Attributes:
        period_s: The keep-alive, in seconds.
        sent_at: Time when the client last sent data.
        received_at: Time when the client last received data, or when the broker's machine last
            acknowledged data of a long transfer.
    """

    def __init__(self, period_s: float) -> None:
        """Create the state before the first connection; :meth:`start` begins a connection.

        Args:
            period_s: The keep-alive that the client asks for, in seconds.
        """
        self.period_s = self._wanted_s = period_s
        self.sent_at = self.received_at = self._pinged_at = 0.0
        #: Numbers of delivered and written bytes at the last ping (:meth:`DataSession.delivery`).
        self._delivery = 0, 0

    def start(self, period_s: float | None, now: float) -> None:
        """Begin a connection.

        Args:
            period_s: The keep-alive that the broker sets, in seconds; None: the client's value.
            now: The present time.
        """
        self.period_s = period_s or self._wanted_s
        self.sent_at = self.received_at = self._pinged_at = now
        self._delivery = 0, 0

    @property
    def due_at(self) -> float:
        """Time when the next ping is due."""
        return max(min(self.sent_at, self.received_at), self._pinged_at) + self.period_s / 2

    def note_ping(self, now: float, delivery: tuple[int, int] | None) -> None:
        """Record that a ping is due and will be sent now.

        On a slow link, the answer to a ping may take longer than 1.5 keep-alives, because the ping
        waits behind a large message. During such a transfer, the broker also counts as alive if its
        machine has acknowledged bytes since the last ping.

        Args:
            now: The present time.
            delivery: The numbers of delivered and written bytes (:meth:`DataSession.delivery`);
                None if the system does not give them.

        Raises:
            TimeoutError: The broker was silent for 1.5 keep-alives.
        """
        if delivery is not None:
            if self._delivery[0] < delivery[0] < self._delivery[1]:
                self.received_at = now
            self._delivery = delivery
        if now - self.received_at > 1.5 * self.period_s:
            raise TimeoutError(f"no data for {now - self.received_at:.0f} s")
        self._pinged_at = now
