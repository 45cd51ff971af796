"""From a Keras application to its parts; docs/models.md has all applications at full size."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_core.contract.manifest import TensorSpec
from edge_core.runtime.stage_interpreter import StageInterpreter
from edge_partition.model.load_model import load_model
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.slice_model import slice_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_partition.tflite.graph import Graph, Tensor

#: Applications, with the offset and the divisor of their ``preprocess_input``.
_AS_THEY_ARE, _AROUND_ZERO = (0.0, 1.0), (127.5, 127.5)


def picture(seed: int, size_px: int) -> np.ndarray:
    """Coloured blocks from 0 to 255: plain noise averages out with any seed."""
    generator = np.random.default_rng(seed)
    blocks = [generator.uniform(0, 127.5, (cells, cells, 3)) for cells in (4, size_px)]
    return sum(
        np.repeat(np.repeat(block, size_px // len(block), axis=0), size_px // len(block), axis=1)
        for block in blocks
    )


def run(
    model: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor], payloads: list[bytes]
) -> list[bytes]:
    ends = (
        [TensorSpec(tensor.name, tensor.dtype, tensor.shape) for tensor in end]
        for end in (inputs, outputs)
    )
    interpreter = StageInterpreter(model, *ends, num_threads=1)
    return [interpreter.invoke(payload) for payload in payloads]


def planned_cuts(graph: Graph, parts: int) -> list[int]:
    plan = plan_split(graph, equal_fleet(parts), stages=parts)
    return [stage.stop for stage in plan.stages[:-1]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size_px", "pixels", "wrapped"),
    [
        ("MobileNetV3Small", 96, _AS_THEY_ARE, 18),
        ("MobileNetV3Large", 96, _AS_THEY_ARE, 16),
        ("ConvNeXtTiny", 64, _AS_THEY_ARE, 18),
        ("NASNetMobile", 64, _AROUND_ZERO, 0),
        ("EfficientNetV2B0", 64, _AS_THEY_ARE, 0),
        ("DenseNet121", 64, _AROUND_ZERO, 0),
    ],
)
def test_an_application_split_in_2_4_and_8_gives_the_whole_models_bits(
    name: str, size_px: int, pixels: tuple[float, float], wrapped: int
) -> None:
    loaded = load_model(name, weights="seeded", input_shapes={"": (size_px, size_px, 3)})
    model, graph = loaded.tflite, loaded.tflite.graph
    assert len(loaded.wrapped) == wrapped
    offset, divisor = pixels
    payloads = [
        ((picture(seed, size_px) - offset) / divisor).astype("<f4").tobytes() for seed in range(2)
    ]
    ends = graph.boundary(0), graph.boundary(len(graph.operators))
    wholes = run(bytes(model.data), *ends, payloads)
    scores = [np.frombuffer(whole, "<f4") for whole in wholes]
    # The comparison can fail: classes differ, and every class differs between pictures.
    assert np.unique(scores[0]).size > 500
    assert np.mean(scores[0] != scores[1]) > 0.9
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    # One more cut for each number of tensors that cross a boundary.
    widths = sorted({len(graph.boundary(cut)): cut for cut in graph.cuts}.values())
    for cuts in (*(planned_cuts(graph, parts) for parts in (2, 4, 8)), widths):
        passed = payloads
        for start, stop in pairwise([0, *cuts, len(graph.operators)]):
            part = slice_model(model, start, stop)
            passed = run(part, graph.boundary(start), graph.boundary(stop), passed)
        assert passed == wholes, cuts
