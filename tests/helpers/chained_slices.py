"""Running a whole model, and a chain of its slices."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from edge_core.contract.manifest import TensorSpec
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.graph import Tensor
    from edge_partition.tflite.read_tflite import TfliteModel


def specs(tensors: Sequence[Tensor]) -> list[TensorSpec]:
    return [TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in tensors]


def run_whole(model: TfliteModel, payload: bytes) -> bytes:
    graph = model.graph
    ends = graph.boundary(0), graph.boundary(len(graph.operators))
    whole = StageInterpreter(bytes(model.data), specs(ends[0]), specs(ends[1]), num_threads=1)
    return whole.invoke(payload)


def run_chained(model: TfliteModel, cuts: Sequence[int], payload: bytes) -> bytes:
    """Run the slices between ``cuts`` one after another, from ``payload``."""
    graph = model.graph
    positions = [0, *cuts, len(graph.operators)]
    for start, stop in pairwise(positions):
        stage = StageInterpreter(
            slice_model(model, start, stop),
            specs(graph.boundary(start)),
            specs(graph.boundary(stop)),
            num_threads=1,
        )
        payload = stage.invoke(payload)
    return payload
