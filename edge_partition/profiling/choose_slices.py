"""Choose the slices of a model that a board times. A slice is a range of operators.

The planner computes the time of any stage from the times of the slices, by a fit.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import MAX_DISPLACED_BYTES
from edge_partition.planning.cost_model import operator_work_macs

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph

#: Number of slices in each level; the slices of a level have about equal work. Small slices show
#: the times of single operators, large slices the times of stages on two to four boards. The slices
#: of each level together are the whole model, which is sent to the board once for each level.
_LEVELS = (24, 4, 2, 1)
#: Least mean work of a level's slices: about 0.2 ms on a Raspberry Pi 4. Shorter times cannot be
#: measured well.
_LEAST_WORK_MACS = 2_000_000

#: Least number of bytes to read between runs: more than the caches of a board, and as much as the
#: caches of a desktop. The measured times of three stages of MobileNetV3Large were within 5 % of
#: their times in runs 20 ms apart. Without the minimum, the measured times were 12 to 48 % lower
#: (x86-64, 32 MB of cache).
_LEAST_DISPLACED_BYTES = 32 << 20


def choose_slices(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Return the slices to time: operator ranges ``[start, stop)``, smallest slices first.

    The slices come in levels. Each level divides all operators into a given number of slices. The
    slices start and end at cuts of the model, which are chosen so that all slices of a level have
    about equal work.
    """
    ends = np.array([0, *graph.cuts, len(graph.operators)])
    work = np.cumsum([0, *operator_work_macs(graph)])
    slices: dict[tuple[int, int], None] = {}
    for parts in _LEVELS:
        count = max(1, min(parts, int(work[-1]) // _LEAST_WORK_MACS))
        wanted = np.linspace(0, work[-1], count + 1)
        nearest = np.abs(work[ends][:, None] - wanted).argmin(axis=0)
        level = sorted({0, len(graph.operators), *(int(ends[index]) for index in nearest)})
        slices.update(dict.fromkeys(pairwise(level)))
    return tuple(slices)


def displaced_bytes(graph: Graph, start: int, stop: int) -> int:
    """Return how many bytes a board reads between two timed runs of a slice.

    In a deployment, the slice is a part of a stage. The other operators of the stage displace the
    slice's weights from the processor's caches. In a measurement, the reading does this. The result
    is the size of the weights of these other operators. The stage is assumed to surround the slice
    and to have half of the model's work. The result has a lower bound, because messages and other
    work between inferences also displace weights from the caches.
    """
    work = np.cumsum([0, *operator_work_macs(graph)])
    half = work[-1] / 2
    begin = float(np.clip((work[start] + work[stop]) / 2 - half / 2, 0, half))
    first = int(np.searchsorted(work, begin, "right")) - 1
    last = int(np.searchsorted(work, begin + half, "left"))
    around = graph.weight_bytes(min(first, start), max(last, stop))
    rest_bytes = around - graph.weight_bytes(start, stop)
    return min(MAX_DISPLACED_BYTES, max(_LEAST_DISPLACED_BYTES, rest_bytes))
