"""The slices of a model that a board times, as data for fitting the time of any stage."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import MAX_DISPLACED_BYTES
from edge_partition.planning.cost_model import operator_work_macs

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph

#: Numbers of parts of equal work, by level. Small parts show the times of single operators, large
#: parts the times of stages on two to four boards. Each level sends the whole model once.
_LEVELS = (24, 4, 2, 1)
#: Least work of a slice: about 0.2 ms on a Raspberry Pi 4. Shorter times cannot be measured well.
_LEAST_WORK_MACS = 2_000_000

#: More than the caches of a board, and equal to the caches of a desktop. With this minimum, three
#: stages of MobileNetV3Large took within 5 % of their times with 20 ms between runs; without the
#: minimum, 12 to 48 % less (x86-64, 32 MB of cache).
_LEAST_DISPLACED_BYTES = 32 << 20


def choose_slices(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Return operator ranges ``[start, stop)`` in levels, the level of the smallest first.

    Each level covers all operators. The ends of the slices are the model's cuts nearest to parts of
    equal estimated work.
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
    """Return the number of bytes that a board reads between the runs of a slice.

    The number is the size of the other weights of a stage of half the model around the slice.
    Reading these weights displaces the slice from the caches, as the rest of the stage does. The
    minimum stands for messages and other work between inferences, which also displace a stage.
    """
    work = np.cumsum([0, *operator_work_macs(graph)])
    half = work[-1] / 2
    begin = float(np.clip((work[start] + work[stop]) / 2 - half / 2, 0, half))
    first = int(np.searchsorted(work, begin, "right")) - 1
    last = int(np.searchsorted(work, begin + half, "left"))
    around = graph.weight_bytes(min(first, start), max(last, stop))
    rest_bytes = around - graph.weight_bytes(start, stop)
    return min(MAX_DISPLACED_BYTES, max(_LEAST_DISPLACED_BYTES, rest_bytes))
