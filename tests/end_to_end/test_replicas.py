"""A stage on several boards: requests in turn, exact results in order, one board may fail."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from desk import BOARDS, bundle_of, wait_until

from edge_core.contract.tensors import encode_tensors
from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.verify_bundle import verify_bundle
from edge_partition.client.pipeline import Pipeline
from edge_partition.planning.fleet import Device
from edge_partition.planning.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle
    from edge_partition.model.load_model import LoadedTflite

    Images = list[dict[str, np.ndarray]]


@pytest.fixture
def replicated(digits_model: LoadedTflite, tmp_path: Path) -> Bundle:
    """A bundle with the first stage on two boards and the second on the third."""
    graph = digits_model.tflite.graph
    first, second, third = (Device(name) for name in BOARDS)
    cut, end = graph.cuts[len(graph.cuts) // 2], len(graph.operators)
    plan = Plan.of(graph, [((first, second), 0, cut), ((third,), cut, end)])
    return bundle_of(digits_model, plan, tmp_path / "build")


@pytest.mark.parametrize("desk", ["mosquitto", "embedded"], indirect=True)
def test_replicas_take_turns_and_answers_are_exact_and_in_order(
    three_boards: Desk, replicated: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    assert [stage.devices for stage in replicated.manifest.stages] == [BOARDS[:2], BOARDS[2:]]
    assert verify_bundle(replicated, count=2).exact
    with Deployer(three_boards.url) as deployer:
        loaded = deployer.deploy(replicated)
    assert [(stage.stage, stage.device, stage.max_difference) for stage in loaded] == [
        (0, "board-0", 0),
        (0, "board-1", 0),
        (1, "board-2", 0),
    ]
    with Pipeline("digits", three_boards.url) as pipeline:
        results = list(pipeline.stream(images))
        outputs = pipeline.manifest.outputs
    assert [encode_tensors(outputs, result.outputs) for result in results] == whole_outputs
    served = [result.trace[0].device for result in results]
    for board in BOARDS[:2]:
        assert served.count(board) >= len(images) // 3


def test_one_of_two_replicas_may_die_in_the_middle_of_a_stream(
    three_boards: Desk, replicated: Bundle, images: Images, whole_outputs: list[bytes]
) -> None:
    with Deployer(three_boards.url) as deployer:
        deployer.deploy(replicated)
    killer = threading.Thread(target=three_boards.kill_agent, args=("board-1",))

    def feed() -> Iterator[dict[str, np.ndarray]]:
        for position, image in enumerate(images):
            if position == len(images) // 3:
                killer.start()
            yield image

    with Pipeline("digits", three_boards.url, timeout_s=60) as pipeline:
        outputs = pipeline.manifest.outputs
        answers = [encode_tensors(outputs, result.outputs) for result in pipeline.stream(feed())]
        assert answers == whole_outputs
        wait_until(lambda: not three_boards.is_online("board-1"), "board-1 offline")
        (result,) = pipeline.stream(images[:1])
    killer.join()
    assert result.trace[0].device == "board-0"
