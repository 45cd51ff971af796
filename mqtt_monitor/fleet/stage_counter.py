"""Computes totals, rates and mean times of one stage on one board from the board's statistics.

An agent's counts start again at 0 when the agent restarts. The totals keep growing. In this module,
a period is the time between two consecutive statistics messages of the board.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from mqtt_monitor.fleet.limits import MAX_ERROR_CODES
from mqtt_monitor.fleet.read_values import read_count, read_name, read_number, read_text
from mqtt_monitor.fleet.snapshot import BoardStage, State
from mqtt_monitor.fleet.stage_events import StageEvents

#: Periods of 5 s in a minute.
_MINUTE = 12


@dataclass(frozen=True)
class Change:
    """The new requests of one stage, from a board's newest statistics.

    Attributes:
        answered: Number of new requests that got a result.
        failed: Number of new requests that got an error, or that had no usable response topic.
        continuous: Whether the two numbers include all requests since the previous statistics.
            False: the stage has no previous statistics, or the agent's counts started again at 0.
    """

    answered: int
    failed: int
    continuous: bool


@dataclass
class _Counts:
    """The counts of one stage since the agent's start, from one statistics message."""

    requests: int
    errors: dict[str, int]
    unanswerable: int
    invoke_total_ms: float | None
    queue_total_ms: float | None


_ZERO = _Counts(0, {}, 0, 0.0, 0.0)


@dataclass(frozen=True)
class _Added:
    """The difference between the counts in two statistics messages."""

    answered: int
    errors: dict[str, int]
    unanswerable: int

    @property
    def failed(self) -> int:
        return sum(self.errors.values()) + self.unanswerable


class _Times:
    """The inference times or the waiting times of a stage's requests.

    Attributes:
        seconds: Total time of all requests, in seconds.
        mean_ms: Mean time of a request in the newest period, in milliseconds; None: unknown.
        max_ms: Longest time of a request in the newest period, in milliseconds; None: unknown.
    """

    __slots__ = ("max_ms", "mean_ms", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.mean_ms: float | None = None
        self.max_ms: float | None = None

    def add(
        self, period: Any, total_ms: float | None, before_ms: float | None, answered: int
    ) -> float:
        """Add the newest period; return the total time of the period's requests, in milliseconds.

        Args:
            period: The mean and the maximum time of the period's requests, as received.
            total_ms: Total time of all requests since the agent's start, in milliseconds; None: not
                reported.
            before_ms: ``total_ms`` in the previous statistics.
            answered: Number of requests that got a result in the period.
        """
        mean_ms, self.max_ms = _read_period(period)
        spent_ms = _spent_ms(total_ms, before_ms, mean_ms, answered)
        self.seconds += spent_ms / 1000
        self.mean_ms = spent_ms / answered if answered and spent_ms else mean_ms
        return spent_ms


class StageCounter:
    """Keeps the totals, rates and mean times of one stage on one board.

    Attributes:
        generation: The generation that the board serves; None: not reported.
        idle_periods: Number of statistics messages without a new request since the last statistics
            message with a new request.
        events: Remembers which events of this stage have been reported.
    """

    __slots__ = (
        "_counts",
        "_errors_per_s",
        "_invoke",
        "_minute",
        "_queue",
        "_requests_per_s",
        "_totals",
        "events",
        "generation",
        "idle_periods",
    )

    def __init__(self) -> None:
        self.generation: str | None = None
        self.idle_periods = 0
        self.events = StageEvents()
        self._counts: _Counts | None = None
        self._totals = _Counts(0, {}, 0, None, None)
        self._invoke = _Times()
        self._queue = _Times()
        self._requests_per_s: float | None = None
        self._errors_per_s: float | None = None
        #: For each period of the last minute: number of requests, and their total inference time in
        #: milliseconds.
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
        """Add the stage's entry in a statistics message.

        Args:
            entry: The entry, as received.
            elapsed_s: Time in which the new requests were counted, in seconds; None: unknown. This
                is the time since the previous statistics or, after a restart of the agent, the time
                since the restart.
            period_s: Length of a period, in seconds. The means in ``entry`` cover one period.
            from_zero: Whether the stage was loaded after the previous statistics of the board. If
                True, the first entry counts only new requests. If False, the first entry may count
                requests from before the monitor's start.
            restarted: Whether the agent's counts started again at 0 after the previous statistics.
        """
        self.generation = read_name(entry.get("generation"))
        counts, before = _read_counts(entry), self._counts
        first = before is None
        reset = before is not None and (restarted or _is_below(counts, before))
        if before is None:
            before = _ZERO if from_zero else counts
        elif reset:
            before = _ZERO
        self._counts = counts
        added = _subtract(counts, before)
        # The first statistics of a stage that was loaded earlier: the totals start with its counts.
        # These cover an unknown time, so the rate comes from the newest period alone.
        baseline = first and not from_zero
        self._add_to_totals(_subtract(counts, _ZERO) if baseline else added)
        self._add_times(entry, counts, before, added.answered, baseline=baseline)
        if baseline:
            self._requests_per_s = _period_rate(entry.get("invoke_ms"), period_s)
            self._errors_per_s = None
        else:
            self._requests_per_s = added.answered / elapsed_s if elapsed_s else None
            self._errors_per_s = added.failed / elapsed_s if elapsed_s else None
        busy = added.answered or added.failed or baseline
        self.idle_periods = 0 if busy else self.idle_periods + 1
        return Change(added.answered, added.failed, continuous=not first and not reset)

    def _add_to_totals(self, added: _Added) -> None:
        self._totals.requests += added.answered
        self._totals.unanswerable += added.unanswerable
        for code, count in added.errors.items():
            _add(self._totals.errors, code, count)

    def _add_times(
        self,
        entry: dict[str, Any],
        counts: _Counts,
        before: _Counts,
        answered: int,
        *,
        baseline: bool,
    ) -> None:
        if baseline:
            self._invoke.seconds = (counts.invoke_total_ms or 0.0) / 1000
            self._queue.seconds = (counts.queue_total_ms or 0.0) / 1000
        invoke_ms = self._invoke.add(
            entry.get("invoke_ms"), counts.invoke_total_ms, before.invoke_total_ms, answered
        )
        self._queue.add(
            entry.get("queue_ms"), counts.queue_total_ms, before.queue_total_ms, answered
        )
        self._minute.append((answered, invoke_ms))

    def view(self, device: str, state: State, *, serves: bool | None, fresh: bool) -> BoardStage:
        """Return the measurements of the stage on its board.

        Args:
            device: Name of the board.
            state: The board's state.
            serves: Whether the board's newest statistics contain the stage; None: no recent
                statistics.
            fresh: Whether the statistics are recent. If False, all rates and all mean and longest
                times in the result are None.
        """
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
            invoke_ms=self._invoke.mean_ms if fresh else None,
            invoke_max_ms=self._invoke.max_ms if fresh else None,
            invoke_minute_ms=minute_ms / requests if fresh and requests and minute_ms else None,
            queue_ms=self._queue.mean_ms if fresh else None,
            queue_max_ms=self._queue.max_ms if fresh else None,
            requests_total=totals.requests,
            errors_total=tuple(sorted(totals.errors.items())),
            unanswerable_total=totals.unanswerable,
            invoke_seconds_total=self._invoke.seconds,
            queue_seconds_total=self._queue.seconds,
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


def _subtract(counts: _Counts, before: _Counts) -> _Added:
    errors = {
        code: count - before.errors.get(code, 0)
        for code, count in counts.errors.items()
        if count > before.errors.get(code, 0)
    }
    return _Added(
        counts.requests - before.requests, errors, counts.unanswerable - before.unanswerable
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
    """Return the mean and the maximum time of a period's requests, in milliseconds.

    A value that the agent does not report is None.
    """
    if not isinstance(value, dict):
        return None, None
    return read_number(value.get("mean")), read_number(value.get("max"))


def _period_rate(value: Any, period_s: float) -> float | None:
    """Return the requests per second in one period; None: unknown.

    Args:
        value: The times of the period's requests and their number (``count``), as received.
        period_s: Length of the period, in seconds.
    """
    count = read_count(value.get("count")) if isinstance(value, dict) else None
    if value is None:
        count = 0
    return None if count is None or period_s <= 0 else count / period_s


def _spent_ms(
    total_ms: float | None, before_ms: float | None, mean_ms: float | None, requests: int
) -> float:
    """Return the total time of a period's requests, in milliseconds.

    The result is the difference of the reported totals. If the agent does not report totals, the
    result is the mean time multiplied by the number of requests.
    """
    if total_ms is not None and before_ms is not None and total_ms >= before_ms:
        return total_ms - before_ms
    return (mean_ms or 0.0) * requests
