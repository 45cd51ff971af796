"""The report on a stream of requests: throughput, latencies, and median times of each stage."""

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
    """Median times of one stage on one board.

    Attributes:
        stage: The stage's index.
        device: Name of the board.
        requests: Number of results for which this board ran the stage.
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
    """Throughput and latencies of a stream, and the times of its stages.

    Attributes:
        requests: Number of requests that got a result.
        seconds: Time from the first request to the last result.
        latency_median_ms: Median latency, in milliseconds.
        latency_p99_ms: 99th percentile of the latency, in milliseconds.
        stages: One report for each stage on each of its boards, sorted by stage, then board.
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
        """Return the report on results.

        Args:
            results: The results of the stream.
            seconds: Time from the first request to the last result.
        """
        times = StreamTimes()
        for result in results:
            times.add(result)
        return times.report(seconds)

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON object: each attribute by name, and ``throughput_per_s``."""
        return {**asdict(self), "throughput_per_s": self.throughput_per_s}


class StreamTimes:
    """Collects the times of a stream's results, in 8 bytes per time, and keeps no outputs."""

    def __init__(self) -> None:
        self._latencies_ms = array("d")
        self._stages: dict[tuple[int, str], tuple[array[float], array[float]]] = {}

    def add(self, result: Result) -> None:
        """Add the latency and the trace of a result."""
        self._latencies_ms.append(result.latency_ms)
        for stage in result.trace:
            key = (stage.stage, stage.device)
            if key not in self._stages:
                self._stages[key] = array("d"), array("d")
            queue_ms, invoke_ms = self._stages[key]
            queue_ms.append(stage.queue_ms)
            invoke_ms.append(stage.invoke_ms)

    def report(self, seconds: float) -> StreamReport:
        """Return the report on the results so far.

        Args:
            seconds: Time from the first request to the last result.
        """
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
