"""Echoes through the broker -> a board's link: a fixed time a message, and a speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.least_squares import fit_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

_BITS_PER_MS_PER_MBIT_S = 1000
#: A link that no size slows down is given this speed, in 10^6 bits a second.
_MOST_MBIT_S = 1e6
_LEAST_MS = 1e-3


@dataclass(frozen=True)
class TimedEcho:
    """A message to a board and one of the same size back, both through the broker.

    Attributes:
        size_bytes: Bytes of each of the two.
        round_trip_ms: Median, from the host and back to it.
        host_ms: Median of a message of that size from the host to the broker and back.
    """

    size_bytes: int
    round_trip_ms: float
    host_ms: float


@dataclass(frozen=True)
class LinkTimes:
    """A link between board and broker.

    Attributes:
        mbit_s: 10^6 bits a second, in either direction.
        fixed_ms: Milliseconds of each message, whatever its size.
    """

    mbit_s: float
    fixed_ms: float


def fit_link(echoes: Sequence[TimedEcho]) -> LinkTimes:
    """Return the link that explains the echoes best.

    The host's own part of a round trip is taken off; what is left is two messages over the
    board's link. ``echoes`` has one at least.
    """
    one_way_ms = np.array(
        [max(_LEAST_MS, (echo.round_trip_ms - echo.host_ms) / 2) for echo in echoes]
    )
    terms = np.array([[1.0, echo.size_bytes * 8 / _BITS_PER_MS_PER_MBIT_S] for echo in echoes])
    fixed_ms, ms_per_kbit = fit_relative(terms, one_way_ms, np.ones(len(echoes)))
    mbit_s = min(_MOST_MBIT_S, 1 / max(float(ms_per_kbit), 1 / _MOST_MBIT_S))
    return LinkTimes(mbit_s, float(fixed_ms))
