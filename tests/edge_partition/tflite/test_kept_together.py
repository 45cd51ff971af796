from __future__ import annotations

from typing import TYPE_CHECKING

from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from tflite_models import FlatModel, chain_of_adds, stateful

from edge_partition.cli import app
from edge_partition.planning.fleet import equal_fleet
from edge_partition.planning.plan_split import plan_split
from edge_partition.tflite.kept_together import find_kept_together
from edge_partition.tflite.read_tflite import read_tflite

if TYPE_CHECKING:
    from pathlib import Path


def lines(data: bytes) -> list[str]:
    return [str(item) for item in find_kept_together(read_tflite(data))]


def test_a_model_that_can_be_cut_anywhere_keeps_nothing_together() -> None:
    assert lines(chain_of_adds()) == []


def test_operators_that_share_a_variable_are_named_with_it() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    state = flat.tensor("state", variable=True)
    last = flat.add(flat.add(flat.add(x, state, "first"), x, "second"), state, "third")
    assert lines(flat.to_bytes([x], [flat.add(last, x, "last")])) == [
        "Operators 0-2 stay together: they share the variable state."
    ]


def test_a_resource_that_cannot_be_sent_is_named() -> None:
    (line,) = lines(stateful())
    reason = "the tensor handle cannot be sent between boards (type resource)"
    assert line == f"Operators 1-3 stay together: {reason}."


def test_a_tensor_without_a_fixed_shape_is_named() -> None:
    flat = FlatModel()
    x = flat.tensor("x")
    loose = flat.tensor("loose", (4, 1), signature=(4, -1))
    flat.operator("EXPAND_DIMS", [x, x], [loose])
    squeezed = flat.tensor("squeezed")
    flat.operator("SQUEEZE", [loose], [squeezed], schema.SqueezeOptionsT())
    assert lines(flat.to_bytes([x], [flat.add(squeezed, x, "last")])) == [
        "Operators 0-1 stay together: the tensor loose has no fixed shape."
    ]


def test_a_stateful_model_is_split_around_its_state_with_a_note(tmp_path: Path) -> None:
    model, build = tmp_path / "stateful.tflite", tmp_path / "build"
    model.write_bytes(stateful())

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert "Operators 1-3 stay together: the tensor handle cannot" in run(
        "split", model, "--stages", 3, "-o", build
    )
    assert [
        (stage.board_names, stage.start, stage.stop)
        for stage in plan_split(read_tflite(model).graph, equal_fleet(3), stages=3).stages
    ] == [("board-0", 0, 1), ("board-1", 1, 4), ("board-2", 4, 5)]
    assert "8/8 identical: the whole model and its 3 parts" in run("verify", build)
