"""The time of a message on the link between a board and the broker, in nanoseconds.

The time has two parts: a transfer and a fixed delay. The transfer occupies the link. Its time is
the message's number of bits divided by the link's speed. During the fixed delay, the link can carry
other messages. So the fixed delay makes the latency longer, but not the period. The speed
and the delay come from ``fleet.toml``, from a preset, or from timed messages
(:mod:`edge_partition.planning.fit_messages`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from edge_partition.planning.fleet import Device

#: 8 bits per byte, and 1,000 nanoseconds per bit at 1 Mbit/s.
_NS_PER_BYTE_AT_1_MBIT_S = 8_000
_NS_PER_MS = 1_000_000


def transfer_ns(size_bytes: Any, device: Device) -> Any:
    """Return the time for which a message occupies the link, in nanoseconds.

    ``size_bytes`` is an integer or an array of sizes. The result has the same shape.
    """
    return np.rint(size_bytes * _NS_PER_BYTE_AT_1_MBIT_S / device.link_mbit_s).astype(np.int64)


def delay_ns(device: Device) -> int:
    """Return the fixed delay of a message on the link, in nanoseconds."""
    return round(device.link_ms * _NS_PER_MS)
