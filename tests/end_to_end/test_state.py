"""Models that keep state on three boards: exact results or a clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import state_models
from ai_edge_litert.interpreter import Interpreter
from desk import BOARDS

from edge_partition.boards.deploy_bundle import Deployer
from edge_partition.bundles.write_bundle import write_bundle
from edge_partition.client.errors import RequestError
from edge_partition.client.pipeline import Pipeline
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from desk import Desk

    from edge_partition.bundles.bundle import Bundle

COUNT = 100


def deploy(desk: Desk, data: bytes, *, state: str) -> Bundle:
    """Put the first two operators on one board each, and the rest on the third board."""
    model = read_tflite(data)
    bundle = write_bundle(
        desk.folder / f"build-{state}",
        model,
        plan_split(model.graph, equal_fleet(len(BOARDS)), cuts=[1, 2]),
        name="Stateful",
        deployment="stateful",
        quantization="as-given",
        weights="trained",
        state=state,
    )
    assert [stage.devices for stage in bundle.manifest.stages] == [(name,) for name in BOARDS]
    with Deployer(desk.url) as deployer:
        loaded = deployer.deploy(bundle)
    assert [stage.max_difference for stage in loaded] == [0, 0, 0]
    return bundle


def inputs(data: bytes) -> list[np.ndarray]:
    (index,) = read_tflite(data).graph.inputs
    shape = read_tflite(data).graph.tensors[index].shape
    random = np.random.default_rng(1)
    return [random.normal(size=shape).astype(np.float32) for _ in range(COUNT)]


def run(data: bytes, arrays: list[np.ndarray], *, anew: bool) -> list[bytes]:
    answers, interpreter = [], None
    for array in arrays:
        if anew or interpreter is None:
            interpreter = Interpreter(model_content=data)
            interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array)
        interpreter.invoke()
        made = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        answers.append(made.tobytes())
    return answers


def test_a_hundred_requests_equal_fresh_interpreters_or_one_fed_in_order(
    three_boards: Desk,
) -> None:
    for data in (state_models.chain(), state_models.fused_lstms()):
        arrays = inputs(data)
        expected = {"reset": run(data, arrays, anew=True), "keep": run(data, arrays, anew=False)}
        # A state that leaks or is lost therefore changes every answer except the first.
        assert all(
            one != other
            for one, other in zip(expected["reset"][1:], expected["keep"][1:], strict=True)
        )
        for state, answers in expected.items():
            deploy(three_boards, data, state=state)
            for _ in range(2):  # The second client finds nothing of the first.
                with Pipeline("stateful", three_boards.url) as pipeline:
                    found = [array.tobytes() for array in pipeline.map(arrays)]
                assert found == answers


def test_kept_state_that_a_board_lost_is_an_error_and_never_a_wrong_result(
    three_boards: Desk,
) -> None:
    data = state_models.chain()
    arrays = inputs(data)
    answers = run(data, arrays, anew=False)
    deploy(three_boards, data, state="keep")
    with Pipeline("stateful", three_boards.url) as pipeline:
        assert [array.tobytes() for array in pipeline.map(arrays[:20])] == answers[:20]
        three_boards.kill_agent("board-2")
        three_boards.start_agent("board-2")
        for _ in range(2):
            with pytest.raises(RequestError, match=r"board-2 got request .* new pipeline") as lost:
                pipeline.infer(arrays[20])
            assert lost.value.code == "state-lost"
        # When another client takes the state, this client gets an error.
        with Pipeline("stateful", three_boards.url) as anew:
            assert [array.tobytes() for array in anew.map(arrays)] == answers
        with pytest.raises(RequestError, match="one client at a time") as taken:
            pipeline.infer(arrays[20])
        assert taken.value.code == "state-taken"


def test_kept_state_survives_a_broker_that_restarts_in_the_middle(three_boards: Desk) -> None:
    data = state_models.fused_lstms()
    arrays = inputs(data)
    answers = run(data, arrays, anew=False)
    deploy(three_boards, data, state="keep")
    found = []
    with Pipeline("stateful", three_boards.url) as pipeline:
        for number, array in enumerate(pipeline.map(arrays)):
            found.append(array.tobytes())
            if number == COUNT // 2:
                three_boards.broker.restart()
    assert found == answers
