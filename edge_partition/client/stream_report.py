"""Times of a stream of requests: throughput, latency, and each stage's medians."""

from __future__ import annotations

from array import array
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_partition.client.result import Result


@dataclass(frozen=True)
class StageReport:
    """Times of one stage on one board.

    Attributes:
        stage: The stage's index.
        device: The board.
        requests: Number of requests that the board served.
        queue_ms: Median time from a request's arrival to its inference, in milliseconds.
        invoke_ms: Median time of an inference, in milliseconds.
    """

    stage: int
    device: str
    requests: int
    queue_ms: float
    invoke_ms: float


@dataclass(frozen=True)
class StreamReport:
    """Times of a whole stream.

    Attributes:
        requests: Number of results.
        seconds: Time from the first request to the last result.
        latency_median_ms: Median latency, in milliseconds.
        latency_p99_ms: 99th percentile of the latency, in milliseconds.
        stages: Times of each stage on each of its boards.
    """

    requests: int
    seconds: float
    latency_median_ms: float
    latency_p99_ms: float
    stages: tuple[StageReport, ...]

    @property
    def throughput_per_s(self) -> float:
        """Results per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, results: Iterable[Result], seconds: float) -> StreamReport:
        """Return the report on ``results``, which arrived within ``seconds``."""
        times = StreamTimes()
        for result in results:
            times.add(result)
        return times.report(seconds)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values, for ``--json``."""
        return {**asdict(self), "throughput_per_s": self.throughput_per_s}


class StreamTimes:
    """Collects the times of a stream's results, 8 bytes per time, without the results."""

    def __init__(self) -> None:
        self._latencies_ms = array("d")
        self._stages: dict[tuple[int, str], tuple[array[float], array[float]]] = {}

    def add(self, result: Result) -> None:
        """Add a result's times."""
        self._latencies_ms.append(result.latency_ms)
        for stage in result.trace:
            key = (stage.stage, stage.device)
            if key not in self._stages:
                self._stages[key] = array("d"), array("d")
            queue_ms, invoke_ms = self._stages[key]
            queue_ms.append(stage.queue_ms)
            invoke_ms.append(stage.invoke_ms)

    def report(self, seconds: float) -> StreamReport:
        """Return the report on the results so far, which arrived within ``seconds``."""
        latencies_ms = self._latencies_ms or [0.0]
        return StreamReport(
            requests=len(self._latencies_ms),
            seconds=seconds,
            latency_median_ms=float(np.median(latencies_ms)),
            latency_p99_ms=float(np.percentile(latencies_ms, 99)),
            stages=tuple(
                StageReport(index, device, len(queue), *map(float, map(np.median, (queue, invoke))))
                for (index, device), (queue, invoke) in sorted(self._stages.items())
            ),
        )
