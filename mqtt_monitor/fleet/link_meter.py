"""Computes the traffic of a board's network interface from the board's statistics. Pure."""

from __future__ import annotations

from typing import Any

from mqtt_monitor.fleet.read_values import read_count, read_number, read_signed, read_text
from mqtt_monitor.fleet.snapshot import Link


class LinkMeter:
    """Computes bytes per second from the byte counts of one board's network interface."""

    def __init__(self) -> None:
        #: The interface whose bytes ``_moved`` counts.
        self._interface: str | None = None
        #: The counts of received and sent bytes in the last statistics.
        self._moved: tuple[int | None, int | None] = (None, None)

    def read(self, fields: Any, elapsed_s: float | None) -> Link | None:
        """Read the ``link`` field of a board's statistics.

        Args:
            fields: The field's value, as received.
            elapsed_s: Time since the previous statistics, in seconds; None: unknown. Then the
                bytes per second are unknown too.

        Returns:
            The interface and its traffic; None: not reported.
        """
        interface = read_text(fields.get("interface")) if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or interface is None:
            self._interface = None
            return None
        moved = (read_count(fields.get("received_bytes")), read_count(fields.get("sent_bytes")))
        before = self._moved if interface == self._interface else (None, None)
        self._interface, self._moved = interface, moved
        in_per_s, out_per_s = (
            (now - then) / elapsed_s
            if elapsed_s and now is not None and then is not None and now >= then
            else None
            for now, then in zip(moved, before, strict=True)
        )
        return Link(
            interface=interface,
            speed_mbit_s=read_number(fields.get("speed_mbit_s")),
            signal_dbm=read_signed(fields.get("signal_dbm")),
            in_bytes_per_s=in_per_s,
            out_bytes_per_s=out_per_s,
            received_bytes=moved[0],
            sent_bytes=moved[1],
        )
