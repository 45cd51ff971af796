"""Predict the time of any stage on a board from timed slices of the model on this board.

A slice is a range of operators that the board runs as a separate model. The inference time of a
stage is assumed to be linear:

    invoke = fixed + per_byte * (in_bytes + out_bytes) + sum of the times of the stage's operators

The slices have several sizes, because a small slice stays in caches that are too small for a whole
stage. The ends of all slices divide the model into sections of operators. The unknowns are a time
for each section, the fixed time and the time per byte. The fit minimizes the squared relative
errors of the slices' times. No unknown may be negative. The weight of a slice is its number of
sections, so the fit is best for large slices, which are about as large as stages. The time of a
section is divided among its operators in proportion to their estimated work.

If the board has timed a whole stage, the measured time replaces the fitted time. If the board has
timed this stage several times, the median of the measured times replaces the fitted time.
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
    """The time of a slice: the operators ``[start, stop)``, run as a separate model.

    Attributes:
        start: Index of the first operator.
        stop: Index of the last operator, plus 1.
        invoke_ms: Median time of one inference, in milliseconds.
    """

    start: int
    stop: int
    invoke_ms: float


@dataclass(frozen=True)
class StageTimes:
    """Inference times of all stages of one model on one board.

    Attributes:
        before_ns: ``(n + 1,)`` for a model of ``n`` operators. Item ``i`` is the total time of the
            operators before operator ``i``, in nanoseconds. Item ``n`` is the total time of all
            operators.
        fixed_ns: Fixed time of each inference, in nanoseconds.
        ns_per_byte: Time for each byte of a stage's inputs and outputs, in nanoseconds.
        timed_ns: Measured times of whole stages: pairs of ``(start, stop)`` and nanoseconds.
    """

    before_ns: tuple[int, ...]
    fixed_ns: int
    ns_per_byte: float
    timed_ns: tuple[tuple[tuple[int, int], int], ...] = ()

    def invoke_ns(self, start: int, stop: int, crossing_bytes: int) -> int:
        """Return the time of one inference of stage ``[start, stop)``, in nanoseconds.

        Args:
            start: Index of the stage's first operator.
            stop: Index of the stage's last operator, plus 1.
            crossing_bytes: Total size of the stage's inputs and outputs, in bytes.
        """
        return int(self.table_ns([start], [stop], crossing_bytes)[0, 0])

    def table_ns(
        self, starts: Sequence[int] | IntArray, stops: Sequence[int] | IntArray, crossing_bytes: Any
    ) -> IntArray:
        """Return the inference time of the stage from each start to each stop, in nanoseconds.

        Args:
            starts: ``(m,)``, index of the first operator of each stage.
            stops: ``(n,)``, index of the last operator of each stage, plus 1.
            crossing_bytes: ``(m, n)``, total size of each stage's inputs and outputs, in bytes. Or
                one number for all stages.

        Returns:
            ``(m, n)``, one row for each start and one column for each stop.
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
    """Return the inference times of all stages of a model, fitted to the times of slices.

    The module's docstring describes the fit. The model has ``n`` operators.

    Args:
        slices: The timed slices. Together they contain every operator.
        work: ``(n,)``, estimated work of each operator, in any unit.
        boundary_bytes: ``(n + 1,)``. Item ``i`` is the total size of the tensors that a stage
            receives if its first operator is operator ``i``, in bytes. Item ``n`` is the total size
            of the model's outputs.

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
        raise ValueError(
            f"No timed slice contains operator {ends[uncovered[0]]}; expected slices that together "
            "contain every operator."
        )
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
    """Return the median time of each timed slice, in milliseconds, by ``(start, stop)``."""
    times_ms: dict[tuple[int, int], list[float]] = {}
    for item in slices:
        times_ms.setdefault((item.start, item.stop), []).append(item.invoke_ms)
    return {stage: statistics.median(several) for stage, several in times_ms.items()}
