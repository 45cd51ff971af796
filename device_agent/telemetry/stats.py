"""Counts and times of the served stages, for the ``stats`` message."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG = logging.getLogger("device-agent")


@dataclass
class _Period:
    """Count, sum and maximum of the measured times since the last ``stats`` message, in ms."""

    count: int = 0
    total_ms: float = 0.0
    max_ms: float = 0.0

    def add(self, ms: float) -> None:
        self.count += 1
        self.total_ms += ms
        self.max_ms = max(self.max_ms, ms)

    def to_json(self) -> dict[str, float] | None:
        if not self.count:
            return None
        return {
            "mean": round(self.total_ms / self.count, 3),
            "max": round(self.max_ms, 3),
            "count": self.count,
        }


@dataclass
class _StageStats:
    """Counts and times of one stage since the agent started, and since the last ``stats``."""

    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unanswerable: int = 0
    queue_total_ms: float = 0.0
    invoke_total_ms: float = 0.0
    queue: _Period = field(default_factory=_Period)
    invoke: _Period = field(default_factory=_Period)


class Stats:
    """Each stage's counts and summed times since the agent started, and its times of one period.

    A period is the time between two ``stats`` messages. These messages may be lost. From the sums,
    a reader can compute the mean between any two messages that arrived.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[tuple[str, int], _StageStats] = {}

    def count_request(self, deployment: str, index: int, queue_ms: float, invoke_ms: float) -> None:
        """Count a request that was answered with a result."""
        with self._lock:
            stage = self._stage(deployment, index)
            stage.requests += 1
            stage.queue_total_ms += queue_ms
            stage.invoke_total_ms += invoke_ms
            stage.queue.add(queue_ms)
            stage.invoke.add(invoke_ms)

    def count_error(self, deployment: str, index: int, code: str) -> None:
        """Count a request that was answered with an error."""
        with self._lock:
            self._stage(deployment, index).errors[str(code)] += 1

    def count_unanswerable(self, deployment: str, index: int) -> None:
        """Count a request without a usable response topic; log a stage's first such request."""
        with self._lock:
            stage = self._stage(deployment, index)
            stage.unanswerable += 1
            first = stage.unanswerable == 1
        if first:
            _LOG.warning(
                "%s: stage %d dropped a request without a usable response topic; a client must set "
                "an MQTT 5 response topic without wildcards",
                deployment,
                index,
            )

    def take(self, served: Mapping[tuple[str, int], str | None]) -> list[dict[str, Any]]:
        """Return the statistics of every stage, and start a new period.

        A period is the time between two calls. The statistics of a stage that is not in ``served``
        are in this return value for the last time.

        Args:
            served: Name of the generation that answers requests, by deployment and index of each
                loaded stage. A value of None means that no generation answers.
        """
        with self._lock:
            for key in served:
                self._stage(*key)
            taken = []
            for (deployment, index), stage in sorted(self._stages.items()):
                taken.append(
                    {
                        "deployment": deployment,
                        "generation": served.get((deployment, index)),
                        "stage": index,
                        "requests": stage.requests,
                        "errors": dict(stage.errors),
                        "unanswerable": stage.unanswerable,
                        "queue_total_ms": round(stage.queue_total_ms, 3),
                        "invoke_total_ms": round(stage.invoke_total_ms, 3),
                        "queue_ms": stage.queue.to_json(),
                        "invoke_ms": stage.invoke.to_json(),
                    }
                )
                stage.queue, stage.invoke = _Period(), _Period()
            self._stages = {key: self._stages[key] for key in self._stages if key in served}
            return taken

    def _stage(self, deployment: str, index: int) -> _StageStats:
        stage = self._stages.get((deployment, index))
        if stage is None:
            stage = self._stages[deployment, index] = _StageStats()
        return stage
