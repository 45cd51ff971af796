"""When a connection must send a ping, and when its broker counts as silent.

The state here is pure: callers pass the time, in seconds on one clock.
"""

from __future__ import annotations


class KeepAlive:
    """The keep-alive of one connection (MQTT 5.0, section 3.1.2.10).

    A ping is due when one direction was silent for half a keep-alive. The broker counts as lost
    after 1.5 keep-alives of silence, which is also the broker's own limit for a client.

    Attributes:
        period_s: The keep-alive, in seconds.
        sent_at: Time of the last data that was sent.
        received_at: Time of the last sign of the broker.
    """

    def __init__(self, period_s: float) -> None:
        """Prepare; :meth:`start` begins a connection.

        Args:
            period_s: The keep-alive, in seconds.
        """
        self.period_s = self._wanted_s = period_s
        self.sent_at = self.received_at = self._pinged_at = 0.0
        #: Bytes that the broker's machine had acknowledged at the last ping, and that number plus
        #: the bytes that were still to be delivered.
        self._delivery = 0, 0

    def start(self, period_s: float | None, now: float) -> None:
        """Begin a connection.

        Args:
            period_s: The keep-alive that the broker asks for, in seconds; None: the client's own.
            now: The time.
        """
        self.period_s = period_s or self._wanted_s
        self.sent_at = self.received_at = self._pinged_at = now
        self._delivery = 0, 0

    @property
    def due_at(self) -> float:
        """Time of the next ping."""
        return max(min(self.sent_at, self.received_at), self._pinged_at) + self.period_s / 2

    def note_ping(self, now: float, delivery: tuple[int, int] | None) -> None:
        """Note that a ping is due now and is about to be sent.

        On a slow link, a ping waits behind a large message for longer than a keep-alive. While
        data from before the last ping is still on its way, data delivered since then is a sign of
        the broker.

        Args:
            now: The time.
            delivery: What :meth:`DataSession.delivery` returns.

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
