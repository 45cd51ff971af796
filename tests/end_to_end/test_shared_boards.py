"""A board that serves two stages of one deployment, with another board's stage between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from desk import BOARDS, bundle_of

from edge_core.contract.tensors import encode_tensors
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.bundle import read_bundle
from edge_partition.bundles.verify_bundle import verify_bundle
from edge_partition.client.pipeline import Pipeline
from edge_partition.pictures.draw_plan import draw_plan
from edge_partition.planning.fleet import Device
from edge_partition.planning.plan import Plan
from edge_partition.planning.plan_document import plan_document
from edge_partition.planning.read_plan import read_plan

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_partition.model.load_model import LoadedTflite


def test_a_board_serves_both_ends_of_a_model_with_exact_answers(
    three_boards: Desk,
    digits_model: LoadedTflite,
    tmp_path: Path,
    images: list[dict[str, np.ndarray]],
    whole_outputs: list[bytes],
) -> None:
    graph = digits_model.tflite.graph
    ends, middle, _ = (Device(name) for name in BOARDS)
    first, last, stop = graph.cuts[0], graph.cuts[-1], len(graph.operators)
    placements = [((ends,), 0, first), ((middle,), first, last), ((ends,), last, stop)]
    plan = Plan.of(graph, placements)
    assert plan.boards == 2
    assert draw_plan(plan).count("board-0") >= 2
    times = read_plan(plan_document(plan))
    assert [stage[0].device for stage in times.stages] == ["board-0", "board-1", "board-0"]

    bundle = read_bundle(bundle_of(digits_model, plan, tmp_path / "build").path)
    assert bundle.manifest.boards == 2
    assert [stage.index for stage in bundle.manifest.stages_of("board-0")] == [0, 2]
    assert verify_bundle(bundle, count=2).exact
    with Deployer(three_boards.url) as deployer:
        loaded = deployer.deploy(bundle)
    assert [(stage.stage, stage.device, stage.max_difference) for stage in loaded] == [
        (0, "board-0", 0),
        (1, "board-1", 0),
        (2, "board-0", 0),
    ]
    with Pipeline("digits", three_boards.url) as pipeline:
        results = list(pipeline.stream(images))
        outputs = pipeline.manifest.outputs
    assert [encode_tensors(outputs, result.outputs) for result in results] == whole_outputs
    assert {tuple(span.device for span in result.trace) for result in results} == {
        ("board-0", "board-1", "board-0")
    }
