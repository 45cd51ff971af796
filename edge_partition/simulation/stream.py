"""A stream of requests for a simulation: arrivals, the client's limits and failures of boards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import RECEIVE_MAXIMUM
from edge_core.errors import EdgePartitionError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

#: Relative standard deviation of inference times, if the plan gives none. On a busy machine, the
#: times of emulated boards had a relative standard deviation of 0.11 to 0.19. Of this, 0.01 to 0.06
#: came from messages handled during the inference, which the simulation models separately.
DEFAULT_SPREAD = 0.1


class SimulationError(EdgePartitionError):
    """A value of a simulated stream is out of range or does not match the plan."""


@dataclass(frozen=True)
class Failure:
    """A period in which one board is offline.

    Attributes:
        device: Name of the board.
        start_s: Start of the failure, in seconds from the start of the simulation.
        duration_s: Duration of the failure, in seconds.
    """

    device: str
    start_s: float
    duration_s: float


@dataclass(frozen=True)
class Stream:
    """A stream of requests, and the limits of the client that sends the requests.

    Attributes:
        requests: Number of requests.
        rate_per_s: Arrivals per second; ``None``: a request arrives whenever the window allows one.
        steady: True: requests arrive at equal intervals. False: requests arrive as a Poisson
            process.
        window: Largest number of requests in flight; ``None``: the client adapts the number.
        timeout_s: Time that the client waits for the answer to a request, in seconds. After this
            time, the request has timed out.
        failures: Periods in which boards are offline.
        receive_maximum: Largest number of unacknowledged requests that the broker sends a board.
        spread: Standard deviation of inference times divided by their mean. Used for boards for
            which the plan gives no spread.
        seed: Seed of the random arrivals and inference times. Equal seeds give equal forecasts.
    """

    requests: int
    rate_per_s: float | None = None
    steady: bool = False
    window: int | None = None
    timeout_s: float = 30.0
    failures: tuple[Failure, ...] = ()
    receive_maximum: int = RECEIVE_MAXIMUM
    spread: float = DEFAULT_SPREAD
    seed: int = 0


def arrival_times_s(stream: Stream) -> NDArray[np.float64]:
    """Return the arrival time of each request in seconds; the shape is ``(stream.requests,)``.

    Raises:
        SimulationError: The stream has no rate.
    """
    if stream.rate_per_s is None:
        raise SimulationError("The stream has no rate, and so no arrival times. Give a rate.")
    if stream.steady:
        return np.arange(stream.requests) / stream.rate_per_s
    gaps_s = np.random.default_rng([stream.seed, 0]).exponential(
        1 / stream.rate_per_s, stream.requests
    )
    arrivals_s: NDArray[np.float64] = np.cumsum(gaps_s) - gaps_s[0]
    return arrivals_s


def check_stream(stream: Stream, devices: Collection[str]) -> None:
    """Check that a stream's values are in range, and that ``devices`` has its failing boards.

    Raises:
        SimulationError: A value is out of range, a failing board is unknown, or two failures of one
            board overlap.
    """
    positive = {"requests": stream.requests, "timeout": stream.timeout_s}
    positive["receive maximum"] = stream.receive_maximum
    if stream.rate_per_s is not None:
        positive["rate"] = stream.rate_per_s
    if stream.window is not None:
        positive["window"] = stream.window
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise SimulationError(f"The {name} is {value:g}; expected a finite number above 0.")
    if not 0 <= stream.spread < math.inf:
        raise SimulationError(
            f"The spread is {stream.spread:g}; expected a finite number of at least 0."
        )
    end_s: dict[str, float] = {}
    for failure in sorted(stream.failures, key=lambda failure: failure.start_s):
        if failure.device not in devices:
            raise SimulationError(
                f"The failing board {failure.device!r} is not in the plan; expected one of "
                f"{', '.join(sorted(devices))}."
            )
        if not (0 <= failure.start_s < math.inf and 0 < failure.duration_s < math.inf):
            raise SimulationError(
                f"The failure of board {failure.device} starts at {failure.start_s:g} s and lasts "
                f"{failure.duration_s:g} s; expected a start of at least 0 s and a duration above "
                "0 s."
            )
        if failure.start_s < end_s.get(failure.device, 0.0):
            raise SimulationError(
                f"Board {failure.device} fails again at {failure.start_s:g} s, before its earlier "
                f"failure ends at {end_s[failure.device]:g} s; expected failures that do not "
                "overlap."
            )
        end_s[failure.device] = failure.start_s + failure.duration_s
