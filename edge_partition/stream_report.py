"""What a stream of requests took: throughput, latency, each stage's share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.pipeline import Result


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
    def of(cls, results: Sequence[Result], seconds: float) -> StreamReport:
        """Sum up ``results`` that took ``seconds`` together."""
        latencies = [result.latency_ms for result in results] or [0.0]
        times: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for result in results:
            for stage in result.trace:
                times.setdefault((stage.stage, stage.device), []).append(
                    (stage.queue_ms, stage.invoke_ms)
                )
        return cls(
            requests=len(results),
            seconds=seconds,
            latency_median_ms=float(np.median(latencies)),
            latency_p99_ms=float(np.percentile(latencies, 99)),
            stages=tuple(
                StageReport(index, device, len(rows), *map(float, np.median(rows, axis=0)))
                for (index, device), rows in sorted(times.items())
            ),
        )

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` says."""
        return {**asdict(self), "throughput_per_s": self.throughput_per_s}
