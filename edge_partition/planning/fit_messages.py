"""Fit the time that an agent needs for a message, and the speed of its link, to timed messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.least_squares import fit_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BITS_PER_MS_PER_MBIT_S = 1000
#: Largest speed of a link, in 10^6 bits per second. If times do not grow with the message's size,
#: the fitted speed would be infinite.
_MOST_MBIT_S = 1e6
_LEAST_MS = 1e-3


@dataclass(frozen=True)
class HandlingTimes:
    """Time that the agent needs to receive or send one message.

    The time is elapsed time. For example, with a CPU quota of half a processor, the elapsed time is
    twice the processor time.

    Attributes:
        fixed_ms: Time for a message of any size, in milliseconds.
        ms_per_mb: Additional time for each 10^6 bytes of the payload, in milliseconds.
    """

    fixed_ms: float
    ms_per_mb: float


@dataclass(frozen=True)
class TimedMessage:
    """Measured times of a message that a board sends through the broker to itself.

    The agent of the board sends the message and receives the same message. The processor times
    below are for sending and receiving together.

    Attributes:
        size_bytes: Size of the payload.
        lone_ms: Time from one arrival to the next with one message in flight, in milliseconds.
        window_ms: Time from one arrival to the next with several messages in flight, in
            milliseconds.
        cpu_ms: Processor time of the agent for the message, in milliseconds. There was one message
            in flight and no pause between messages.
        apart_cpu_ms: Processor time of the agent for the message, in milliseconds. The pauses
            between messages were about as long as between the requests of a stage.
    """

    size_bytes: int
    lone_ms: float
    window_ms: float
    cpu_ms: float
    apart_cpu_ms: float


@dataclass(frozen=True)
class LinkTimes:
    """Speed and delay of the link between a board and the broker.

    Attributes:
        mbit_s: Speed in each direction, in 10^6 bits per second.
        fixed_ms: Delay of a message of any size, in milliseconds.
    """

    mbit_s: float
    fixed_ms: float


def fit_handling(messages: Sequence[TimedMessage], cores: float) -> HandlingTimes:
    """Return the agent's time to send or receive a message: half of the time to do both.

    Args:
        messages: One or more timed messages, of several sizes.
        cores: Number of processors that the agent may use. A CPU quota may make it a fraction.
    """
    each_ms = _elapsed_ms([message.apart_cpu_ms for message in messages], cores) / 2
    terms = np.array([[1.0, message.size_bytes / 1e6] for message in messages])
    fixed_ms, ms_per_mb = fit_relative(terms, each_ms, np.ones(len(messages)))
    return HandlingTimes(float(fixed_ms), float(ms_per_mb))


def fit_link(messages: Sequence[TimedMessage], cores: float) -> LinkTimes:
    """Return the speed and delay of the link that fit the timed messages best.

    If only one message is in flight, its time is the sum of two parts: the agent's handling time,
    and the time on the link. The message passes over the link twice, to the broker and back. So the
    time of one pass is half of the message's time without the handling time.

    Args:
        messages: One or more timed messages, of several sizes.
        cores: Number of processors that the agent may use. A CPU quota may make it a fraction.
    """
    lone_ms = np.array([message.lone_ms for message in messages])
    handled_ms = _elapsed_ms([message.cpu_ms for message in messages], cores)
    one_way_ms = np.maximum(_LEAST_MS, (lone_ms - handled_ms) / 2)
    kilobits = np.array([message.size_bytes * 8 / _BITS_PER_MS_PER_MBIT_S for message in messages])
    terms = np.stack([np.ones(len(messages)), kilobits], axis=1)
    fixed_ms, ms_per_kbit = fit_relative(terms, one_way_ms, np.ones(len(messages)))
    # The link is at least as fast as the throughput that was measured with several messages in
    # flight.
    reached_mbit_s = max(
        2 * kbit / message.window_ms for kbit, message in zip(kilobits, messages, strict=True)
    )
    mbit_s = max(reached_mbit_s, 1 / max(float(ms_per_kbit), 1 / _MOST_MBIT_S))
    return LinkTimes(min(_MOST_MBIT_S, float(mbit_s)), float(fixed_ms))


def _elapsed_ms(cpu_ms: Sequence[float], cores: float) -> NDArray[np.float64]:
    return np.array(cpu_ms) / min(1.0, cores)
