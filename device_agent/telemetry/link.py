"""Read the link to the broker: interface, speed, signal strength and transferred bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

_INTERFACES = Path("/sys/class/net")
_WIRELESS = Path("/proc/net/wireless")
#: Column of the signal level in ``/proc/net/wireless``, after interface, status and link quality.
_LEVEL_COLUMN = 3
_MAX_FILE_BYTES = 16 * 1024


class LinkReader:
    """Reads the state of the network interface that connects the board to the broker."""

    def __init__(self, interfaces: Path = _INTERFACES, wireless: Path = _WIRELESS) -> None:
        self._interfaces = interfaces
        self._wireless = wireless
        self._address: str | None = None
        self._interface: str | None = None

    def read(self, address: str | None) -> dict[str, Any] | None:
        """Return the state of the link.

        Args:
            address: Local address of the connection; None: there is no connection.

        Returns:
            ``interface``; ``speed_mbit_s`` of a wired link; ``signal_dbm`` of Wi-Fi;
            ``received_bytes`` and ``sent_bytes`` of all programs since the system started. Values
            that the system does not report are missing. None: the interface is unknown.
        """
        if address != self._address:
            self._address, self._interface = address, _interface_of(address)
        if self._interface is None:
            return None
        folder = self._interfaces / self._interface
        speed = _read_whole(folder / "speed")
        figures = {
            # Linux reports -1 while the cable has no carrier.
            "speed_mbit_s": speed if speed is not None and speed > 0 else None,
            "signal_dbm": self._read_signal_dbm(self._interface),
            "received_bytes": _read_whole(folder / "statistics" / "rx_bytes"),
            "sent_bytes": _read_whole(folder / "statistics" / "tx_bytes"),
        }
        known = {key: value for key, value in figures.items() if value is not None}
        return {"interface": self._interface, **known}

    def _read_signal_dbm(self, interface: str) -> float | None:
        for line in (_read_text(self._wireless) or "").splitlines():
            fields = line.split()
            if len(fields) > _LEVEL_COLUMN and fields[0] == f"{interface}:":
                try:
                    level = float(fields[_LEVEL_COLUMN])
                except ValueError:
                    return None
                # Some drivers report the level in a unit of their own, as a number from 0 upwards.
                return level if level < 0 else None
        return None


def _interface_of(address: str | None) -> str | None:
    if address is None:
        return None
    for interface, addresses in psutil.net_if_addrs().items():
        if any(item.address == address for item in addresses):
            return str(interface)
    return None


def _read_whole(path: Path) -> int | None:
    try:
        return int(_read_text(path) or "")
    except ValueError:
        return None


def _read_text(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return None
