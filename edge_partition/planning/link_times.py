"""A board's timed messages -> what handling one costs the board, and what its link takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_partition.planning.least_squares import fit_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BITS_PER_MS_PER_MBIT_S = 1000
#: A link that no size slows down is given this speed, in 10^6 bits a second.
_MOST_MBIT_S = 1e6
_LEAST_MS = 1e-3


@dataclass(frozen=True)
class HandlingTimes:
    """What the agent's network thread takes for a message, received or sent.

    Milliseconds of a processor of the board as the agent has it: under a quota of half a
    processor they are twice the processor time.

    Attributes:
        fixed_ms: Of each message, whatever its size.
        ms_per_mb: Of each 10^6 bytes.
    """

    fixed_ms: float
    ms_per_mb: float


@dataclass(frozen=True)
class TimedMessage:
    """A message from a board to itself through the broker: one out and one in.

    Attributes:
        size_bytes: Of its payload.
        lone_ms: From one arrival to the next, where one message is on its way.
        window_ms: The same where several are.
        cpu_ms: The agent's processor time of it, where one is on its way.
        apart_cpu_ms: The same where messages come as far apart as a stage's.
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
        mbit_s: 10^6 bits a second, in either direction.
        fixed_ms: Milliseconds of each message, whatever its size.
    """

    mbit_s: float
    fixed_ms: float


def fit_handling(messages: Sequence[TimedMessage], cores: float) -> HandlingTimes:
    """Return what handling a message takes; half of what one out and one in take together.

    Args:
        messages: Of several sizes; one at least.
        cores: Processors that the agent may use, a fraction under a quota.
    """
    each_ms = _elapsed_ms([message.apart_cpu_ms for message in messages], cores) / 2
    terms = np.array([[1.0, message.size_bytes / 1e6] for message in messages])
    fixed_ms, ms_per_mb = fit_relative(terms, each_ms, np.ones(len(messages)))
    return HandlingTimes(float(fixed_ms), float(ms_per_mb))


def fit_link(messages: Sequence[TimedMessage], cores: float) -> LinkTimes:
    """Return the link that explains the messages best.

    What is left of a lone message's time without the board's own part is two ways over the link.
    Arguments as for :func:`fit_handling`.
    """
    lone_ms = np.array([message.lone_ms for message in messages])
    handled_ms = _elapsed_ms([message.cpu_ms for message in messages], cores)
    one_way_ms = np.maximum(_LEAST_MS, (lone_ms - handled_ms) / 2)
    kilobits = np.array([message.size_bytes * 8 / _BITS_PER_MS_PER_MBIT_S for message in messages])
    terms = np.stack([np.ones(len(messages)), kilobits], axis=1)
    fixed_ms, ms_per_kbit = fit_relative(terms, one_way_ms, np.ones(len(messages)))
    # What several messages showed together, the link can do.
    shown_mbit_s = max(
        2 * kbit / message.window_ms for kbit, message in zip(kilobits, messages, strict=True)
    )
    mbit_s = max(shown_mbit_s, 1 / max(float(ms_per_kbit), 1 / _MOST_MBIT_S))
    return LinkTimes(min(_MOST_MBIT_S, float(mbit_s)), float(fixed_ms))


def _elapsed_ms(cpu_ms: Sequence[float], cores: float) -> NDArray[np.float64]:
    return np.array(cpu_ms) / min(1.0, cores)
