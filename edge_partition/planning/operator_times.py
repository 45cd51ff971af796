"""Divide the inference time of a stage among the stage's operators.

Some parts of a stage's time belong to no single operator: the fixed time of each inference and the
time to copy inputs and outputs. Each operator gets a part of these times in proportion to its own
time, so the operators' times add up to the stage's time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from edge_partition.planning.cost_model import invoke_ms, operator_work_macs

if TYPE_CHECKING:
    from edge_partition.planning.fleet import Device
    from edge_partition.tflite.graph import Graph


def operator_times_ms(
    graph: Graph, device: Device, start: int, stop: int, stage_ms: float
) -> list[float]:
    """Return the time of each operator of stage ``[start, stop)``, in milliseconds.

    The stage's time is divided in proportion to the operators' own times. The own times come from
    the board's measured times of the model. For a board without measured times, the cost model
    estimates the own times.

    Args:
        graph: The model.
        device: The board.
        start: Index of the stage's first operator.
        stop: Index of the stage's last operator, plus 1.
        stage_ms: Time of one inference of the stage on the board, in milliseconds. The returned
            times add up to this time.
    """
    shares = _own_times(graph, device, start, stop)
    if not sum(shares):
        # The fit to measured times may give all of the time to the fixed part, and 0 to operators.
        shares = [float(work) for work in operator_work_macs(graph)[start:stop]]
    scale = stage_ms / sum(shares)
    return [share * scale for share in shares]


def _own_times(graph: Graph, device: Device, start: int, stop: int) -> list[float]:
    if device.stage_times is None:
        return [invoke_ms(graph, device, index, index + 1) for index in range(start, stop)]
    before_ns = device.stage_times.before_ns[start : stop + 1]
    return [float(after - before) for before, after in pairwise(before_ns)]
