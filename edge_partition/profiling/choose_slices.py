"""Which slices of a model a board times, so that the time of any stage follows from them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from edge_core.contract.messages import MAX_DISPLACED_BYTES
from edge_partition.planning.cost_model import operator_work_macs

if TYPE_CHECKING:
    from edge_partition.tflite.graph import Graph

#: Parts of equal work, level by level: small ones tell where the time goes, large ones what a
#: stage of two to four boards really takes. Each level sends the whole model once.
_LEVELS = (24, 4, 2, 1)
#: Some 0.2 ms of a Raspberry Pi 4: less can't be timed well.
_LEAST_WORK_MACS = 2_000_000

#: More than a board's caches hold, and as much as a desktop's: three stages of MobileNetV3Large
#: took within 5 % of what they took with 20 ms between runs; without, 12 to 48 % less (x86-64,
#: 32 MB of cache).
_LEAST_DISPLACED_BYTES = 32 << 20


def choose_slices(graph: Graph) -> tuple[tuple[int, int], ...]:
    """Return operator ranges ``[start, stop)``, the small ones first; each level covers them all.

    The slices' ends are the model's cuts that come nearest to parts of equal estimated work.
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
    """Return how many bytes a board is to read between a slice's runs.

    The rest of a stage for two boards reads its weights. Where that is little, messages and
    whatever else the board does still come between a stage's inferences, and leave less of it in
    the caches than running again at once would.
    """
    work = np.cumsum([0, *operator_work_macs(graph)])
    half = work[-1] / 2
    begin = float(np.clip((work[start] + work[stop]) / 2 - half / 2, 0, half))
    first = int(np.searchsorted(work, begin, "right")) - 1
    last = int(np.searchsorted(work, begin + half, "left"))
    around = graph.weight_bytes(min(first, start), max(last, stop))
    rest_bytes = around - graph.weight_bytes(start, stop)
    return min(MAX_DISPLACED_BYTES, max(_LEAST_DISPLACED_BYTES, rest_bytes))
