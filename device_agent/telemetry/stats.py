"""Counts and times of the stages served, gathered for the ``stats`` topic."""

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
    """Milliseconds over one period: enough for mean and maximum."""

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
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    unanswerable: int = 0
    queue_total_ms: float = 0.0
    invoke_total_ms: float = 0.0
    queue: _Period = field(default_factory=_Period)
    invoke: _Period = field(default_factory=_Period)


class Stats:
    """Per-stage counts and summed times since the agent started, and times since last taken.

    Stats may get lost on their way; from sums the mean over any time between two of them is known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[tuple[str, int], _StageStats] = {}

    def count_request(self, deployment: str, index: int, queue_ms: float, invoke_ms: float) -> None:
        """Count a request that got its result."""
        with self._lock:
            stage = self._stage(deployment, index)
            stage.requests += 1
            stage.queue_total_ms += queue_ms
            stage.invoke_total_ms += invoke_ms
            stage.queue.add(queue_ms)
            stage.invoke.add(invoke_ms)

    def count_error(self, deployment: str, index: int, code: str) -> None:
        """Count a request that got an error."""
        with self._lock:
            self._stage(deployment, index).errors[str(code)] += 1

    def count_unanswerable(self, deployment: str, index: int) -> None:
        """Count a request without a usable response topic; the first of a stage is logged."""
        with self._lock:
            stage = self._stage(deployment, index)
            stage.unanswerable += 1
            first = stage.unanswerable == 1
        if first:
            _LOG.warning(
                "%s stage %d: dropped a request without a usable response topic", deployment, index
            )

    def take(self, served: Mapping[tuple[str, int], str | None]) -> list[dict[str, Any]]:
        """Return every stage's figures, start a new period, forget what is not ``served``.

        Args:
            served: The stages loaded here, with the generation that answers requests.
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
        return self._stages.setdefault((deployment, index), _StageStats())
