"""The option ``--wire`` of ``plan`` and ``split``, and its cost in ``verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tflite_models import chain_of_adds

from edge_partition.cli import app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "chain.tflite"
    path.write_bytes(chain_of_adds())
    return path


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.stdout.split())


def test_a_plan_counts_the_bytes_of_its_wire(model: Path) -> None:
    plans = {
        wire: json.loads(run("plan", model, "--stages", 2, "--cut", "second", *options, "--json"))
        for wire, options in (("float32", ()), ("float16", ("--wire", "float16")))
    }
    assert {wire: plan["wires"] for wire, plan in plans.items()} == {
        "float32": ["float32"], "float16": ["float16"],
    }  # fmt: skip
    # second, which the first board makes, in half; x, an input of the model, as it is.
    crossing = {wire: plan["stages"][1]["in_bytes"] for wire, plan in plans.items()}
    assert crossing == {"float32": 16 + 16, "float16": 16 + 8}


def test_the_wire_is_shown_above_the_plan_and_in_its_picture(model: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    shown = run("split", model, "--stages", 2, "--wire", "float16", "-o", build)
    assert "over 2 boards, best throughput: " in shown
    assert "Activations travel as float16 between all stages." in shown
    assert "float16 (f16) at all cuts" in (build / "plan.svg").read_text()
    assert "float16" not in run("split", model, "--stages", 2, "-o", tmp_path / "other")


def test_verify_reports_the_cost_of_the_wire_and_exits_with_0(model: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    run("split", model, "--cut", "second", "--wire", "float16", "-o", build)
    shown = run("verify", build)
    assert "8/8 identical: the whole model and its 2 parts without rounding between them" in shown
    assert "With float16 between the parts, 24 bytes per request instead of 32" in shown
    assert "have the same best class" in shown
    document = json.loads(run("verify", build, "--json"))
    assert document["exact"] is True
    assert document["wire"]["max_difference"] > 0
