"""What a stream of requests took: throughput, latency, each stage's share."""

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
    """One stage on one board: medians over the requests it served, in milliseconds."""

    stage: int
    device: str
    requests: int
    queue_ms: float
    invoke_ms: float


@dataclass(frozen=True)
class StreamReport:
    """A whole stream.

    Attributes:
        requests: Results received.
        seconds: From the first request to the last result.
        latency_median_ms: Half of the requests took less.
        latency_p99_ms: 99 of 100 took less.
        stages: Each stage's medians.
    """

    requests: int
    seconds: float
    latency_median_ms: float
    latency_p99_ms: float
    stages: tuple[StageReport, ...]

    @property
    def throughput_per_s(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, results: Iterable[Result], seconds: float) -> StreamReport:
        """Sum up ``results`` that took ``seconds`` together."""
        times = StreamTimes()
        for result in results:
            times.add(result)
        return times.report(seconds)

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` says."""
        return {**asdict(self), "throughput_per_s": self.throughput_per_s}


class StreamTimes:
    """The times of a stream's results as they come: 8 bytes each, without the results."""

    def __init__(self) -> None:
        """Start with none."""
        self._latencies_ms = array("d")
        self._stages: dict[tuple[int, str], tuple[array[float], array[float]]] = {}

    def add(self, result: Result) -> None:
        """Take a result's times."""
        self._latencies_ms.append(result.latency_ms)
        for stage in result.trace:
            key = (stage.stage, stage.device)
            if key not in self._stages:
                self._stages[key] = array("d"), array("d")
            queue_ms, invoke_ms = self._stages[key]
            queue_ms.append(stage.queue_ms)
            invoke_ms.append(stage.invoke_ms)

    def report(self, seconds: float) -> StreamReport:
        """Sum up what came in ``seconds``."""
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
