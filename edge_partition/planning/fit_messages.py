"""A board's timed messages -> the time of handling a message, and the speed of the link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.least_squares import fit_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BITS_PER_MS_PER_MBIT_S = 1000
#: Largest speed of a link, in 10^6 bits per second: for times that do not grow with the size.
_MOST_MBIT_S = 1e6
_LEAST_MS = 1e-3


@dataclass(frozen=True)
class HandlingTimes:
    """Time of the agent for one message, received or sent.

    The time is elapsed time: under a quota of half a processor, it is twice the processor time.

    Attributes:
        fixed_ms: Time of each message of any size, in milliseconds.
        ms_per_mb: Additional time for each 10^6 bytes of the payload, in milliseconds.
    """

    fixed_ms: float
    ms_per_mb: float


@dataclass(frozen=True)
class TimedMessage:
    """A message from a board to itself through the broker: one message out and one in.

    Attributes:
        size_bytes: Size of the payload.
        lone_ms: Time from one arrival to the next with one message in flight, in milliseconds.
        window_ms: Time from one arrival to the next with several messages in flight, in
            milliseconds.
        cpu_ms: Processor time of the agent for the message, with one message in flight, in
            milliseconds.
        apart_cpu_ms: Processor time of the agent for the message, in milliseconds. The pauses
            between messages are like the pauses between the requests of a stage.
    """

    size_bytes: int
    lone_ms: float
    window_ms: float
    cpu_ms: float
    apart_cpu_ms: float


@dataclass(frozen=True)
class LinkTimes:
    """A link between board and broker.

    Attributes:
        mbit_s: Speed in each direction, in 10^6 bits per second.
        fixed_ms: Delay of each message of any size, in milliseconds.
    """

    mbit_s: float
    fixed_ms: float


def fit_handling(messages: Sequence[TimedMessage], cores: float) -> HandlingTimes:
    """Return the time of handling a message: half the time of one message out and one in.

    Args:
        messages: One or more timed messages, of several sizes.
        cores: Processors that the agent may use; a fraction under a quota.
    """
    each_ms = _elapsed_ms([message.apart_cpu_ms for message in messages], cores) / 2
    terms = np.array([[1.0, message.size_bytes / 1e6] for message in messages])
    fixed_ms, ms_per_mb = fit_relative(terms, each_ms, np.ones(len(messages)))
    return HandlingTimes(float(fixed_ms), float(ms_per_mb))


def fit_link(messages: Sequence[TimedMessage], cores: float) -> LinkTimes:
    """Return the link that fits the messages best.

    The time of a lone message less the board's handling time is the time of two passes over the
    link.

    Args:
        messages: One or more timed messages, of several sizes.
        cores: Processors that the agent may use; a fraction under a quota.
    """
    lone_ms = np.array([message.lone_ms for message in messages])
    handled_ms = _elapsed_ms([message.cpu_ms for message in messages], cores)
    one_way_ms = np.maximum(_LEAST_MS, (lone_ms - handled_ms) / 2)
    kilobits = np.array([message.size_bytes * 8 / _BITS_PER_MS_PER_MBIT_S for message in messages])
    terms = np.stack([np.ones(len(messages)), kilobits], axis=1)
    fixed_ms, ms_per_kbit = fit_relative(terms, one_way_ms, np.ones(len(messages)))
    # The link is at least as fast as the throughput of several messages in flight.
    reached_mbit_s = max(
        2 * kbit / message.window_ms for kbit, message in zip(kilobits, messages, strict=True)
    )
    mbit_s = max(reached_mbit_s, 1 / max(float(ms_per_kbit), 1 / _MOST_MBIT_S))
    return LinkTimes(min(_MOST_MBIT_S, float(mbit_s)), float(fixed_ms))


def _elapsed_ms(cpu_ms: Sequence[float], cores: float) -> NDArray[np.float64]:
    return np.array(cpu_ms) / min(1.0, cores)
