"""One stage's counts on one board: from counts that begin anew with the agent to sums that grow."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from mqtt_monitor.fleet.limits import MAX_ERROR_CODES
from mqtt_monitor.fleet.read_values import read_count, read_name, read_number, read_text
from mqtt_monitor.fleet.snapshot import BoardStage, State

#: Periods of 5 s in a minute.
_MINUTE = 12


@dataclass(frozen=True)
class Change:
    """What a board's newest statistics added for one stage.

    Attributes:
        answered: Requests that got a result.
        failed: Requests that got an error, or could get none.
        continuous: The counts go on from those before; False: what was counted since is not known,
            or the counts began anew.
    """

    answered: int
    failed: int
    continuous: bool


@dataclass
class _Counts:
    """As the agent sent them."""

    requests: int
    errors: dict[str, int]
    unanswerable: int
    invoke_total_ms: float | None
    queue_total_ms: float | None


_ZERO = _Counts(0, {}, 0, 0.0, 0.0)


class StageCounter:
    """Follows one stage on one board."""

    __slots__ = (
        "_counts",
        "_errors_per_s",
        "_invoke_max_ms",
        "_invoke_ms",
        "_invoke_seconds",
        "_minute",
        "_queue_max_ms",
        "_queue_ms",
        "_queue_seconds",
        "_requests_per_s",
        "_totals",
        "errors_noted_s",
        "generation",
        "mismatch_noted",
        "still",
    )

    def __init__(self) -> None:
        self.generation: str | None = None
        #: Consecutive statistics in which nothing was counted.
        self.still = 0
        #: What was already told of this stage, so that it is told once.
        self.mismatch_noted: str | None = None
        self.errors_noted_s: float | None = None
        self._counts: _Counts | None = None
        self._totals = _Counts(0, {}, 0, None, None)
        self._invoke_seconds = self._queue_seconds = 0.0
        self._requests_per_s: float | None = None
        self._errors_per_s: float | None = None
        self._invoke_ms: float | None = None
        self._invoke_max_ms: float | None = None
        self._queue_ms: float | None = None
        self._queue_max_ms: float | None = None
        #: (requests, their milliseconds) of the last periods.
        self._minute: deque[tuple[int, float]] = deque(maxlen=_MINUTE)

    def fold(
        self,
        entry: dict[str, Any],
        elapsed_s: float | None,
        *,
        period_s: float,
        from_zero: bool,
        restarted: bool,
    ) -> Change:
        """Take an entry of the statistics' ``stages``.

        Args:
            entry: As it was sent.
            elapsed_s: Since the statistics before, or since the agent's start if that is later;
                None: not known.
            period_s: How often the agent tells; the entry's means are over so long.
            from_zero: A stage not seen before has counted from 0 since the statistics before;
                False: nothing is known of that time.
            restarted: The agent's counts began anew.
        """
        self.generation = read_name(entry.get("generation"))
        counts = _read_counts(entry)
        first = self._counts is None
        before = self._counts
        began_anew = before is not None and (restarted or _is_below(counts, before))
        if before is None:
            before = _ZERO if from_zero else counts
        elif began_anew:
            before = _ZERO
        self._counts = counts

        answered = counts.requests - before.requests
        unanswerable = counts.unanswerable - before.unanswerable
        errors = {
            code: count - before.errors.get(code, 0)
            for code, count in counts.errors.items()
            if count > before.errors.get(code, 0)
        }
        failed = sum(errors.values()) + unanswerable
        # A watcher that came later takes over what the agent has counted till then.
        baseline = first and not from_zero
        totals = self._totals
        totals.requests += counts.requests if baseline else answered
        totals.unanswerable += counts.unanswerable if baseline else unanswerable
        for code, count in (counts.errors if baseline else errors).items():
            _add(totals.errors, code, count)

        invoke = _read_period(entry.get("invoke_ms"))
        queue = _read_period(entry.get("queue_ms"))
        invoke_ms = _spent_ms(counts.invoke_total_ms, before.invoke_total_ms, invoke[0], answered)
        queue_ms = _spent_ms(counts.queue_total_ms, before.queue_total_ms, queue[0], answered)
        if baseline:
            self._invoke_seconds = (counts.invoke_total_ms or 0.0) / 1000
            self._queue_seconds = (counts.queue_total_ms or 0.0) / 1000
        self._invoke_seconds += invoke_ms / 1000
        self._queue_seconds += queue_ms / 1000
        self._invoke_ms = invoke_ms / answered if answered and invoke_ms else invoke[0]
        self._queue_ms = queue_ms / answered if answered and queue_ms else queue[0]
        self._invoke_max_ms, self._queue_max_ms = invoke[1], queue[1]
        self._minute.append((answered, invoke_ms))
        if baseline:
            self._requests_per_s = _period_rate(entry.get("invoke_ms"), period_s)
            self._errors_per_s = None
        else:
            self._requests_per_s = answered / elapsed_s if elapsed_s else None
            self._errors_per_s = failed / elapsed_s if elapsed_s else None
        self.still = 0 if answered or failed or baseline else self.still + 1
        return Change(answered, failed, continuous=not first and not began_anew)

    def view(self, device: str, state: State, *, serves: bool | None, fresh: bool) -> BoardStage:
        """Return the stage on its board as it stands; rates only of a board that is ``fresh``."""
        totals = self._totals
        requests = sum(count for count, _ in self._minute)
        minute_ms = sum(ms for _, ms in self._minute)
        return BoardStage(
            device=device,
            state=state,
            serves=serves,
            generation=self.generation,
            requests_per_s=self._requests_per_s if fresh else None,
            errors_per_s=self._errors_per_s if fresh else None,
            invoke_ms=self._invoke_ms if fresh else None,
            invoke_max_ms=self._invoke_max_ms if fresh else None,
            invoke_minute_ms=minute_ms / requests if fresh and requests and minute_ms else None,
            queue_ms=self._queue_ms if fresh else None,
            queue_max_ms=self._queue_max_ms if fresh else None,
            requests_total=totals.requests,
            errors_total=tuple(sorted(totals.errors.items())),
            unanswerable_total=totals.unanswerable,
            invoke_seconds_total=self._invoke_seconds,
            queue_seconds_total=self._queue_seconds,
        )


def _read_counts(entry: dict[str, Any]) -> _Counts:
    errors: dict[str, int] = {}
    sent = entry.get("errors")
    if isinstance(sent, dict):
        for code, value in sent.items():
            count = read_count(value)
            if count:
                _add(errors, read_text(code) or "other", count)
    return _Counts(
        requests=read_count(entry.get("requests")) or 0,
        errors=errors,
        unanswerable=read_count(entry.get("unanswerable")) or 0,
        invoke_total_ms=read_number(entry.get("invoke_total_ms")),
        queue_total_ms=read_number(entry.get("queue_total_ms")),
    )


def _add(errors: dict[str, int], code: str, count: int) -> None:
    key = code if code in errors or len(errors) < MAX_ERROR_CODES else "other"
    errors[key] = errors.get(key, 0) + count


def _is_below(counts: _Counts, before: _Counts) -> bool:
    return (
        counts.requests < before.requests
        or counts.unanswerable < before.unanswerable
        or sum(counts.errors.values()) < sum(before.errors.values())
    )


def _read_period(value: Any) -> tuple[float | None, float | None]:
    """Return mean and maximum of a period, in milliseconds."""
    if not isinstance(value, dict):
        return None, None
    return read_number(value.get("mean")), read_number(value.get("max"))


def _period_rate(value: Any, period_s: float) -> float | None:
    """Return requests a second over one period: the most that a single message can tell."""
    count = read_count(value.get("count")) if isinstance(value, dict) else None
    if value is None:
        count = 0
    return None if count is None or period_s <= 0 else count / period_s


def _spent_ms(
    total_ms: float | None, before_ms: float | None, mean_ms: float | None, requests: int
) -> float:
    """Return milliseconds since the counts before: from sums where sent, else from the mean."""
    if total_ms is not None and before_ms is not None and total_ms >= before_ms:
        return total_ms - before_ms
    return (mean_ms or 0.0) * requests
