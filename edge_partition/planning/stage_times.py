"""Timed slices of a model on a board -> the time of any stage on that board.

The model of a stage's inference time is linear:

    invoke = fixed + per_byte * (in_bytes + out_bytes) + sum of the stage's operators

The slices have several sizes, because a small slice alone stays in caches that are too small for a
whole stage. The unknowns are one time for each run of operators between neighbouring ends of
slices, the fixed time and the time per byte. No unknown may be negative. The unknowns are fitted to
the slices by least squares of the relative errors. The weight of a slice is its number of runs of
operators, so that large slices count most: stages are as large as the largest slices. Within a run,
the operators share the time in proportion to their estimated work.

For a stage that a board has timed, the measured time replaces the fit: the median, if the stage was
timed several times.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from edge_partition.planning.least_squares import fit_relative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    IntArray: TypeAlias = NDArray[np.int64]

_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class TimedSlice:
    """Operators ``[start, stop)`` as a separate model, and the median time of one inference."""

    start: int
    stop: int
    invoke_ms: float


@dataclass(frozen=True)
class StageTimes:
    """Inference times of all stages of one model on one board.

    Attributes:
        before_ns: ``(n + 1,)``, time of the operators before each position, in nanoseconds.
        fixed_ns: Fixed time of each inference, in nanoseconds.
        ns_per_byte: Time per byte of a stage's inputs and outputs, in nanoseconds.
        timed_ns: Measured times of single stages: pairs of ``(start, stop)`` and nanoseconds.
    """

    before_ns: tuple[int, ...]
    fixed_ns: int
    ns_per_byte: float
    timed_ns: tuple[tuple[tuple[int, int], int], ...] = ()

    def invoke_ns(self, start: int, stop: int, crossing_bytes: int) -> int:
        """Return the time of stage ``[start, stop)``, in nanoseconds.

        Args:
            start: First operator of the stage.
            stop: Position after the stage's last operator.
            crossing_bytes: Bytes of the stage's inputs and outputs.
        """
        return int(self.table_ns([start], [stop], crossing_bytes)[0, 0])

    def table_ns(
        self, starts: Sequence[int] | IntArray, stops: Sequence[int] | IntArray, crossing_bytes: Any
    ) -> IntArray:
        """Return the time of the stage from each start to each stop, ``(m, n)`` nanoseconds.

        Args:
            starts: ``(m,)``, first operators of the stages.
            stops: ``(n,)``, positions after the stages' last operators.
            crossing_bytes: Bytes of the stages' inputs and outputs: ``(m, n)`` or a number.
        """
        before_ns = np.array(self.before_ns, np.int64)
        copied_ns = np.rint(self.ns_per_byte * crossing_bytes).astype(np.int64)
        runs_ns = before_ns[np.asarray(stops)] - before_ns[np.asarray(starts)][:, None]
        result: IntArray = runs_ns + (self.fixed_ns + copied_ns)
        row = {int(start): index for index, start in enumerate(starts)}
        column = {int(stop): index for index, stop in enumerate(stops)}
        for (start, stop), stage_ns in self.timed_ns:
            if start in row and stop in column:
                result[row[start], column[stop]] = stage_ns
        return result


def fit_stage_times(
    slices: Sequence[TimedSlice], work: Sequence[int], boundary_bytes: Sequence[int]
) -> StageTimes:
    """Return the times that fit the timed slices best; see the module's docstring.

    Args:
        slices: The timed slices. Together they cover every operator.
        work: ``(n,)``, estimated work of each operator, in any unit.
        boundary_bytes: ``(n + 1,)``, bytes that cross each position.

    Raises:
        ValueError: An operator is in no slice.
    """
    count = len(work)
    ends = sorted({0, count} | {end for item in slices for end in (item.start, item.stop)})
    column = {position: index for index, position in enumerate(ends)}
    runs = len(ends) - 1
    terms = np.zeros((len(slices), runs + 2))
    for row, item in enumerate(slices):
        terms[row, column[item.start] : column[item.stop]] = 1
        terms[row, runs] = 1
        terms[row, runs + 1] = boundary_bytes[item.start] + boundary_bytes[item.stop]
    uncovered = np.flatnonzero(~terms[:, :runs].any(axis=0))
    if len(uncovered):
        raise ValueError(f"no slice covers operator {ends[uncovered[0]]}")
    times_ns = np.array([item.invoke_ms * _NS_PER_MS for item in slices])
    solution = fit_relative(terms, times_ns, terms[:, :runs].sum(axis=1))

    operator_ns = np.zeros(count)
    for start, stop, run_ns in zip(ends, ends[1:], solution, strict=False):
        shares = np.array(work[start:stop], float)
        operator_ns[start:stop] = run_ns * shares / shares.sum()
    before_ns = np.rint(np.cumsum([0, *operator_ns])).astype(np.int64)
    return StageTimes(
        tuple(before_ns.tolist()),
        round(solution[runs]),
        float(solution[runs + 1]),
        tuple(
            (stage, round(stage_ms * _NS_PER_MS))
            for stage, stage_ms in sorted(median_times_ms(slices).items())
        ),
    )


def median_times_ms(slices: Sequence[TimedSlice]) -> dict[tuple[int, int], float]:
    """Return the median time of each timed ``(start, stop)``, in milliseconds."""
    times_ms: dict[tuple[int, int], list[float]] = {}
    for item in slices:
        times_ms.setdefault((item.start, item.stop), []).append(item.invoke_ms)
    return {stage: statistics.median(several) for stage, several in times_ms.items()}
